"""The variants that ``data.py`` compares, each in its own process: ``python benchmarks/data_variants.py NAME JSON``.

All read the same folder of text files of about a megabyte, a document each, with the same merges; the last line of the
output says the seconds and the tokens. The plain writer's pool and Ray are started before the clock starts.
``datasets.map`` starts its processes in the time, as every call of it does, but has loaded the texts before.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

NUM_PROCESSES = 2
Values = dict[str, Any]


def ours(values: Values) -> Values:
    """Our preparation; ``cold``: seconds from the beginning of the process to the end of a first, tiny one."""
    from pipeline import config as configuration
    from pipeline.cluster.prepare import prepare
    from pipeline.cluster.session import ray_session

    out = Path(values["out"])
    settings = {
        "corpus.train": [values["texts"]],
        "corpus.valid_fraction": 0.0,
        "tokenizer.eos": "document",
        "data.directory": str(out / "ours"),
        **({"tokenizer.path": values["merges"]} if values["merges"] else {"tokenizer.kind": "byte"}),
    }
    config = configuration.with_values(configuration.load(), settings)
    first = sorted(Path(values["texts"]).iterdir())[:NUM_PROCESSES]
    tiny = {"corpus.train": [str(path) for path in first], "data.directory": str(out / "tiny")}
    with ray_session(config.cluster):
        prepare(configuration.with_values(config, tiny))
        cold = time.time() - values["started"]
        start = time.perf_counter()
        corpus = prepare(config)
        seconds = time.perf_counter() - start
    tokens = corpus.splits["train"]
    return {"seconds": seconds, "cold": cold, "tokens": len(tokens) - sum(e["num_documents"] for e in tokens.entries)}


def plain_writer(values: Values) -> Values:
    """Two processes that read files, encode them and write the plain ids of each."""
    write = write_merged if values["merges"] else write_bytes
    tasks = [(str(path), values["merges"], values["out"]) for path in sorted(Path(values["texts"]).iterdir())]
    with multiprocessing.get_context("spawn").Pool(NUM_PROCESSES) as pool:
        pool.map(write, tasks[:NUM_PROCESSES], chunksize=1)
        start = time.perf_counter()
        tokens = sum(pool.imap_unordered(write, tasks))
        return {"seconds": time.perf_counter() - start, "tokens": tokens}


def write_bytes(task: tuple[str, str, str]) -> int:
    path, _, out = task
    ids = np.frombuffer(Path(path).read_bytes(), dtype=np.uint8).astype(np.uint16)
    ids.tofile(Path(out) / f"{Path(path).name}.bin")
    return len(ids)


def write_merged(task: tuple[str, str, str]) -> int:
    path, merges, out = task
    ids = np.array(engine(merges).encode(Path(path).read_text(encoding="utf-8")).ids, dtype=np.uint16)
    ids.tofile(Path(out) / f"{Path(path).name}.bin")
    return len(ids)


def datasets_map(values: Values) -> Values:
    """``datasets.map(batched=True, num_proc=2)`` of a dataset that is already loaded."""
    import datasets

    datasets.disable_progress_bars()
    files = [str(path) for path in sorted(Path(values["texts"]).iterdir())]
    dataset = datasets.load_dataset(
        "text", data_files=files, sample_by="document", split="train", cache_dir=str(Path(values["out"]) / "cache")
    )
    encode = Encoder(values["merges"])
    start = time.perf_counter()
    mapped = dataset.map(
        encode, batched=True, batch_size=16, num_proc=NUM_PROCESSES, remove_columns=["text"],
        features=datasets.Features({"ids": datasets.List(datasets.Value("uint16"))}),
    )  # fmt: skip
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "tokens": sum(len(chunk.values) for chunk in mapped.data.column("ids").chunks)}


class Encoder:
    """Texts of a batch → their ids, as a user of ``datasets`` would write it."""

    def __init__(self, merges: str) -> None:
        self.merges = merges

    def __call__(self, batch: dict[str, list[str]]) -> dict[str, list[Any]]:
        if not self.merges:
            return {"ids": [np.frombuffer(text.encode(), dtype=np.uint8).astype(np.uint16) for text in batch["text"]]}
        return {"ids": [found.ids for found in engine(self.merges).encode_batch_fast(batch["text"])]}


ENGINES: dict[str, Any] = {}


def engine(merges: str) -> Any:
    """Hugging Face's tokenizer from our ``tokenizer.json``, loaded once in a process."""
    from tokenizers import Tokenizer

    if merges not in ENGINES:
        ENGINES[merges] = Tokenizer.from_str(json.dumps(json.loads(Path(merges).read_bytes())["engine"]))
    return ENGINES[merges]


VARIANTS: dict[str, Callable[[Values], Values]] = {
    "ours": ours,
    "plain writer": plain_writer,
    "datasets.map": datasets_map,
}


def gather(folder: Path, num_bytes: int) -> None:
    """Fill ``folder`` with ``num_bytes`` of this machine's Python sources and documentation in files of a megabyte.

    If there is less, all of it comes again with its lines in reverse order.
    """
    folder.mkdir(parents=True)
    left, number, shelf = num_bytes, 0, bytearray()
    for text in texts():
        shelf += text[:left]
        left -= len(text[:left])
        if len(shelf) >= 1_000_000 or not left:
            (folder / f"{number:05d}.txt").write_bytes(shelf.decode(errors="ignore").encode())
            number, shelf = number + 1, bytearray()
        if not left:
            return


def texts() -> Iterable[bytes]:
    """Every text once, then altered, without end."""
    import sysconfig

    import xxhash

    paths = [
        path
        for name in ("stdlib", "purelib")
        for path in sorted(Path(sysconfig.get_path(name)).rglob("*"))
        if path.suffix in (".py", ".pyi", ".rst", ".md", ".txt") and path.is_file()
    ]
    for turn in range(1000):
        seen = set()
        for path in paths:
            data = path.read_bytes().replace(b"\r\n", b"\n").replace(b"\r", b"\n")
            digest = xxhash.xxh3_128_digest(data)
            try:
                data.decode()
            except UnicodeDecodeError:
                continue
            if digest not in seen and data:
                seen.add(digest)
                yield data if turn % 2 == 0 else b"\n".join(reversed(data.split(b"\n"))) + b"\n"


if __name__ == "__main__":
    print(json.dumps(VARIANTS[sys.argv[1]](json.loads(sys.argv[2]))))

"""The data side compared with others, row by row of the table: ``python benchmarks/data.py bpe bytes memory reading``.

``bpe``, ``bytes``: a corpus made into shards by two processes, in turns with ``datasets.map`` and a plain writer
(``data_variants.py``). ``memory``: the peak of the whole tree of processes, shared pages counted once (PSS), at two
sizes. ``reading``: windows, resuming, opening and bytes on disk. The corpus is gathered from this machine into
``--folder`` and kept there. Letters: T time, B streams.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from data_variants import VARIANTS, gather

from pipeline.config import TokenizerConfig
from pipeline.data.shards import open_prepared, write_manifest, write_shard
from pipeline.data.streams import Streams
from pipeline.data.tokenizer import train_tokenizer

BATCH_SIZE, BPTT = 64, 128  # windows of 129 tokens: the inputs, and the targets one token later
TRAINING_FILES = 20  # that the merges are learnt from
SAMPLE_SECONDS = 0.25


def corpus(arguments: argparse.Namespace, megabytes: int) -> Path:
    folder = Path(arguments.folder) / f"texts-{megabytes}"
    if not folder.exists():
        gather(folder, megabytes * 1_000_000)
    return folder


def merges(arguments: argparse.Namespace) -> str:
    """The file of a byte-pair tokenizer of the corpus, learnt if it does not exist yet."""
    path = Path(arguments.folder) / f"merges-{arguments.vocab_size}.json"
    if not path.exists():
        config = TokenizerConfig(kind="bpe", vocab_size=arguments.vocab_size, eos="document")
        files = sorted(corpus(arguments, arguments.megabytes).iterdir())
        chosen = files[:: max(1, len(files) // TRAINING_FILES)]
        train_tokenizer(config, [file.read_text(encoding="utf-8") for file in chosen], num_documents=2).save(path)
    return str(path)


def tree_bytes(root: int) -> int:
    """PSS of a process and all its descendants."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    tree, found = {root}, True
    while found:
        found = {pid for pid, parent in parents.items() if parent in tree} - tree
        tree |= found
    total = 0
    for pid in tree:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total


def run(arguments: argparse.Namespace, variant: str, texts: Path, merges: str, *, watch: bool = False) -> Any:
    """The figures of a variant in its own process; ``watch``: with the ``peak`` of its memory."""
    out = Path(arguments.folder) / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    values = {"texts": str(texts), "merges": merges, "out": str(out), "started": time.time()}
    script = Path(__file__).with_name("data_variants.py")
    process = subprocess.Popen(
        [sys.executable, str(script), variant, json.dumps(values)], stdout=subprocess.PIPE, text=True
    )
    peaks = [0]
    done = threading.Event()

    def sample() -> None:
        while not done.wait(SAMPLE_SECONDS):
            peaks.append(tree_bytes(process.pid))

    watcher = threading.Thread(target=sample)
    if watch:
        watcher.start()
    output, _ = process.communicate()
    done.set()
    if watch:
        watcher.join()
    if process.returncode:
        raise SystemExit(f"{variant} failed")
    return {**json.loads(output.splitlines()[-1]), "peak": max(peaks)}


def row(name: str, measured: str, goal: str) -> None:
    print(f"| {name} | {measured} | {goal} |", flush=True)


def preparing(arguments: argparse.Namespace, kind: str) -> None:
    texts = corpus(arguments, arguments.megabytes)
    megabytes = sum(path.stat().st_size for path in texts.iterdir()) / 1e6
    file = merges(arguments) if kind == "bpe" else ""
    figures: dict[str, list[Any]] = {name: [] for name in VARIANTS}
    for _ in range(arguments.repeat):
        for name, found in figures.items():
            found.append(run(arguments, name, texts, file))
    tokens = {entry["tokens"] for found in figures.values() for entry in found}
    if len(tokens) != 1:
        raise SystemExit(f"{kind}: not the same tokens: {tokens}")
    seconds = {name: statistics.median(entry["seconds"] for entry in found) for name, found in figures.items()}
    for name, taken in seconds.items():
        row(f"{kind}, {megabytes:.0f} MB: {name}", f"{taken:.2f} s, {megabytes / taken:.1f} MB/s", "")
    goals = {"datasets.map": 2.3, "plain writer": 1.6} if kind == "bpe" else {"datasets.map": 4.0, "plain writer": 0.5}
    for name, goal in goals.items():
        row(f"{kind}: times as fast as {name}", f"{seconds[name] / seconds['ours']:.2f}", f"≥ {goal}")
    cold = statistics.median(entry["cold"] for entry in figures["ours"])
    row(f"{kind}: ours, command to the end of a first, tiny preparation", f"{cold:.1f} s", "")


def memory(arguments: argparse.Namespace) -> None:
    file = merges(arguments)
    peaks = []
    for megabytes in (arguments.megabytes, 4 * arguments.megabytes):
        peaks.append(run(arguments, "ours", corpus(arguments, megabytes), file, watch=True)["peak"] / 1e9)
        row(f"bpe, {megabytes} MB: peak memory of all processes", f"{peaks[-1]:.2f} GB", "≤ 1.6 GB")
    row("the larger beside the smaller", f"{peaks[1] / peaks[0] - 1:+.0%}", "within 15 %")


def reading(arguments: argparse.Namespace) -> None:
    run(arguments, "ours", corpus(arguments, arguments.megabytes), "")
    directory = Path(arguments.folder) / "out" / "ours"
    tokens = open_prepared(directory).splits["train"]
    on_disk = sum(path.stat().st_size for path in directory.glob("train-*"))
    row(f"bytes a token on disk, {len(tokens.entries)} shards", f"{on_disk / len(tokens):.4f}", "≤ 2.005")
    seconds = []
    for seed in range(50):
        start = time.perf_counter()
        streams = Streams(open_prepared(directory).splits["train"], batch_size=BATCH_SIZE, bptt=BPTT)
        next(streams.windows(random.Random(seed).randrange(streams.tokens_per_stream)))
        seconds.append(time.perf_counter() - start)
    median, second, worst = (1000 * value for value in (statistics.median(seconds), *sorted(seconds)[-2:]))
    shown = f"median {median:.1f} ms, 49 of them at most {second:.1f} ms, the worst {worst:.1f} ms"
    row("open, and a first window at 50 random positions", shown, "≤ 50 ms")
    windows(arguments, tokens, Path(arguments.folder) / "out" / "rows")
    thousand = Path(arguments.folder) / "out" / "thousand"
    thousand.mkdir()
    part = np.zeros(8192, dtype=np.uint16)
    facts = {"num_bytes": 0, "num_unknown": 0}
    entries = [write_shard(str(thousand), f"train-{i:05d}", part, [0], facts) for i in range(1000)]
    tokenizer = open_prepared(directory).tokenizer
    tokenizer.save(thousand / "tokenizer.json")
    manifest = {"dtype": "uint16", "tokenizer_fingerprint": tokenizer.fingerprint}
    write_manifest(str(thousand), {**manifest, "splits": {"train": {"shards": entries, **facts}}})
    start = time.perf_counter()
    open_prepared(thousand)
    row("1,000 shards opened", f"{time.perf_counter() - start:.3f} s", "< 1 s")


def windows(arguments: argparse.Namespace, tokens: Any, folder: Path) -> None:
    """Windows a second from ours, from ``datasets`` in torch format, and from copying the same bytes, in turns."""
    import datasets

    source = tokens[: min(len(tokens), 1 << 25)].copy()
    width = BPTT + 1
    table = source[: len(source) // width * width].reshape(-1, width)
    saved = datasets.Dataset.from_dict(
        {"ids": table}, features=datasets.Features({"ids": datasets.List(datasets.Value("uint16"), length=width)})
    )
    saved.save_to_disk(folder)
    rows = datasets.load_from_disk(folder).with_format("torch")
    target = np.empty(BATCH_SIZE * width, dtype=np.uint16)
    streams = Streams(tokens, batch_size=BATCH_SIZE, bptt=BPTT)

    def ours() -> int:
        return sum(1 for _ in streams.windows())

    def of_datasets() -> int:
        for start in range(0, 500 * BATCH_SIZE, BATCH_SIZE):
            rows[start : start + BATCH_SIZE]["ids"].long()
        return 500

    def copied() -> int:
        starts = range(0, len(source) - len(target), len(target))
        for start in starts:
            target[:] = source[start : start + len(target)]
        return len(starts)

    rates: dict[str, list[float]] = {}
    for _ in range(arguments.repeat + 1):
        for name, variant in (("ours", ours), ("datasets", of_datasets), ("copy", copied)):
            start = time.perf_counter()
            number = variant()
            rates.setdefault(name, []).append(number / (time.perf_counter() - start))
    speed = {name: statistics.median(found[1:]) for name, found in rates.items()}
    for name, rate in speed.items():
        row(f"windows, B {BATCH_SIZE} × T {BPTT} and one: {name}", f"{rate:,.0f} a second", "")
    row("windows: times as fast as datasets", f"{speed['ours'] / speed['datasets']:.1f}", "≥ 15")
    row("windows: beside the copy", f"{speed['ours'] / speed['copy']:.2f}", "≥ 0.2")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="+", choices=["bpe", "bytes", "memory", "reading"])
    parser.add_argument("--folder", required=True, help="for the corpus and everything made from it; about 3 GB")
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--vocab-size", type=int, default=32_768)
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    print("| | measured | goal |\n|---|---|---|")
    for name in arguments.rows:
        if name in ("bpe", "bytes"):
            preparing(arguments, name)
        else:
            {"memory": memory, "reading": reading}[name](arguments)


if __name__ == "__main__":
    main()

"""Texts of every form that are rewritten with the same size, and preparations of them that are interrupted."""

import gzip
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.config import Config
from pipeline.data.prepare import in_process, prepare
from pipeline.data.readers import hub
from pipeline.data.tasks import RangeTask

MakeConfig = Callable[..., Config]
LINES = [f"line {number:03d} of a text that is prepared" for number in range(240)]
EDITED = [line.replace("text", "book") if number in (20, 150) else line for number, line in enumerate(LINES)]


def write_files(folder: Path, lines: Sequence[str]) -> str:
    for number in range(0, len(lines), 10):
        (folder / f"{number:03d}.txt").write_text("\n".join(lines[number : number + 10]))
    return "."


def write_text(folder: Path, lines: Sequence[str]) -> str:
    (folder / "a.txt").write_text("\n".join(lines))
    return "a.txt"


def write_compressed(folder: Path, lines: Sequence[str]) -> str:
    (folder / "a.txt.gz").write_bytes(gzip.compress("\n".join(lines).encode(), compresslevel=0, mtime=0))
    return "a.txt.gz"


def write_json(folder: Path, lines: Sequence[str]) -> str:
    (folder / "a.jsonl").write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))
    return "a.jsonl"


def write_parquet(folder: Path, lines: Sequence[str]) -> str:
    table = pa.table({"text": list(lines)})
    pq.write_table(table, folder / "a.parquet", row_group_size=60, compression="none", use_dictionary=False)
    return "a.parquet"


def write_saved(folder: Path, lines: Sequence[str]) -> str:
    shutil.rmtree(folder / "saved", ignore_errors=True)
    datasets.Dataset.from_dict({"text": list(lines)}).save_to_disk(str(folder / "saved"))
    hub.load_dataset.cache_clear()  # as in a new process
    return "saved"


def write_folder_of_data(folder: Path, lines: Sequence[str]) -> str:
    (folder / "data").mkdir(exist_ok=True)
    write_parquet(folder / "data", lines)
    hub.load_dataset.cache_clear()
    return "hf://data"


def write_streamed(folder: Path, lines: Sequence[str]) -> str:
    return write_folder_of_data(folder, lines) + "?streaming=1"


LINE_BY_LINE = {"corpus.document": "line"}
DOCUMENTS = {"corpus.valid_fraction": 0.3, "corpus.split_by": "document", "corpus.deduplicate": True}
FORMS: dict[str, tuple[Callable[[Path, Sequence[str]], str], dict[str, Any]]] = {
    "files": (write_files, {}),
    "text": (write_text, {}),
    "lines": (write_text, {**LINE_BY_LINE, **DOCUMENTS}),
    "compressed": (write_compressed, {**LINE_BY_LINE, **DOCUMENTS}),
    "JSON Lines": (write_json, {"corpus.shuffle_seed": 1}),
    "Parquet": (write_parquet, DOCUMENTS),
    "saved": (write_saved, {}),
    "folder of data": (write_folder_of_data, DOCUMENTS),
    "streamed": (write_streamed, {}),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working folder, with a cache of data sets of its own."""
    (tmp_path / "texts").mkdir()
    monkeypatch.chdir(tmp_path / "texts")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    hub.load_dataset.cache_clear()
    yield tmp_path / "texts"
    hub.load_dataset.cache_clear()


def config_of(make_config: MakeConfig, train: str, **changes: Any) -> Config:
    return make_config({"corpus.train": [train], "tokenizer.kind": "byte", "data.shard_tokens": 1024, **changes})


def interrupted(config: Config, *, after: int) -> None:
    """Prepare ``after`` shards, then stop."""

    def killed(tasks: Sequence[Any]) -> Iterator[dict[str, Any]]:
        for number, result in enumerate(in_process(tasks)):
            if isinstance(tasks[0], RangeTask) and number == after:
                raise KeyboardInterrupt
            yield result

    with pytest.raises(KeyboardInterrupt):
        prepare(config, map_tasks=killed, on_shard=lambda entry, total: None)


def files_of(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir()) if path.suffix != ".sources"}

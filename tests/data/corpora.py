"""Small corpora of every form, and the texts in their slices."""

import bz2
import gzip
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import config as configuration
from pipeline.config import Config
from pipeline.data.corpus import Slice, documents, find_sources
from pipeline.data.readers import Tally, builtin, hub

TEXTS = [f"text {n}: " + "words of it " * (n % 7) + "é" for n in range(200)]


def corpus_config(train: Path | str | Sequence[Path | str], **changes: Any) -> Config:
    values = {
        "corpus.train": [str(train)] if isinstance(train, str | Path) else list(map(str, train)),
        **{f"corpus.{name}": value for name, value in changes.items()},
    }
    return configuration.with_values(configuration.load(), values)


def forget_sources() -> None:
    """Clear what is cached of datasets and built-in texts, as in a new process."""
    hub.load_dataset.cache_clear()
    builtin.topics.cache_clear()
    builtin.modules.cache_clear()


def texts_in(slices: Iterable[Slice], *, tally: Tally | None = None) -> list[str]:
    return [text.decode() for item in slices for batch in documents(item, tally or Tally()) for text in batch.texts]


def all_texts(config: Config, *, tally: Tally | None = None) -> list[str]:
    return texts_in(map(Slice.whole, find_sources("train", config.corpus)), tally=tally)


def write_records(folder: Path, form: str, texts: list[str] = TEXTS, *, rows_per_group: int = 30) -> Path:
    """Write ``texts`` as a file of ``form`` (Parquet in row groups of ``rows_per_group``); return its path."""
    lines = "".join(json.dumps({"id": n, "text": text}) + "\n" for n, text in enumerate(texts)).encode()
    path = folder / f"records.{form}"
    table = pa.table({"id": list(range(len(texts))), "text": texts})
    match form:
        case "txt":
            path.write_text("\n".join(texts))
        case "txt.gz":
            path.write_bytes(gzip.compress("\n".join(texts).encode()))
        case "jsonl":
            path.write_bytes(lines)
        case "jsonl.gz":
            path.write_bytes(gzip.compress(lines))
        case "jsonl.bz2":
            path.write_bytes(bz2.compress(lines))
        case "jsonl.zst":
            with pa.CompressedOutputStream(str(path), "zstd") as stream:
                stream.write(lines)
        case "parquet":
            pq.write_table(table, path, row_group_size=rows_per_group)
        case "saved":
            datasets.Dataset(table).save_to_disk(str(path))
    return path

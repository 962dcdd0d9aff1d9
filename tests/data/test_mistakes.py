"""Mistakes in a source, each named in one sentence, and nothing written."""

import gzip
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.config import Config
from pipeline.data.prepare import prepare_in_process

MakeConfig = Callable[..., Config]


def damaged_gz(path: Path) -> None:
    path.write_bytes(gzip.compress(random.Random(1).randbytes(9000).hex().encode())[:-900])


def jsonl(text: str) -> Callable[[Path], Any]:
    return lambda path: path.write_text(text)


def parquet(**columns: list[Any]) -> Callable[[Path], Any]:
    return lambda path: pq.write_table(pa.table(columns), path)


def raw(data: bytes) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(data)


# file, what is in it, the sentence
MISTAKES: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "no field": (
        "a.jsonl",
        jsonl('{"text": "x"}\n{"body": "y"}\n'),
        r"a\.jsonl: the record at byte offset 14 has no field 'text' .*there are body",
    ),
    "no object": ("a.jsonl", jsonl('"x"\n'), r"a\.jsonl: the record at byte offset 0 has no field 'text'"),
    "no JSON": ("a.jsonl", jsonl('{"text": "x"}\n{"te\n'), r"a\.jsonl: the line at byte offset 14 is not JSON"),
    "no text": ("a.jsonl", jsonl('{"text": 3}\n'), r"a\.jsonl: text of the record at byte offset 0 is not a text"),
    "half a character": ("a.jsonl", jsonl('{"text": "\\ud83d"}\n'), r"a\.jsonl: not UTF-8 at byte offset 0"),
    "null": ("a.parquet", parquet(text=["x", None]), r"a\.parquet: text of row 1 of part 0 is not a text but None"),
    "no column": ("a.parquet", parquet(body=["x"]), r"a\.parquet: its records have no field 'text' .*there are body"),
    "no Parquet": ("a.parquet", raw(b"PAR1 and more bytes that are none"), r"a\.parquet: not a whole Parquet file"),
    "cut gz": ("a.txt.gz", damaged_gz, r"a\.txt\.gz: not a whole gzip file: Truncated"),
    "no gz": ("a.txt.gz", raw(b"plain text"), r"a\.txt\.gz: not a whole gzip file"),
    "not UTF-8": ("a.txt", raw(b"ab\n\xe9"), r"a\.txt: not UTF-8 at byte offset 3$"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_a_source_is_one_sentence(make_config: MakeConfig, tmp_path: Path, name: str) -> None:
    file, write, sentence = MISTAKES[name]
    write(tmp_path / file)
    config = make_config({"corpus.train": [str(tmp_path / file)], "corpus.valid_fraction": 0})
    with pytest.raises(ValueError, match=sentence) as error:
        prepare_in_process(config)
    assert "\n" not in str(error.value)
    assert not Path(str(config.data.directory)).exists()

"""Mistakes in a source: each is named in one sentence, and nothing is written."""

import bz2
import gzip
import random
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.config import Config
from pipeline.data.prepare import prepare_in_process
from tests.data.corpora import all_texts, corpus_config

MakeConfig = Callable[..., Config]


def damaged_gz(path: Path) -> None:
    path.write_bytes(gzip.compress(random.Random(1).randbytes(9000).hex().encode())[:-900])


def archive(path: Path) -> None:
    with tarfile.open(path, "w:gz") as file:
        file.add(__file__, "text.txt")


def damaged_parquet(path: Path) -> None:
    pq.write_table(pa.table({"text": ["a text of some length"] * 9}), path, write_page_checksum=True)
    data = bytearray(path.read_bytes())
    data[data.index(b"a text of")] ^= 1
    path.write_bytes(data)


def jsonl(text: str) -> Callable[[Path], Any]:
    return lambda path: path.write_text(text)


def parquet(**columns: list[Any]) -> Callable[[Path], Any]:
    return lambda path: pq.write_table(pa.table(columns), path)


def raw(data: bytes) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(data)


# file, its content, the sentence
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
    "deep": (
        "a.jsonl",
        jsonl('{"text": "x"}\n{"text": "y", "tree": ' + "[" * 200_000 + "]" * 200_000 + "}\n"),
        r"a\.jsonl: the line at byte offset 14 is not JSON: it is nested too deeply to be read$",
    ),
    "null": ("a.parquet", parquet(text=["x", None]), r"a\.parquet: text of row 1 of part 0 is not a text but None"),
    "no column": ("a.parquet", parquet(body=["x"]), r"a\.parquet: its records have no field 'text' .*there are body"),
    "struct": (
        "a.parquet",
        parquet(text=[{"en": "x"}], id=[3]),
        r"a\.parquet: text is not a text but struct<en: string> \(.*; no column is a text, and a field within one",
    ),
    "list": (
        "a.parquet",
        parquet(text=[["x"]], body=["y"], title=pa.array(["z"]).dictionary_encode()),
        r"a\.parquet: text is not a text but list<element: string> \(corpus\.text_field; texts are body, title\)$",
    ),
    "numbers": ("a.parquet", parquet(text=[3]), r"a\.parquet: text is not a text but int64"),
    "a column twice": (
        "a.parquet",
        lambda path: pq.write_table(pa.table([pa.array(["x"]), pa.array(["y"])], names=["text", "text"]), path),
        r"a\.parquet: there are 2 columns text, of which only one could be read",
    ),
    "no Parquet": ("a.parquet", raw(b"PAR1 and more bytes that are none"), r"a\.parquet: not a whole Parquet file"),
    "cut gz": ("a.txt.gz", damaged_gz, r"a\.txt\.gz: not a whole gzip file: Truncated"),
    "bz2 in parts": (
        "a.txt.bz2",
        raw(b"".join(map(bz2.compress, (b"x\n" * 10_000, b"", b"y\n")))),
        r"a\.txt\.bz2: cannot be read as bz2: .*; compress it again",
    ),
    "an archive": ("a.tar.gz", archive, r"a\.tar\.gz: an archive is not read; unpack it"),
    "damaged Parquet": ("a.parquet", damaged_parquet, r"a\.parquet: not a whole Parquet file: .*CRC checksum"),
    "no gz": ("a.txt.gz", raw(b"plain text"), r"a\.txt\.gz: not a whole gzip file"),
    "not UTF-8": (
        "a.txt",
        raw(b"ab\n\xe9"),
        r"a\.txt: not UTF-8 at byte offset 3; save it as UTF-8, or set corpus\.encoding_errors to replace or skip$",
    ),
    "a PDF": ("a.PDF", raw(b"%PDF-1.4\n%\xe2\xe3"), r"a\.PDF: .*; a \.pdf file is not plain text: convert it first$"),
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


def test_other_columns_than_the_text_can_be_nested(make_config: MakeConfig, tmp_path: Path) -> None:
    columns = {"text.x": ["no"], "text": pa.array(["yes"]).dictionary_encode(), "meta": [{"text": "no"}]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    assert all_texts(corpus_config(tmp_path / "a.parquet")) == ["yes"]
    with pytest.raises(ValueError, match=r"no field 'meta\.text' \(.*; there are text\.x, text, meta\)$"):
        all_texts(corpus_config(tmp_path / "a.parquet", text_field="meta.text"))


def test_an_empty_compressed_file_is_not_taken_for_an_empty_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("yes")
    (tmp_path / "b.txt").touch()
    assert all_texts(corpus_config(tmp_path)) == ["yes"]
    (tmp_path / "c.txt.gz").touch()
    with pytest.raises(ValueError, match=r"c\.txt\.gz: not a whole gzip file: it is empty$"):
        all_texts(corpus_config(tmp_path))


def test_a_part_of_a_text_made_by_rule_has_no_name_of_its_own() -> None:
    with pytest.raises(ValueError, match=r"^corpus\.train: builtin:copy/00000 is not a task; there are builtin:copy, "):
        all_texts(corpus_config("builtin:copy/00000"))

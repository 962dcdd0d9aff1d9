"""The sample from which a vocabulary or merges are learnt: how much of each text it has, whatever can be cut."""

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.config import CorpusConfig
from pipeline.data.corpus.documents import utf8_of
from pipeline.data.corpus.slices import sample
from pipeline.data.corpus.splits import split_corpus

LETTERS, LINES = "abcdefgh", 3000  # files, and lines of ten letters in each


def text_of(letter: str) -> bytes:
    return (letter * 10 + "\n").encode() * LINES


def write(folder: Path, kind: str) -> None:
    """A file for each letter, or a row group in one file."""
    tables = [pa.table({"text": [letter * 10] * LINES}) for letter in LETTERS]
    if kind == "row groups":
        pq.write_table(pa.concat_tables(tables), folder / "all.parquet", row_group_size=LINES, use_dictionary=False)
        return
    for letter, table in zip(LETTERS, tables, strict=True):
        if kind == "parquet":
            pq.write_table(table, folder / f"{letter}.parquet", use_dictionary=False)
        else:
            (folder / f"{letter}.txt.gz").write_bytes(gzip.compress(text_of(letter), mtime=0))


@pytest.mark.parametrize("document", ["file", "line"])
@pytest.mark.parametrize("kind", ["gz", "parquet", "row groups"])
def test_a_sample_has_the_same_share_of_every_text_that_cannot_be_cut(
    tmp_path: Path, kind: str, document: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # files as large as they are when they are read, so that the shares are known; parts of 900 bytes
    monkeypatch.setattr("pipeline.data.readers.text.EXPANSION", 11 * LINES / len(gzip.compress(text_of("a"), mtime=0)))
    monkeypatch.setattr("pipeline.data.corpus.slices.SAMPLE_PART_BYTES", 900)
    write(tmp_path, kind)
    slices = split_corpus(CorpusConfig(train=[str(tmp_path)], valid_fraction=0, document=document))["train"]
    found = b"".join(utf8_of(sample(slices, 14_400))).decode()
    counts = [found.count(letter) for letter in LETTERS]
    # two parts in each text, of which a line in eleven bytes is a line end, or Parquet's length of a value
    assert min(counts) > 1200
    assert max(counts) < 2000
    assert len(found) < 17_000


def test_what_a_sample_takes_of_a_text_is_its_beginning(tmp_path: Path) -> None:
    lines = [f"{number:05d} {'x' * 40}" for number in range(20_000)]
    (tmp_path / "long.txt.gz").write_bytes(gzip.compress("\n".join(lines).encode(), mtime=0))
    slices = split_corpus(CorpusConfig(train=[str(tmp_path)], valid_fraction=0))["train"]
    found = b"".join(utf8_of(sample(slices, 10_000))).decode()
    assert found.splitlines() == lines[: len(found.splitlines())]
    assert 10_000 <= len(found) < 10_000 + len(lines[0]) + 1

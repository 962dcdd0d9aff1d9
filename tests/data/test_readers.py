"""A user's own format: a reader in one file, and one line of registration."""

import gzip
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.config import Config
from pipeline.config.data import FORMATS, Format
from pipeline.data.corpus import Slice, find_sources, split_corpus
from pipeline.data.corpus.slices import group
from pipeline.data.prepare import prepare_in_process
from pipeline.data.readers import text as text_reader
from pipeline.data.readers.base import Cut
from pipeline.data.readers.text import TextReader
from pipeline.data.tokenizer import Ids
from pipeline.data.verify import verify_texts
from tests.data.corpora import all_texts, corpus_config, texts_in

FORTUNES = [f"fortune {n}:\nyou will {'read ' * (n % 9)}\n\n  and write" for n in range(300)]
SEPARATOR = b"\n%\n"


class FortuneReader(TextReader):
    """Files of the ``fortune`` program: documents separated by lines with a percent sign."""

    form = "fortune"
    document = "fortune"

    def cuts(self, safe_cut: Cut | None) -> Cut:
        def after_separator(data: bytes, start: int) -> int | None:
            found = data.find(SEPARATOR, max(0, start - len(SEPARATOR)))
            return found + len(SEPARATOR) if 0 <= found < len(data) - len(SEPARATOR) else None

        return after_separator

    def split(self, block: bytes, offset: int) -> tuple[Ids, list[bytes]]:
        found = block.removesuffix(SEPARATOR).split(SEPARATOR)
        lengths = np.array([len(text) + len(SEPARATOR) for text in found])
        return offset + np.cumsum(lengths) - lengths, found


@pytest.fixture
def fortunes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A plain and a compressed file in a format that is registered for one test."""
    monkeypatch.setitem(FORMATS, "fortune", Format("tests.data.test_readers:FortuneReader", (".fortune",)))
    folder = tmp_path / "texts"
    folder.mkdir()
    for name, texts in (("a.fortune", FORTUNES[:200]), ("b.fortune.gz", FORTUNES[200:])):
        data = SEPARATOR.join(text.encode() for text in texts) + SEPARATOR
        (folder / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    return folder


def test_a_new_format_is_found_by_its_ending_or_by_its_name(fortunes: Path) -> None:
    assert all_texts(corpus_config(fortunes)) == FORTUNES
    (fortunes / "a.fortune").rename(fortunes / "a.data")
    assert all_texts(corpus_config(fortunes / "a.data", format="fortune")) == FORTUNES[:200]
    with pytest.raises(ValueError, match=r"^corpus\.format: must be auto, text, jsonl, parquet or fortune, not 'csv'$"):
        corpus_config(fortunes, format="csv")


@pytest.mark.parametrize("block_bytes", [40, 333, 1 << 22])
def test_documents_of_a_new_format_do_not_depend_on_cuts(
    fortunes: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int
) -> None:
    monkeypatch.setattr(text_reader, "BLOCK_BYTES", block_bytes)
    monkeypatch.setattr(text_reader, "TAIL_BYTES", block_bytes // 3)
    sources = [Slice.whole(source) for source in find_sources("train", corpus_config(fortunes).corpus)]
    groups = list(group(sources, 200))
    assert len(groups) > 20
    assert [text for slices in groups for text in texts_in(slices)] == FORTUNES


def test_a_new_format_is_split_prepared_and_verified_as_every_other(
    make_config: Callable[..., Config], fortunes: Path
) -> None:
    changes = {"corpus.train": [str(fortunes)], "corpus.split_by": "document", "corpus.valid_fraction": 0.3}
    config = make_config({**changes, "corpus.deduplicate": True, "data.shard_tokens": 1024})
    splits = {split: texts_in(slices) for split, slices in split_corpus(config.corpus).items()}
    assert sorted(itertools.chain(*splits.values())) == sorted(FORTUNES)
    corpus = prepare_in_process(config)
    counts = {split: entry["num_documents"] for split, entry in corpus.manifest["splits"].items()}
    assert counts == {split: len(texts) for split, texts in splits.items()}
    assert verify_texts(corpus).same == 2

"""What is held out of the training text is not trained on, and how much it is."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.config import Config
from pipeline.data.corpus import split_corpus
from pipeline.data.prepare import prepare_in_process
from tests.data.corpora import TEXTS, corpus_config, texts_in, write_records

MakeConfig = Callable[..., Config]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: names of files, and so their hashes, are the same in every run."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("split_by", ["auto", "document"])
def test_a_text_beside_records_is_in_one_split(folder: Path, split_by: str) -> None:
    write_records(folder, "jsonl.gz")
    read = {f"{number:02d}.txt": f"file {number} {'of words' * 20}" for number in range(15)}
    for name, text in read.items():
        Path(name).write_text(text)
    config = corpus_config(["records.jsonl.gz", *read], split_by=split_by, valid_fraction=0.4, test_fraction=0.3)
    splits = {split: texts_in(pieces, config) for split, pieces in split_corpus(config.corpus).items()}
    assert sorted(itertools.chain(*splits.values())) == sorted([*TEXTS, *read.values()])
    assert all(set(found) & set(read.values()) and set(found) & set(TEXTS) for found in splits.values())
    held_out = next(name for name, text in read.items() if text in splits["valid"])
    Path(held_out).write_text(f"a large text {'of words' * 9000}")
    train = texts_in(split_corpus(config.corpus)["train"], config)
    assert Path(held_out).read_text() in train


def test_a_split_that_no_record_falls_into_says_what_to_change(make_config: MakeConfig, folder: Path) -> None:
    write_records(folder, "jsonl.gz", ["the only record"])
    config = make_config({"corpus.train": ["records.jsonl.gz"], "corpus.valid_fraction": 0.05})
    with pytest.raises(ValueError, match=r"corpus\.valid: .*; change corpus\.valid_fraction or name a corpus\.valid$"):
        prepare_in_process(config)

"""Which part of the training text is held out, how much it is, and that it is not trained on."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Config
from pipeline.data.corpus import split_corpus
from pipeline.data.corpus.slices import mixture_of
from pipeline.data.counting import count_tokens
from pipeline.data.prepare import prepare_in_process
from pipeline.errors import Notice
from tests.data.corpora import TEXTS, corpus_config, texts_in, write_records

MakeConfig = Callable[..., Config]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: in it, names of files, and so their hashes, are the same in every run."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("split_by", ["auto", "document"])
def test_files_named_together_with_records_are_each_in_one_split(folder: Path, split_by: str) -> None:
    write_records(folder, "jsonl.gz")
    read = {f"{number:02d}.txt": f"file {number} {'of words' * 20}" for number in range(15)}
    for name, text in read.items():
        Path(name).write_text(text)
    config = corpus_config(["records.jsonl.gz", *read], split_by=split_by, valid_fraction=0.4, test_fraction=0.3)
    splits = {split: texts_in(slices) for split, slices in split_corpus(config.corpus).items()}
    assert sorted(itertools.chain(*splits.values())) == sorted([*TEXTS, *read.values()])
    assert all(set(found) & set(read.values()) and set(found) & set(TEXTS) for found in splits.values())
    held_out = next(name for name, text in read.items() if text in splits["valid"])
    Path(held_out).write_text(f"a large text {'of words' * 9000}")
    train = texts_in(split_corpus(config.corpus)["train"])
    assert Path(held_out).read_text() in train


def test_the_refusal_of_an_empty_split_says_what_to_change(make_config: MakeConfig, folder: Path) -> None:
    write_records(folder, "jsonl.gz", ["the only record"])
    config = make_config({"corpus.train": ["records.jsonl.gz"], "corpus.valid_fraction": 0.05})
    with pytest.raises(ValueError, match=r"corpus\.valid: .*; change corpus\.valid_fraction or name a corpus\.valid$"):
        prepare_in_process(config)


@pytest.mark.parametrize("form", ["jsonl.gz", "parquet", "txt.gz"])
@pytest.mark.parametrize("weight", [0.1, 1, 2.1])
def test_a_weight_applies_to_text_that_cannot_be_cut_at_will(folder: Path, form: str, weight: float) -> None:
    texts = [f"record {number:04d}" for number in range(1000)]
    write_records(folder, form, texts, rows_per_group=400)
    Path("a.txt").write_text("alpha\n" * 100)
    config = corpus_config(["a.txt", f"records.{form}"], document="line", valid_fraction=0)
    mixture = mixture_of(split_corpus(config.corpus)["train"], [1.5, weight])
    plain, found = (texts_in(slices) for slices in mixture)
    assert plain == ["alpha"] * 150
    assert len(found) == pytest.approx(weight * len(texts), abs=40)
    assert all(found.count(text) in (int(weight), int(weight) + 1) for text in texts)


@pytest.mark.parametrize("layout", ["streams", "documents"])
def test_a_dry_run_counts_text_that_weights_repeat(make_config: MakeConfig, folder: Path, layout: str) -> None:
    Path("a.txt").write_text("aaaaaaa\n" * 400)
    Path("b.txt").write_text("bbb\n" * 300)
    config = make_config(
        {"corpus.train": ["a.txt", "b.txt"], "corpus.valid_fraction": 0, "corpus.document": "line",
         "corpus.weights": [10, 0.5], "tokenizer.kind": "bpe", "data.layout": layout}
    )  # fmt: skip
    counts = count_tokens(config)
    assert counts.tokens == {"train": (10 * 8 * 400 + 4 * 150) // 4}
    # lines of 7 and of 3 characters without the newline, at four bytes per token, and an end
    lengths = None if counts.lengths is None else counts.lengths.tolist()
    assert lengths == ([2] * 4000 + [1] * 150 if layout == "documents" else None)


def test_a_part_of_a_compressed_document_is_refused(folder: Path) -> None:
    write_records(folder, "txt.gz")
    config = corpus_config("records.txt.gz", valid_fraction=0)
    slices = split_corpus(config.corpus)["train"]
    assert mixture_of(slices, [2.0]) == [slices * 2]
    with pytest.raises(ValueError, match=r"corpus\.weights: records\.txt\.gz is a single document and cannot be cut"):
        mixture_of(slices, [1.4])


@pytest.mark.parametrize("weight", [0.5, 2.5])
@pytest.mark.parametrize(
    ("document", "text"), [("paragraph", "a line\n" * 40), ("line", "a word " * 40)], ids=["paragraph", "line"]
)
def test_a_part_of_a_text_without_a_place_to_cut_it_is_refused(
    folder: Path, document: str, text: str, weight: float
) -> None:
    """It would be the whole text, in silence."""
    Path("a.txt").write_text(text)
    slices = split_corpus(corpus_config("a.txt", valid_fraction=0, document=document).corpus)["train"]
    with pytest.raises(ValueError, match=rf"corpus\.weights: a\.txt has no place .* for a weight of {weight}; give"):
        mixture_of(slices, [weight])
    assert mixture_of(slices, [0.97]) == [slices]  # as near as other texts come


def test_less_than_a_byte_of_a_text_is_refused(folder: Path) -> None:
    Path("a.txt").write_text("a line\n" * 40)
    slices = split_corpus(corpus_config("a.txt", valid_fraction=0).corpus)["train"]
    with pytest.raises(ValueError, match=r"corpus\.weights: 0\.001 of a\.txt is less than a byte; give"):
        mixture_of(slices, [0.001])


def test_a_notice_says_what_becomes_of_a_weight_in_a_text_of_few_parts(folder: Path) -> None:
    Path("a.txt").write_text("\n\n".join(["of words " * 11] * 3))  # 301 bytes, cut after 101 or 202
    slices = split_corpus(corpus_config("a.txt", valid_fraction=0, document="paragraph").corpus)["train"]
    with pytest.warns(Notice, match=r"corpus\.weights: a\.txt is cut .* only, so a weight of 1\.5 becomes 1\.67$"):
        (found,) = mixture_of(slices, [1.5])
    assert len(texts_in(found)) == 3 + 2


@pytest.mark.parametrize("num_groups", [2, 4, 9, 10, 40])
@pytest.mark.parametrize("test_fraction", [0, 0.05])
def test_parquet_in_few_row_groups_is_divided(folder: Path, num_groups: int, test_fraction: float) -> None:
    texts = [f"record {number:04d}" for number in range(1000)]
    write_records(folder, "parquet", texts, rows_per_group=-(-1000 // num_groups))
    config = corpus_config("records.parquet", valid_fraction=0.05, test_fraction=test_fraction)
    splits = {split: texts_in(slices) for split, slices in split_corpus(config.corpus).items()}
    assert sorted(itertools.chain(*splits.values())) == texts
    for split in ("valid", "test") if test_fraction else ("valid",):
        assert 25 <= len(splits[split]) <= 80
    # 40 row groups are enough to hold the last ones out
    assert (min(splits["valid"]) > max(splits["train"])) == (num_groups == 40)


@pytest.mark.parametrize(
    ("files", "changes", "empty"),
    [
        (["a.txt"], {"split_by": "file"}, "train"),
        (["a.txt", "records.txt.gz"], {"test_fraction": 0.1}, "train"),
        (["records.parquet"], {"split_by": "fraction"}, "valid"),
    ],
)
def test_too_few_parts_for_the_splits_are_refused(
    folder: Path, files: list[str], changes: dict[str, Any], empty: str
) -> None:
    Path("a.txt").write_text("some words\n" * 100)
    write_records(folder, "txt.gz")
    write_records(folder, "parquet", rows_per_group=100)
    sentence = (
        rf"corpus\.{empty}: nothing is left for it, .* too few files or parts .* set corpus\.split_by to document"
    )
    with pytest.raises(ValueError, match=sentence) as error:
        split_corpus(corpus_config(files, **changes).corpus)
    assert str(error.value).endswith("or name a corpus.valid" + " and corpus.test" * ("test_fraction" in changes))


def test_a_corpus_without_text_is_refused(folder: Path) -> None:
    Path("a.txt").write_text("")
    with pytest.raises(ValueError, match=r"^corpus\.train: there is no text in it$"):
        split_corpus(corpus_config("a.txt").corpus)


@pytest.mark.parametrize("split", ["valid", "test"])
@pytest.mark.parametrize(
    ("train", "held_out", "sentence"),
    [
        ("texts/*.txt", "texts/b.txt", r"texts/b\.txt is in corpus\.train too; leave"),
        ("texts/b.txt", "./texts/../texts/b.txt", r"\S*b\.txt is in corpus\.train too \(there as texts/b\.txt\)"),
        ("texts", "link.txt", r"link\.txt is in corpus\.train too \(there as texts/b\.txt\)"),
        ("builtin:python-docs", "builtin:python-docs", r"builtin:python-docs/.* is in corpus\.train too"),
        ("builtin:copy", "builtin:copy?seed=1", r"builtin:copy\?seed=1/00000 is in corpus\.train too"),
        # the examples of a shorter text are the first of a longer one
        ("builtin:copy?examples=20", "builtin:copy?examples=9", r"builtin:copy\?examples=9/00000 is in corpus\.train"),
    ],
)
def test_a_file_in_two_splits_is_refused(folder: Path, split: str, train: str, held_out: str, sentence: str) -> None:
    Path("texts").mkdir()
    for name in ("a", "b"):
        Path(f"texts/{name}.txt").write_text("the same words\n" * 100)
    Path("link.txt").symlink_to("texts/b.txt")
    config = corpus_config(train, **{split: [held_out]})
    with pytest.raises(ValueError, match=rf"^corpus\.{split}: {sentence}") as error:
        split_corpus(config.corpus)
    assert "\n" not in str(error.value)


def test_texts_made_with_other_seeds_or_difficulties_are_others() -> None:
    held_out = ["builtin:copy?examples=9&seed=2", "builtin:copy?examples=9&delay=3"]
    assert set(split_corpus(corpus_config("builtin:copy?examples=9", valid=held_out).corpus)) == {"train", "valid"}


def test_equal_files_may_be_in_two_splits(folder: Path) -> None:
    for name in ("a", "b"):
        Path(f"{name}.txt").write_text("the same words\n" * 100)
    assert set(split_corpus(corpus_config("a.txt", valid=["b.txt"]).corpus)) == {"train", "valid"}

"""Datasets by name: splits, slices and unions as in ``datasets``, and the same rows under two names."""

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import datasets
import pytest

from pipeline.config import Config
from pipeline.data import readers
from pipeline.data.corpus import split_corpus
from pipeline.data.corpus.sources import with_rows
from pipeline.data.prepare import prepare_in_process
from pipeline.data.readers import TextSettings
from tests.data.corpora import all_texts, corpus_config, texts_in

TRAIN, VALIDATION = [f"train {n}" for n in range(105)], [f"validation {n}" for n in range(7)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """``one`` and ``dd``, saved by ``save_to_disk``; ``hub``, a folder of data files (train in two); links to them."""
    folder = tmp_path_factory.mktemp("datasets")
    train, validation = (datasets.Dataset.from_dict({"text": texts}) for texts in (TRAIN, VALIDATION))
    train.save_to_disk(folder / "one")
    datasets.DatasetDict(train=train, validation=validation).save_to_disk(folder / "dd")
    datasets.DatasetDict(first=train.select(range(50)), second=validation).save_to_disk(folder / "named")
    datasets.Dataset.from_dict({"text": [{"en": "a"}], "body": ["b"]}).save_to_disk(folder / "odd")
    train.select(range(60)).to_parquet(folder / "hub/train-0.parquet")
    train.select(range(60, 105)).to_parquet(folder / "hub/train-1.parquet")
    validation.to_parquet(folder / "hub/validation.parquet")
    (folder / "link").symlink_to("dd/train")
    (folder / "texts").mkdir()
    for name in ("a", "b"):
        (folder / f"texts/{name}.txt").write_text(f"{name} few words\n" * 100)
    (folder / "texts/c.txt").symlink_to("b.txt")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "cache")
        patch.chdir(folder)
        yield folder


def named(folder: Path, pattern: str) -> str:
    """``pattern`` with its path moved below ``folder``, so that no other test's dataset has the same name."""
    return re.sub(r"^(hf://)?", rf"\1{folder}/", pattern)


@pytest.mark.parametrize("kind", ["one", "dd", "hub"])
@pytest.mark.parametrize(
    ("split", "rows"),
    [
        ("train", TRAIN),
        ("train[:90%]", TRAIN[:94]),  # 94.5 is rounded to the even 94
        ("train[90%:]", TRAIN[94:]),
        ("train[5:10]", TRAIN[5:10]),
        ("train[-3:]", TRAIN[-3:]),
        ("train[-20%:-10%]", TRAIN[84:95]),
        ("train[:10%](pct1_dropremainder)", TRAIN[:10]),
        ("train[100:2000]", TRAIN[100:]),
        ("train[:2]+train[1:3]", [*TRAIN[:2], *TRAIN[1:3]]),
        ("train[%3A2]%2Btrain[1:3]", [*TRAIN[:2], *TRAIN[1:3]]),
        ("train+validation", [*TRAIN, *VALIDATION]),
        ("validation[1:] + train[58:62]", [*VALIDATION[1:], *TRAIN[58:62]]),
        ("all", [*TRAIN, *VALIDATION]),
    ],
)
def test_splits_are_those_of_datasets(folder: Path, kind: str, split: str, rows: list[str]) -> None:
    if kind == "one":
        rows = [text for text in rows if text in TRAIN]
        if "validation" in split:
            with pytest.raises(ValueError, match=r"there is no split 'validation' \(there is train\)$"):
                all_texts(corpus_config(named(folder, f"hf://one?split={split}")))
            return
    assert all_texts(corpus_config(named(folder, f"hf://{kind}?split={split}"))) == rows
    if kind == "hub" and "%3A" not in split:
        assert datasets.load_dataset(str(folder / "hub"), split=split.replace(" ", ""))["text"][:] == rows


@pytest.mark.parametrize(
    ("pattern", "rows"),
    [
        ("one", TRAIN),
        ("hf://one", TRAIN),
        ("hf://one?streaming=1&config=", TRAIN),
        ("dd", TRAIN),
        ("dd/", TRAIN),
        ("hf://dd", TRAIN),
        ("dd/validation", VALIDATION),
        ("hf://dd/validation", VALIDATION),
        ("hf://hub?streaming=1", TRAIN),
        ("hf://hub?streaming=True&split=validation", VALIDATION),
        ("hf://hub?streaming=1&split=train+validation", [*TRAIN, *VALIDATION]),
        ("hf://hub?streaming=1&split=all", [*TRAIN, *VALIDATION]),
    ],
)
def test_a_name_stands_for_these_rows(folder: Path, pattern: str, rows: list[str]) -> None:
    assert all_texts(corpus_config(named(folder, pattern))) == rows


def test_a_saved_part_of_a_split_has_its_name(folder: Path) -> None:
    datasets.load_dataset(str(folder / "hub"), split="validation[:5]").save_to_disk(folder / "part")
    formatted = datasets.Dataset.from_dict({"text": TRAIN, "n": range(105)}).with_format("numpy", columns=["n"])
    formatted.save_to_disk(folder / "formatted")
    assert all_texts(corpus_config(f"hf://{folder}/part")) == VALIDATION[:5]
    assert all_texts(corpus_config(f"hf://{folder}/part?split=validation[1:]")) == VALIDATION[1:5]
    with pytest.raises(ValueError, match=r"there is no split 'train' \(there is validation\)"):
        all_texts(corpus_config(f"hf://{folder}/part?split=train"))
    assert all_texts(corpus_config(folder / "formatted")) == TRAIN


@pytest.mark.parametrize(
    ("pattern", "sentence"),
    [
        ("hf://one?split=validation", r"there is no split 'validation' \(there is train\)"),
        ("hf://dd?split=train+valid", r"there is no split 'valid' \(there are train, validation\)"),
        ("hf://hub?split=valid", r"there is no split 'valid' \(there are train, validation\)"),
        ("hf://hub?split=valid&streaming=1", r"there is no split 'valid' \(there are train, validation\)"),
        ("hf://hub?split=train[:9]&streaming=1", r"leave out \[:9\] or streaming=1 \(there are train, validation\)"),
        ("named", r"there is no split 'train' \(there are first, second\)"),
        ("hf://named?streaming=1", r"there is no split 'train' \(there are first, second\)"),
        ("hf://one?config=xx", "a dataset that save_to_disk wrote has no config; leave it out"),
        ("hf://dd?revision=abc", "a dataset that save_to_disk wrote has no revision; leave it out"),
        ("hf://hub?revision=abc", "is a folder, which has no revision; leave it out"),
        ("hf://hub?config=xx", "cannot be loaded by datasets: BuilderConfig 'xx' not found"),
        ("hf://dd?split=train[:0]", r"train\[:0\] has no rows \(train has 105\)"),
        ("hf://hub?split=train[90:10]", r"train\[90:10\] has no rows"),
        ("hf://one?split=train[:150%]", r"train\[:150%\] is not a slice of a split: Percent slice boundaries"),
        ("hf://one?split=train[:12.5%]", r"train\[:12\.5%\] is not a slice of a split: Unrecognized"),
        ("hf://dd?split=validation[:10%](pct1_dropremainder)", "is not a slice of a split: .* less than 100"),
        ("hf://dd?split=train+", "there is no split ''"),
        ("hf://dd?split=train&split=validation", "split is given twice"),
        ("hf://dd?sprit=train", "no option sprit"),
        ("hf://odd", r"text is not a text but struct<en: string> \(corpus\.text_field; texts are body\)"),
        ("hf://dd?streaming", "streaming has no value"),
        ("hf://dd?streaming=2", "streaming is 2, but must be 1 or 0"),
    ],
)
def test_splits_slices_and_options_that_do_not_exist_are_refused(folder: Path, pattern: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as error:
        all_texts(corpus_config(named(folder, pattern)))
    assert str(error.value).startswith("corpus.train: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("pattern", ["dd", "named"])
def test_saved_splits_are_not_guessed_for_held_out_text(folder: Path, pattern: str) -> None:
    config = corpus_config(folder / "texts", valid=[str(folder / pattern)])
    with pytest.raises(ValueError, match=rf"corpus\.valid: .*{pattern} holds the splits .*; write which one"):
        split_corpus(config.corpus)


@pytest.mark.parametrize("pattern", ["", "d*/*", "dd/train/*"])
def test_a_saved_dataset_within_a_folder_of_text_is_refused(folder: Path, pattern: str) -> None:
    with pytest.raises(ValueError, match=r"/dd(/train)? is a dataset that save_to_disk wrote, not text; name it by"):
        split_corpus(corpus_config(folder / pattern).corpus)


def split_texts(config: Config) -> dict[str, list[str]]:
    return {split: texts_in(slices) for split, slices in split_corpus(config.corpus).items()}


@pytest.mark.parametrize("kind", ["one", "dd", "hub"])
def test_slices_are_held_out(folder: Path, kind: str) -> None:
    train, valid, test = (named(folder, f"hf://{kind}?split=train[{part}]") for part in (":80%", "80%:90%", "90%:"))
    splits = split_texts(corpus_config(train, valid=[valid], test=[test]))
    assert splits == {"train": TRAIN[:84], "valid": TRAIN[84:94], "test": TRAIN[94:]}


@pytest.mark.parametrize(
    ("train", "valid"),
    [
        ("hf://hub", "hf://hub?split=train"),
        ("hf://hub", "hf://hub?streaming=1"),
        ("hf://hub?config=default&streaming=1", "hf://./hub?split=train+validation"),
        ("hf://hub?split=train[:90%]", "hf://hub?split=train[80%:]"),
        ("hf://hub?split=train+validation[:3]", "hf://hub?split=validation[2:]"),
        ("hf://hub", "hub/train-1.parquet"),
        ("hub/*.parquet", "hf://hub?split=validation"),
        ("dd", "hf://dd?split=train"),
        ("dd/train", "hf://dd?split=train"),
        ("dd/train", "hf://dd?split=train&streaming=1"),
        ("link", "hf://dd?split=train[-1:]"),
        ("hf://one?split=train[:60]", "hf://one?split=train[59:]"),
        ("one", "dd"),  # another copy of the same rows
        ("one", "hf://hub?split=train"),
        ("hf://one?split=train[:7]", "hf://dd?split=train[:7]"),
    ],
)
def test_the_same_rows_in_two_splits_are_refused(folder: Path, train: str, valid: str) -> None:
    for one, other in ((train, valid), (valid, train)):
        other = other.replace("dd", "dd/train") if other == "dd" else other
        config = corpus_config(named(folder, one), test=[named(folder, other)])
        with pytest.raises(ValueError, match=r"corpus\.test: \S+.* is in corpus\.train too.*; leave it out of one"):
            split_corpus(config.corpus)


def test_addresses_of_the_same_file() -> None:
    path = os.path.realpath(json.__file__)
    names = ["builtin:python-stdlib/json/__init__.py", path, f"file://{path}", "gs://bucket/a", "gcs://bucket/a"]
    sources = [readers.reopen(name, "text", TextSettings(), extent=1, size=1) for name in names]
    (library, local, address, one, other) = (rows for _, rows in with_rows(sources))
    assert library == local == address != one == other


@pytest.mark.parametrize(
    ("train", "valid"),
    [
        ("hf://hub?split=train", "hf://hub?split=validation"),
        ("hf://hub?split=train", "hub/validation.parquet"),
        ("hf://hub?streaming=1", "hf://hub?split=validation&streaming=1"),
        ("dd/train", "hf://dd?split=validation"),
        ("hf://one?split=train[:7]+train[14:]", "hf://one?split=train[7:14]"),
        ("hf://one?split=train[:7]", "hf://dd?split=train[7:14]"),
    ],
)
def test_other_rows_are_held_out(folder: Path, train: str, valid: str) -> None:
    splits = split_texts(corpus_config(named(folder, train), valid=[named(folder, valid)]))
    assert splits["train"]
    assert splits["valid"]
    assert set(splits["train"]).isdisjoint(splits["valid"])


def test_a_text_comes_once_however_often_it_is_named(folder: Path) -> None:
    texts = [(folder / f"texts/{name}.txt").read_text() for name in ("a", "b")]
    patterns = ["texts", "./texts/b.txt", "texts/c.txt", "texts/../texts/a.txt"]
    assert all_texts(corpus_config(patterns)) == texts
    assert all_texts(corpus_config(["texts/c.txt", "texts"])) == texts[::-1]
    assert all_texts(corpus_config([f"{folder}/dd", f"hf://{folder}/dd?split=train", f"hf://{folder}/link"])) == TRAIN
    assert all_texts(corpus_config([f"hf://{folder}/hub?config=default", f"hf://{folder}/hub"])) == TRAIN
    for other in (f"hf://{folder}/hub?split=train[99:]", f"hf://{folder}/hub?streaming=1", "hub/train-0.parquet"):
        with pytest.raises(ValueError, match=r"corpus\.train: .* has rows of .*/hub, which would occur twice"):
            all_texts(corpus_config([f"hf://{folder}/hub", other]))


def test_a_weight_of_a_text_in_an_earlier_pattern_is_refused(folder: Path) -> None:
    config = corpus_config(["texts", "texts/b.txt"], weights=[1, 3], valid_fraction=0)
    with pytest.raises(ValueError, match=r"corpus\.weights: all that texts/b\.txt names is in earlier patterns"):
        split_corpus(config.corpus)


def test_slices_become_shards(folder: Path, make_config: Callable[..., Config]) -> None:
    names = [f"hf://{folder}/dd?split={split}" for split in ("train[:90%]+validation", "train[90%:]")]
    changes = {"corpus.train": [names[0]], "corpus.valid": [names[1]], "data.shard_tokens": 1024}
    corpus = prepare_in_process(make_config(changes))
    counts = {split: entry["num_documents"] for split, entry in corpus.manifest["splits"].items()}
    assert counts == {"train": 94 + 7, "valid": 11}

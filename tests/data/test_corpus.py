"""The documents and splits that each kind of source gives."""

import gzip
import itertools
import random
import unicodedata
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import Config
from pipeline.data import utf8
from pipeline.data.corpus import Slice, find_sources, split_corpus
from pipeline.data.corpus.slices import group
from pipeline.data.prepare import prepare_in_process
from pipeline.data.readers import Tally
from pipeline.data.readers import text as text_reader
from pipeline.data.shards import PreparedCorpus
from tests.data.corpora import TEXTS, all_texts, corpus_config, texts_in, write_records

MakeConfig = Callable[..., Config]


@pytest.mark.parametrize("form", ["jsonl", "jsonl.gz", "jsonl.bz2", "jsonl.zst", "parquet", "saved"])
def test_records_of_every_form(tmp_path: Path, form: str) -> None:
    config = corpus_config(write_records(tmp_path, form))
    assert all_texts(config) == TEXTS


def test_datasets_by_folder_streamed_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "data"
    folder.mkdir()
    pq.write_table(pa.table({"words": TEXTS[:120]}), folder / "train-0.parquet")
    pq.write_table(pa.table({"words": TEXTS[120:]}), folder / "train-1.parquet")
    for query in ("?split=train", "?streaming=1"):
        assert all_texts(corpus_config(f"hf://{folder}{query}", text_field="words")) == TEXTS
    with pytest.raises(
        ValueError, match=r"corpus\.train: hf://.* no field 'text' \(corpus\.text_field; there are words"
    ):
        all_texts(corpus_config(f"hf://{folder}"))
    with pytest.raises(ValueError, match="no option sprit"):
        all_texts(corpus_config(f"hf://{folder}?sprit=train"))
    with pytest.raises(ValueError, match="cannot be loaded by datasets"):
        all_texts(corpus_config(f"hf://{tmp_path / 'nothing'}"))


@pytest.mark.parametrize("form", ["jsonl", "jsonl.gz", "parquet", "saved"])
@pytest.mark.parametrize("split_by", ["auto", "document"])
def test_every_record_is_in_one_split(tmp_path: Path, form: str, split_by: str) -> None:
    config = corpus_config(write_records(tmp_path, form), split_by=split_by, valid_fraction=0.2, test_fraction=0.1)
    splits = {split: texts_in(slices) for split, slices in split_corpus(config.corpus).items()}
    assert sorted(itertools.chain(*splits.values())) == sorted(TEXTS)
    assert 20 <= len(splits["valid"]) <= 60
    assert 5 <= len(splits["test"]) <= 40


def test_documents_of_a_text_are_files_lines_or_paragraphs(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"one\r\ntwo\n\n \n\nthree\nfour\n\n\n")
    assert all_texts(corpus_config(path)) == ["one\r\ntwo\n\n \n\nthree\nfour\n\n\n"]
    assert all_texts(corpus_config(path, document="line")) == ["one", "two", " ", "three", "four"]
    assert all_texts(corpus_config(path, document="paragraph")) == ["one\r\ntwo", "three\nfour"]
    path.write_bytes(b"\n \n  def f():\n    pass\n\n \t\n  def g():\r\n    pass\r\n\t\r\n\r\n\tend\n  \n\t ")
    assert all_texts(corpus_config(path, document="paragraph")) == [
        "  def f():\n    pass",
        "  def g():\r\n    pass",
        "\tend",
    ]


@given(
    lines=st.lists(
        st.sampled_from(["", "a", "bb ccc", "é\u0301", " ", "\t", "\t  ", "  b", "\tc\r", "\r", "word " * 9]),
        max_size=60,
    ),
    document=st.sampled_from(["line", "paragraph"]),
    block_bytes=st.integers(8, 200),
    range_bytes=st.integers(5, 120),
)
def test_cuts_and_blocks_do_not_change_documents(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], document: str, block_bytes: int, range_bytes: int
) -> None:
    path = tmp_path_factory.mktemp("cut") / "a.txt"
    path.write_text("\n".join(["first", *lines, "last"]), encoding="utf-8")
    config = corpus_config(path, document=document)
    expected = all_texts(config)
    groups = list(group([Slice.whole(source) for source in find_sources("train", config.corpus)], range_bytes))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_reader, "BLOCK_BYTES", block_bytes)
        patch.setattr(text_reader, "TAIL_BYTES", block_bytes // 3)
        assert [text for slices in groups for text in texts_in(slices)] == expected


def test_normalisation_and_lengths(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("e\u0301\nﬁve\nlonger line\nx\n", encoding="utf-8")
    assert all_texts(corpus_config(path, document="line", normalize="NFC"))[0] == "é"
    tally = Tally()
    config = corpus_config(path, document="line", normalize="NFKC", min_characters=2, max_characters=5)
    assert all_texts(config, tally=tally) == ["five"]
    assert tally.num_unwanted == 3


def test_a_long_text_is_normalised_as_a_whole(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = random.Random(2)
    text = "".join(source.choices(["e", "\u0301", "\u0327", "a b", "\n", "\u1112", "\u1161", "\u11ab"], k=4000))
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    monkeypatch.setattr(text_reader, "BLOCK_BYTES", 300)
    monkeypatch.setattr(text_reader, "TAIL_BYTES", 50)
    corpus = prepare_in_process(
        make_config(
            {"corpus.train": [str(tmp_path / "a.txt")], "corpus.valid_fraction": 0, "corpus.normalize": "NFC",
             "data.shard_tokens": 1024}
        )
    )  # fmt: skip
    tokens = corpus.splits["train"]
    assert len(tokens.entries) > 2
    assert corpus.tokenizer.decode(tokens[: len(tokens)]) == unicodedata.normalize("NFC", text)


def decoded(corpus: PreparedCorpus, split: str = "train") -> list[str]:
    """The documents of a prepared split."""
    tokens = corpus.splits[split]
    starts = [*tokens.document_starts(0, len(tokens)).tolist(), len(tokens)]
    return [corpus.tokenizer.decode(tokens[a:b]) for a, b in itertools.pairwise(starts)]


@pytest.mark.parametrize("form", ["jsonl", "jsonl.gz", "parquet", "saved", "txt"])
def test_the_first_of_equal_documents_stays(make_config: MakeConfig, tmp_path: Path, form: str) -> None:
    source = random.Random(4)
    unique = [f"text number {n}" for n in range(60)]
    repeated = source.choices(unique, k=200)
    held_out = ["only held out", *source.choices(unique, k=20), "only held out"]
    path = write_records(tmp_path, form, repeated)
    (tmp_path / "valid.txt").write_text("\n".join(held_out))
    corpus = prepare_in_process(
        make_config(
            {"corpus.train": [str(path)], "corpus.valid": [str(tmp_path / "valid.txt")], "corpus.document": "line",
             "tokenizer.kind": "byte", "corpus.deduplicate": True, "data.shard_tokens": 1024}
        )
    )  # fmt: skip
    assert decoded(corpus) == list(dict.fromkeys(repeated))
    left = [text for text in dict.fromkeys(held_out) if text not in repeated]
    assert decoded(corpus, "valid") == left
    assert corpus.manifest["splits"]["train"]["num_duplicates"] == 200 - len(set(repeated))


def test_files_that_are_equal_too_short_or_undecodable_are_left_out(make_config: MakeConfig, tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    contents = [b"the same text", b"another text", b"the same text", b"no", b"bad \xff bytes here", b"a third text"]
    for number, content in enumerate(contents):
        (folder / f"{number}.txt").write_bytes(content)
    changes = {"corpus.train": [str(folder)], "corpus.valid_fraction": 0, "data.shard_tokens": 1024}
    wanted = {**changes, "corpus.deduplicate": True, "corpus.min_characters": 3, "corpus.encoding_errors": "skip"}
    corpus = prepare_in_process(make_config(wanted))
    assert decoded(corpus) == ["the same text", "another text", "a third text"]
    assert corpus.manifest["num_files_left_out"] == 3
    replaced = {**changes, "corpus.encoding_errors": "replace", "data.directory": str(tmp_path / "replaced")}
    corpus = prepare_in_process(make_config(replaced))
    assert decoded(corpus)[4] == "bad \ufffd bytes here"
    assert corpus.manifest["splits"]["train"]["num_replaced"] == 1


def test_weights_repeat_and_mix(make_config: MakeConfig, tmp_path: Path) -> None:
    for name, text in (("a", "aaaa\n"), ("b", "bbbb\n")):
        (tmp_path / f"{name}.txt").write_text(text * 4000)
    changes = {
        "corpus.train": [str(tmp_path / "a.txt"), str(tmp_path / "b.txt")], "corpus.valid_fraction": 0,
        "corpus.document": "line", "corpus.weights": [2.5, 1.0], "data.shard_tokens": 2048,
    }  # fmt: skip
    corpus = prepare_in_process(make_config(changes))
    found = decoded(corpus)
    assert found.count("bbbb") == 4000
    assert found.count("aaaa") == pytest.approx(10_000, abs=2)
    # every quarter of the corpus has about the same share of each
    for quarter in np.array_split(np.array(found), 4):
        assert 0.6 < np.mean(quarter == "aaaa") < 0.8
    with pytest.raises(ValueError, match=r"corpus\.weights: 1 weights for the 2 patterns"):
        prepare_in_process(make_config({**changes, "corpus.weights": [1.0]}))


@pytest.mark.parametrize(("weights", "num_documents"), [(None, 61), ([1.0, 1.0], 61 + 4 + 3)])
def test_documents_that_interrupt_one_another_stay_apart(
    make_config: MakeConfig, tmp_path: Path, weights: list[float] | None, num_documents: int
) -> None:
    """A file is cut where a shard ends, and a shard of the other pattern may come before the rest of it.

    The shards of a.txt are in places 1, 3, 5, 6, 8, 10 and those of the others between them.
    """
    texts = [f"beta {number} " + "gamma " * 9 for number in range(60)]
    (tmp_path / "a.txt").write_text("alpha\n" * 1000)
    (tmp_path / "b").mkdir()
    for number, text in enumerate(texts):
        (tmp_path / "b" / f"{number:02d}.txt").write_text(text)
    changes = {
        "corpus.train": [str(tmp_path / "a.txt"), str(tmp_path / "b")], "corpus.valid_fraction": 0,
        "data.shard_tokens": 1024, "tokenizer.kind": "byte", "corpus.weights": weights,
    }  # fmt: skip
    found = decoded(prepare_in_process(make_config(changes)))
    assert len(found) == num_documents
    assert not any("alpha" in text and "gamma" in text for text in found)
    assert "".join(text for text in found if "alpha" in text) == "alpha\n" * 1000
    assert "".join(text for text in found if "alpha" not in text) == "".join(texts)


@pytest.mark.parametrize("form", ["files", "lines"])
def test_a_shuffle_keeps_every_document(make_config: MakeConfig, tmp_path: Path, form: str) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    lines = [f"document number {n}" for n in range(300)]
    for number in range(300) if form == "files" else [0]:
        (folder / f"{number:03d}.txt").write_text(lines[number] if form == "files" else "\n".join(lines))
    changes = {
        "corpus.train": [str(folder)], "corpus.valid_fraction": 0, "data.shard_tokens": 1024,
        "corpus.document": "file" if form == "files" else "line",
    }  # fmt: skip
    orders = []
    for seed in (1, 1, 2):
        directory = str(tmp_path / f"data-{len(orders)}")
        corpus = prepare_in_process(make_config({**changes, "corpus.shuffle_seed": seed, "data.directory": directory}))
        orders.append(decoded(corpus))
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2]) == sorted(lines)
    assert orders[0] != lines


def test_one_compressed_document_is_not_divided(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(b"one\ntwo\n" * 100))
    with pytest.raises(ValueError, match=r"a single document .* set corpus\.document to line"):
        split_corpus(corpus_config(path).corpus)
    assert set(split_corpus(corpus_config(path, document="line").corpus)) == {"train", "valid"}


@pytest.mark.parametrize(
    "data", [b"", "é€😀".encode(), b"\xff", "é".encode()[:1], b"a\xed\xa0\x80", b"\xc0\x80", b"a\x00b"]
)
def test_only_valid_utf8_is_accepted(data: bytes) -> None:
    try:
        data.decode()
        expected = True
    except UnicodeDecodeError:
        expected = False
    assert utf8.is_utf8(data) == expected


def test_records_are_shuffled_although_a_file_is_a_document(make_config: MakeConfig, tmp_path: Path) -> None:
    """The file is cut into several shards; it stays whole and in order, before and after records."""
    texts = {name: [f"{name} {n:03d}" for n in range(99)] for name in "ab"}
    paths = [write_records(tmp_path, form, texts[name]) for name, form in (("a", "jsonl"), ("b", "jsonl.zst"))]
    book = "".join(f"line {n}\n" for n in range(400))
    (tmp_path / "book.txt").write_text(book)
    changes = {
        "corpus.train": [str(paths[0]), str(tmp_path / "book.txt"), str(paths[1])], "corpus.valid_fraction": 0,
        "data.shard_tokens": 1024, "corpus.shuffle_seed": 1,
    }  # fmt: skip
    found = decoded(prepare_in_process(make_config(changes)))
    assert sorted(found) == sorted([book, *texts["a"], *texts["b"]])
    for name in "ab":
        order = [text for text in found if text[:2] == f"{name} "]
        assert order != texts[name]

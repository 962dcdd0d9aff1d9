"""A byte order mark (U+FEFF) at the beginning of a UTF-8 file is not text, however the file is read."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config import Config, TokenizerConfig
from pipeline.data.corpus import Slice, find_sources, split_corpus
from pipeline.data.corpus.slices import group
from pipeline.data.prepare import prepare_in_process
from pipeline.data.readers import text as text_reader
from pipeline.data.tokenizer.files import read_existing
from pipeline.evaluate.pairs import read_pairs
from pipeline.generate.prompts import read_prompts
from tests.data.corpora import all_texts, corpus_config, texts_in

MARK = b"\xef\xbb\xbf"
# within a text the mark is a character like any other
TEXT = "\n\nriver é\nbank\n \n\n\ufeffriver of words\n" * 9


@pytest.mark.parametrize("document", ["file", "line", "paragraph"])
@pytest.mark.parametrize("ending", [".txt", ".txt.gz", ".jsonl", ".jsonl.gz"])
def test_a_mark_is_dropped_from_every_form(tmp_path: Path, document: str, ending: str) -> None:
    found = []
    for mark in (b"", MARK):
        data = TEXT.encode() if "txt" in ending else b'{"text": "river"}\n{"text": "\\ufeffbank"}\n'
        data = gzip.compress(mark + data) if ending.endswith("gz") else mark + data
        path = tmp_path / f"a{len(mark)}{ending}"
        path.write_bytes(data)
        found.append(all_texts(corpus_config(path, document=document)))
    assert found[0] == found[1]
    assert "\ufeff" in "".join(found[1])


@settings(max_examples=60)
@given(
    first=st.sampled_from(["", " ", "a"]),
    separator=st.sampled_from(["\n", "é"]),
    lines=st.lists(st.sampled_from(["", "a", "é ccc", "\ufeff", "word " * 9]), max_size=20),
    document=st.sampled_from(["file", "line", "paragraph"]),
    block_bytes=st.integers(4, 60),
    range_bytes=st.integers(1, 60),
)
def test_cuts_do_not_change_the_text_after_a_mark(
    tmp_path_factory: pytest.TempPathFactory,
    first: str,
    separator: str,
    lines: list[str],
    document: str,
    block_bytes: int,
    range_bytes: int,
) -> None:
    path = tmp_path_factory.mktemp("mark") / "a.txt"
    text = separator.join([first, *lines, "last"])
    path.write_bytes(MARK + text.encode())
    config = corpus_config(path, document=document)
    groups = list(group([Slice.whole(source) for source in find_sources("train", config.corpus)], range_bytes))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_reader, "BLOCK_BYTES", block_bytes)
        patch.setattr(text_reader, "TAIL_BYTES", block_bytes // 3)
        parts = [text for slices in groups for text in texts_in(slices)]
        assert document != "file" or all(texts_in(slices) for slices in groups)
    if document == "file":
        parts = ["".join(parts)]
    plain = path.with_name("plain.txt")
    plain.write_bytes(text.encode())
    assert parts == all_texts(corpus_config(plain, document=document))


def test_a_marked_corpus_is_the_corpus_without_marks(make_config: Callable[..., Config], tmp_path: Path) -> None:
    tokens, vocabularies = [], []
    for mark in (b"", MARK):
        folder = tmp_path / f"marked{len(mark)}"
        folder.mkdir()
        for name in ("a", "b"):
            (folder / f"{name}.txt").write_bytes(mark + f"{name} river flows by\n".encode() * 300)
        changes = {
            "corpus.train": [str(folder)], "corpus.valid_fraction": 0, "tokenizer.kind": "word",
            "data.shard_tokens": 1024, "data.directory": f"{folder}-out",
        }  # fmt: skip
        corpus = prepare_in_process(make_config(changes))
        found = corpus.splits["train"]
        tokens.append((found[: len(found)].tolist(), found.document_starts(0, len(found)).tolist()))
        vocabularies.append(corpus.tokenizer.fingerprint)
        assert len(found.entries) > 1
    assert tokens[0] == tokens[1]
    assert len(tokens[1][1]) == 2
    assert vocabularies[0] == vocabularies[1]


def test_a_marked_file_is_a_duplicate_of_the_one_without(tmp_path: Path, make_config: Callable[..., Config]) -> None:
    for name, mark in (("a", b""), ("b", MARK)):
        (tmp_path / f"{name}.txt").write_bytes(mark + b"the same text\n" * 9)
    changes = {"corpus.train": [str(tmp_path / "*.txt")], "corpus.valid_fraction": 0, "corpus.deduplicate": True}
    assert prepare_in_process(make_config(changes)).manifest["num_files_left_out"] == 1


def test_a_file_with_only_a_mark_has_no_text(tmp_path: Path, make_config: Callable[..., Config]) -> None:
    (tmp_path / "a.txt").write_bytes(MARK)
    config = make_config({"corpus.train": [str(tmp_path / "a.txt")], "corpus.valid_fraction": 0})
    assert set(split_corpus(config.corpus)) == {"train"}
    assert all_texts(corpus_config(tmp_path / "a.txt")) == []
    with pytest.raises(ValueError, match=r"corpus\.train: there is no token in its 3 bytes of text"):
        prepare_in_process(config)


def test_marks_in_pairs_prompts_and_tokenizers_are_dropped(tmp_path: Path, make_config: Callable[..., Config]) -> None:
    tokenizer = prepare_in_process(make_config()).tokenizer
    pair = {"good": "the cat sat", "bad": "cat the sat"}
    (tmp_path / "pairs.jsonl").write_bytes(MARK + json.dumps(pair).encode() + b"\n")
    (pairs,) = read_pairs(str(tmp_path / "pairs.jsonl"), tokenizer)
    assert (pairs.good, pairs.bad) == ("the cat sat", "cat the sat")
    (tmp_path / "prompts.txt").write_bytes(MARK + b"the cat\r\nthe dog\n")
    assert read_prompts(str(tmp_path / "prompts.txt")) == ["the cat", "the dog"]
    (tmp_path / "tokenizer.json").write_bytes(MARK + tokenizer.serialized)
    config = TokenizerConfig(path=str(tmp_path / "tokenizer.json"))
    assert read_existing(config, eos="never").fingerprint == tokenizer.fingerprint


def test_json_that_is_nested_too_deep_is_refused(tmp_path: Path, make_config: Callable[..., Config]) -> None:
    tokenizer = prepare_in_process(make_config()).tokenizer
    deep = "[" * 200_000 + "]" * 200_000
    (tmp_path / "pairs.jsonl").write_text('{"good": "a", "bad": "b"}\n{"good": ' + deep + "}\n")
    with pytest.raises(ValueError, match=r"pairs\.jsonl line 2 is not JSON: it is nested too deeply to be read$"):
        read_pairs(str(tmp_path / "pairs.jsonl"), tokenizer)
    (tmp_path / "tokenizer.json").write_text(deep)
    with pytest.raises(ValueError, match=r"^tokenizer\.path: \S+tokenizer\.json: neither a tokenizer\.json"):
        read_existing(TokenizerConfig(path=str(tmp_path / "tokenizer.json")), eos="never")

"""Rows of tokens and words against sums made by hand or token by token, and the tables that hold them."""

import csv
import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tokenizers import Tokenizer as HuggingFaceTokenizer
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from pipeline.config import CorpusConfig, ModelConfig, TokenizerConfig
from pipeline.data.tokenizer import LoadedTokenizer, Tokenizer, train_tokenizer
from pipeline.errors import UserError
from pipeline.evaluate import HeldOut, count_words, evaluate, text_held_out
from pipeline.evaluate.side_by_side import sentence_nats
from pipeline.evaluate.surprisal import SCHEMA, surprisal_rows, write_rows
from pipeline.evaluate.type_classes import Place
from pipeline.evaluate.words import Before, Row, WordBoundary, Words
from pipeline.generate.text import text_of
from pipeline.model.language_model import LanguageModel

TEXT = "the cat sat on a mat\nthe dogs  ran\n"


def model_of(tokenizer: Tokenizer) -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(ModelConfig(hidden_size=6, num_layers=1), tokenizer.vocab_size).double().eval()


def one_by_one(model: LanguageModel, ids: list[int]) -> list[float]:
    state, nats = model.initial_state(1), []
    with torch.no_grad():
        for current, following in itertools.pairwise(ids):
            hidden, state = model(torch.tensor([[current]]), state)
            nats.append(-model.head.logits(hidden)[0, 0].log_softmax(0)[following].item())
    return nats


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("word", [["the", "cat", "sat", "on", "a", "mat", "<eos>"], ["the", "dogs", "ran", "<eos>"]]),
        ("char", [["the", "cat", "sat", "on", "a", "mat", "<eos>"], ["the", "dogs", "ran", "<eos>"]]),
        ("bpe", [["the", "cat", "sat", "on", "a", "mat", "<eos>"], ["the", "dogs", "ran", "<eos>"]]),
    ],
)
def test_a_row_for_every_token_and_word(tmp_path: Path, kind: str, words: list[list[str]]) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    tokenizer = train_tokenizer(TokenizerConfig(kind=kind), [TEXT * 9], num_documents=2)  # type: ignore[arg-type]
    text = text_held_out(tokenizer, str(tmp_path / "text.txt"), CorpusConfig(train=["x"], document="line"))
    model = model_of(tokenizer)
    path = tmp_path / "rows.parquet"
    counts = write_rows(str(path), surprisal_rows(model, tokenizer, text, word_boundary="preceding"))
    rows = pq.read_table(path).to_pylist()
    tokens = [row for row in rows if row["level"] == "token"]
    found = [row for row in rows if row["level"] == "word"]
    ids = np.concatenate([tokenizer.start_ids, text.tokens[0 : len(text.tokens)]]).tolist()
    assert [row["nats"] for row in tokens] == pytest.approx(one_by_one(model, ids), rel=1e-10)
    assert counts == {"token": len(tokens), "word": len(found)} == {"token": len(ids) - 1, "word": 11}
    assert [(row["text"], row["document"], row["position"]) for row in found] == [
        (word, document, position) for document, line in enumerate(words) for position, word in enumerate(line)
    ]
    # a word has the nats of its tokens, so in each document the sums are equal
    for document in (0, 1):
        sums = [sum(row["nats"] for row in part if row["document"] == document) for part in (tokens, found)]
        assert sums[0] == pytest.approx(sums[1], rel=1e-12)
    assert list(tmp_path.glob(".writing*")) == []


@pytest.mark.parametrize(
    ("kind", "eos"),
    [("word", "line"), *((kind, eos) for kind in ("word", "char", "bpe") for eos in ("document", "none"))],
)
def test_lines_scored_by_themselves_have_the_nats_of_sentences(tmp_path: Path, kind: str, eos: str) -> None:
    lines = ["the cat sat", "the dogs  ran on a mat", "a", "the cat sat"]
    (tmp_path / "text.txt").write_text("\n".join(lines) + "\n")
    tokenizer = train_tokenizer(TokenizerConfig(kind=kind, eos=eos), [TEXT * 9], num_documents=2)  # type: ignore[arg-type]
    text = text_held_out(tokenizer, str(tmp_path / "text.txt"), CorpusConfig(train=["x"]), by_line=True)
    model = model_of(tokenizer)
    rows = list(surprisal_rows(model, tokenizer, text, word_boundary="preceding"))
    expected = sentence_nats(model, tokenizer, lines)
    for level in ("token", "word"):
        sums = [sum(row.nats for row in rows if (row.level, row.document) == (level, i)) for i in range(4)]
        assert sums == pytest.approx(expected, rel=1e-10)
    for line, document in zip(lines, range(4), strict=True):
        words = [row for row in rows if (row.level, row.document) == ("word", document)]
        found = [row.to_json()["text"] for row in words]
        assert found == line.split() + (["<eos>"] if tokenizer.eos_id is not None else [])
        assert [row.position for row in words] == list(range(len(words)))
    score = evaluate(model, text, streams=3, bptt=5)
    assert (score.nats, score.num_parts, score.layout) == (pytest.approx(sum(expected), rel=1e-10), 4, "documents")
    assert score.tokens == len(text.tokens) == sum(row.level == "token" for row in rows)
    num_words, num_ends = count_words(tokenizer, text.tokens, layout=text.layout)
    assert num_words + num_ends == sum(row.level == "word" for row in rows)


@pytest.mark.parametrize("at_once", [1, 2, 3, 4])
def test_the_ending_of_a_table_decides_its_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr("pipeline.evaluate.surprisal.ROWS_AT_ONCE", at_once)
    rows = [
        Row("token", b'a\t"', 0, 0, 0.5),
        Row("word", "é,\n".encode(), 3, 1, math.inf, b"\xc3", 1.5),
        Row("word", b"NA", 4, 0, 2.0),
    ]
    for ending in (".parquet", ".CSV", ".tsv"):
        assert write_rows(str(tmp_path / f"rows{ending}"), rows) == {"token": 1, "word": 2}
    expected = pq.read_table(tmp_path / "rows.parquet").to_pylist()
    assert expected[1] == {
        "level": "word", "text": "é,", "document": 3, "position": 1, "nats": math.inf, "unknown": "\ufffd",
        "entropy_nats": 1.5,
    }  # fmt: skip
    for ending, delimiter in ((".CSV", ","), (".tsv", "\t")):
        with (tmp_path / f"rows{ending}").open(encoding="utf-8", newline="") as file:
            found = list(csv.DictReader(file, delimiter=delimiter))
        assert [list(row) for row in found] == [list(row) for row in expected]
        for row, same in zip(found, expected, strict=True):
            assert (row["text"], row["unknown"], float(row["nats"])) == (
                same["text"],
                same["unknown"] or "",
                same["nats"],
            )
    for name in ("rows", "rows.txt", "rows.xlsx", "tsv"):
        with pytest.raises(UserError, match=r"^surprisal: .* must end with \.parquet, \.csv, \.tsv$"):
            write_rows(str(tmp_path / name), rows)


def test_a_label_can_have_the_name_of_a_field_that_is_not_a_column(tmp_path: Path) -> None:
    row = Row("word", b"a", 0, 0, 1.0, labels={"begin": "x", "data": "y"}, values={"nats": None, "length": 1})
    schema = pa.schema([*SCHEMA, ("begin", pa.string()), ("data", pa.string()), ("length", pa.int64())])
    write_rows(str(tmp_path / "rows.parquet"), [row], schema=schema)
    (found,) = pq.read_table(tmp_path / "rows.parquet").to_pylist()
    assert found == {
        "level": "word", "text": "a", "document": 0, "position": 0, "nats": None, "unknown": None,
        "entropy_nats": None, "begin": "x", "data": "y", "length": 1,
    }  # fmt: skip
    assert row.to_json() == {**found, "rank": None}


@pytest.mark.parametrize(
    ("kind", "tokens", "words"),
    [
        ("word", ["xylophone", "tuba"], [("<unk>", "xylophone"), ("<unk>", "tuba")]),
        (
            "char",
            ["x", "y", "l", "p", "u", "b"],
            [("\ufffd\ufffd\ufffdo\ufffdhone", "xylophone"), ("t\ufffd\ufffda", "tuba")],
        ),
    ],
)
@pytest.mark.parametrize("by_line", [True, False])
def test_unknown_text_has_its_own_column(
    tmp_path: Path, kind: str, tokens: list[str], words: list[tuple[str, str]], by_line: bool
) -> None:
    (tmp_path / "text.txt").write_text("the xylophone sat\n\non a tuba\n")
    tokenizer = train_tokenizer(TokenizerConfig(kind=kind), [TEXT], num_documents=1)  # type: ignore[arg-type]
    config = CorpusConfig(train=["x"])
    text = text_held_out(tokenizer, str(tmp_path / "text.txt"), config, by_line=by_line)
    rows = [row.to_json() for row in surprisal_rows(model_of(tokenizer), tokenizer, text)]
    unknown = [(row["level"], row["text"], row["unknown"]) for row in rows if row["unknown"] is not None]
    assert [own for level, _, own in unknown if level == "token"] == tokens
    assert [found[1:] for found in unknown if found[0] == "word"] == words
    assert [row["text"] for row in rows if row["level"] == "word" and row["unknown"] is None][:2] == ["the", "sat"]
    # a prepared split no longer has its text
    prepared = replace(text, own_texts=HeldOut.own_texts)
    assert {row.own for row in surprisal_rows(model_of(tokenizer), tokenizer, prepared)} == {None}


# the nats of " a  bb " by characters: at place i there are i nats, and −ln P of types within a word is i/100, of
# boundaries i/10, and of anything that ends a word 1/8
@pytest.mark.parametrize(
    ("convention", "before", "expected"),
    [
        # the white space at the end goes to the word before it
        ("preceding", Before.START, [3, 3 + 4 + 5 + 6 + 7]),
        # begins with white space, as anything here must; ends; the white space at the end belongs to no word
        ("corrected", Before.START, [3 - 1 / 8 + 1 / 8, 3 + 4 + 5 + 6 - 1 / 8 + 1 / 8]),
        # after a word that ends with its white space, nothing is known about what comes
        ("corrected", Before.CLOSED, [3 + 1 / 8, 3 + 4 + 5 + 6 - 1 / 8 + 1 / 8]),
        ("none", Before.START, [2, 5 + 6]),
    ],
)
def test_the_white_space_between_words_by_hand(convention: WordBoundary, before: Before, expected: list[float]) -> None:
    tokenizer = train_tokenizer(TokenizerConfig(kind="char", eos="none"), ["ab "], num_documents=1)
    words = Words(tokenizer, convention, before=before)
    places = [Place(i, within=i / 100, boundary=i / 10, over=1 / 8, entropy=i / 1000) for i in range(1, 9)]
    rows = [row for place, c in zip(places, " a  bb ", strict=False) for row in words.push(5, c.encode(), 0, place)]
    rows += words.finish(places[-1])
    assert [(row.data, row.nats) for row in rows] == [
        (data, pytest.approx(nats)) for data, nats in zip([b" a", b"  bb "], expected, strict=True)
    ]
    assert [(row.position, row.entropy_nats) for row in rows] == [(0, 0.001), (1, 0.003)]


@pytest.mark.parametrize(
    ("convention", "expected"),
    [
        ("preceding", [1, 2 + 3 + 4, 5, 6, 7]),
        # the first word is taken relative to all that begin like it; white space before the end belongs to the end
        ("corrected", [1 - 0.01 + 1 / 8, 2 + 3 - 1 / 8 + 1 / 8, 4 + 5 - 1 / 8, 6 - 0.06 + 1 / 8, 7 - 1 / 8]),
        # relative to the types that begin with white space
        ("none", [1, 2 - 0.2 + 3, 5, 6, 7]),
    ],
)
def test_ends_and_types_with_white_space_in_front_by_hand(convention: WordBoundary, expected: list[float]) -> None:
    tokenizer = train_tokenizer(TokenizerConfig(kind="bpe", eos="document"), ["ab "], num_documents=1)
    words = Words(tokenizer, convention)
    places = [Place(i, within=i / 100, boundary=i / 10, over=1 / 8, entropy=i / 1000) for i in range(1, 8)]
    end = tokenizer.eos_id or 0
    tokens = [(5, b"a"), (5, b" b"), (5, b"c"), (5, b"\n"), (end, b"<eos>"), (5, b"d"), (end, b"<eos>")]
    rows = [row for place, token in zip(places, tokens, strict=True) for row in words.push(*token, 0, place)]
    assert list(words.finish(places[-1])) == []
    assert [(row.data.strip(), row.nats) for row in rows] == [
        (data, pytest.approx(nats))
        for data, nats in zip([b"a", b"bc", b"<eos>", b"d", b"<eos>"], expected, strict=True)
    ]


def test_rows_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    def failing():  # type: ignore[no-untyped-def]
        yield from ()
        raise RuntimeError("the model broke")

    with pytest.raises(RuntimeError):
        write_rows(str(tmp_path / "rows.parquet"), failing())
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match=r"surprisal: .*cannot be written"):
        write_rows(str(tmp_path / "nowhere" / "rows.parquet"), [])


def with_added_bytes() -> HuggingFaceTokenizer:
    """A tokenizer like Llama's, with its byte types as special tokens, as ``BpeTrainer(special_tokens=...)`` makes."""
    engine = HuggingFaceTokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    engine.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    engine.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    engine.train_from_iterator(
        ["river", "stone", "quiet"] * 2, trainers.BpeTrainer(vocab_size=300, special_tokens=special)
    )
    return engine


def with_unknown_words() -> HuggingFaceTokenizer:
    """A tokenizer of words between white space, with ``[UNK]`` and no decoder, as in ``tokenizers``' quick tour."""
    engine = HuggingFaceTokenizer(models.WordLevel({"[UNK]": 0, "river": 1, "stone": 2, "quiet": 3}, unk_token="[UNK]"))
    engine.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    engine.add_special_tokens(["[UNK]"])
    return engine


@pytest.mark.parametrize(
    ("make", "text", "words", "num_words", "num_lines"),
    [
        (with_added_bytes, "river zürich 12\nstone quiet", ["river", "zürich", "12", "stone", "quiet"], 4, 1),
        (with_unknown_words, "river zzz yyy stone xxx\n", ["river", "[UNK]", "[UNK]", "stone", "[UNK]"], 4, 0),
    ],
)
def test_added_types_make_up_the_words_of_the_text(
    make: Callable[[], HuggingFaceTokenizer],
    text: str,
    words: list[str],
    num_words: int,
    num_lines: int,
    tmp_path: Path,
) -> None:
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    tokenizer = LoadedTokenizer("none", make())
    scored = text_held_out(tokenizer, str(tmp_path / "text.txt"), CorpusConfig(train=["x"]))
    rows = list(surprisal_rows(model_of(tokenizer), tokenizer, scored))
    assert [row.data.decode().strip() for row in rows if row.level == "word"] == words
    # the first token, which is the first word, is not scored
    assert count_words(tokenizer, scored.tokens) == (num_words, num_lines)
    ids = tokenizer.encode(text).tolist()
    written = "".join(text_of(tokenizer, ids))
    assert written.strip() == tokenizer.engine.decode(ids, skip_special_tokens=False)

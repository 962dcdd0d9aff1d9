"""The other columns of surprisal tables by hand: lags, lengths, frequencies, n-grams and ranks."""

import math
from pathlib import Path

import pytest

from pipeline.config import CorpusConfig
from pipeline.data.tokenizer import Tokenizer
from pipeline.evaluate import HeldOut, text_held_out
from pipeline.evaluate.columns import with_frequencies, with_lags, with_lengths, with_ngrams
from pipeline.evaluate.surprisal import surprisal_rows
from pipeline.evaluate.words import Row
from pipeline.ngram import train_ngram
from tests.evaluate.test_words import TOKENIZERS, log_probabilities, model_of
from tests.ngram.test_ngram import p_of, text_of

LINES = ["ab a  ba", "b", " ab ba ", "a ab a"]


def held_out(tokenizer: Tokenizer, folder: Path, lines: list[str], *, by_line: bool = True) -> HeldOut:
    (folder / "lines.txt").write_text("\n".join(lines) + "\n")
    return text_held_out(tokenizer, str(folder / "lines.txt"), CorpusConfig(train=["x"]), by_line=by_line)


def word(text: str, document: int, nats: float = 1.0, **facts: object) -> Row:
    return Row("word", text.encode(), document, 0, nats, **facts)  # type: ignore[arg-type]


# -- lags, lengths, frequencies, n-grams


def test_lags_stay_within_a_document_and_level() -> None:
    rows = [
        Row("token", b"a", 0, 0, 1.0), word("a", 0, 2.0), Row("token", b"b", 0, 1, 3.0), word("b", 0, 4.0),
        word("c", 0, 5.0), word("a", 1, 6.0), word("b", 1, 7.0),
    ]  # fmt: skip
    found = [(row.values["nats_lag1"], row.values["nats_lag2"]) for row in with_lags(rows)]
    assert found == [(None, None), (None, None), (1.0, None), (2.0, None), (4.0, 2.0), (None, None), (6.0, None)]


def test_lengths_and_frequencies_by_hand() -> None:
    rows = [
        word(" the", 0), word(" Zürich,", 0), word("<unk>", 0), word("<unk>", 0, own=b"cat"), word("New York", 0),
        word("<eos>", 0, is_end=True), Row("token", b"the", 0, 0, 1.0), word("\u3000cat", 0), word("cat\u00a0!", 0),
    ]  # fmt: skip
    counts = {"<unk>": 10, "<s>": 5, "</s>": 5, "the": 6, "cat": 4}
    found = [
        (row.values["length"], row.values["training_count"], row.values["log_frequency"])
        for row in with_frequencies(with_lengths(rows), counts)
    ]
    assert found == [
        (3, 6, math.log(6 / 20)), (7, 0, None), (None, None, None), (3, None, None), (8, None, None), (None, 5, None),
        (None, None, None), (4, 4, math.log(4 / 20)), (5, None, None),
    ]  # fmt: skip


def test_words_that_look_like_marks_are_unknown_to_ngrams() -> None:
    """As in the training text: they are not the beginning and end of a sentence, whose counts are others."""
    marks = [word("<s>", 0), word("</s>", 0)]
    counts = {"<unk>": 0, "<s>": 5, "</s>": 5, "a": 6}
    assert [row.values["training_count"] for row in with_frequencies(marks, counts)] == [None, None]
    model = train_ngram(text_of(["a b a b", "a b c"]), 2)
    found = [(row.values["ngram_nats"], row.values["ngram_order"]) for row in with_ngrams(marks, model)]
    assert found[0] == (pytest.approx(-math.log(p_of(model, "<s>", "<unk>"))), 0)
    assert found[1] == (pytest.approx(-math.log(p_of(model, "<unk>", "<unk>"))), 0)


def test_a_word_that_is_known_in_part_has_no_frequency() -> None:
    rows = [word("caf\ufffd", 0), word("cafe", 0), word("caf\ufffd", 0, own="café".encode())]
    found = with_frequencies(rows, {"<unk>": 3, "<s>": 1, "</s>": 1, "cafe": 2}, unknown="\ufffd")
    assert [row.values["training_count"] for row in found] == [None, 2, None]


def test_ngrams_start_over_with_each_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    model = train_ngram(text_of(["a b a b", "a b c", "b c a", "a"]), 3)
    rows = [
        word("a", 0), word(" b", 0), Row("token", b"b", 0, 0, 1.0), word("<eos>", 0, is_end=True), word(" c", 0),
        word("x", 1), word("b c", 1), word("<unk>", 1, own=b"a"),
    ]  # fmt: skip
    expected = [
        (p_of(model, "<s>", "a"), 2), (p_of(model, "<s>", "a", "b"), 3), None, (p_of(model, "a", "b", "</s>"), 3),
        (p_of(model, "<s>", "c"), 1), (p_of(model, "<s>", "<unk>"), 0),
        (p_of(model, "<s>", "<unk>", "b") * p_of(model, "<unk>", "b", "c"), 1), (p_of(model, "b", "c", "a"), 3),
    ]  # fmt: skip
    for at_once in (1, 2, 100):
        monkeypatch.setattr("pipeline.evaluate.columns.ROWS_AT_ONCE", at_once)
        for row, wanted in zip(with_ngrams(rows, model), expected, strict=True):
            if wanted is None:
                assert (row.values["ngram_nats"], row.values["ngram_order"]) == (None, None)
                continue
            assert row.values["ngram_nats"] == pytest.approx(-math.log(wanted[0]))
            assert row.values["ngram_order"] == wanted[1], row


# -- ranks


@pytest.mark.parametrize("name", ["word", "char", "bpe"])
def test_tokens_and_words_of_one_token_have_a_rank(name: str, tmp_path: Path) -> None:
    tokenizer = TOKENIZERS[name][0]()
    model = model_of(tokenizer)
    rows = list(surprisal_rows(model, tokenizer, held_out(tokenizer, tmp_path, LINES), ranks=True))
    ids = {i: tokenizer.encode_document(line).tolist() for i, line in enumerate(LINES)}
    num_single = 0
    for row in rows:
        log_p = log_probabilities(model, tokenizer, [ids[row.document]])[0]
        token = ids[row.document][row.position] if row.level == "token" else None
        if row.level == "word":
            start = sum(len(ids[i]) for i in range(row.document))
            if row.num_tokens > 1:
                assert row.to_json()["rank"] is None
                continue
            num_single += 1
            token, place = ids[row.document][row.begin - start], row.begin - start
        else:
            place = row.position
        assert row.to_json()["rank"] == 1 + int((log_p[place] > log_p[place, token]).sum())
    assert num_single >= 4
    assert all(row.rank is None for row in surprisal_rows(model, tokenizer, held_out(tokenizer, tmp_path, LINES)))

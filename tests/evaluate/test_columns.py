"""Columns beside surprisal, by hand, by enumeration, and one token at a time."""

import itertools
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.config import CorpusConfig, ModelConfig, TokenizerConfig
from pipeline.data.tokenizer import Tokenizer, train_tokenizer
from pipeline.errors import UserError
from pipeline.evaluate import HeldOut, text_held_out
from pipeline.evaluate.columns import (
    with_frequencies,
    with_lags,
    with_lengths,
    with_ngrams,
    with_word_entropies,
)
from pipeline.evaluate.next_words import MOST_TOKENS_LEFT, NextWords
from pipeline.evaluate.reading import Reading
from pipeline.evaluate.several import fields_of_runs, joined_rows
from pipeline.evaluate.surprisal import SCHEMA, surprisal_rows
from pipeline.evaluate.type_classes import classes_of_types, groups_of_types
from pipeline.evaluate.words import Known, Row
from pipeline.model.language_model import LanguageModel
from pipeline.ngram import train_ngram
from pipeline.scoring import scored_windows
from tests.evaluate.test_words import TOKENIZERS, is_one_word, log_probabilities, model_of, types_of, words_after
from tests.ngram.test_ngram import p_of, text_of

LINES = ["ab a  ba", "b", " ab ba ", "a ab a"]


def held_out(tokenizer: Tokenizer, folder: Path, lines: list[str], *, by_line: bool = True) -> HeldOut:
    (folder / "lines.txt").write_text("\n".join(lines) + "\n")
    return text_held_out(tokenizer, str(folder / "lines.txt"), CorpusConfig(train=["x"]), by_line=by_line)


def word(text: str, document: int, nats: float = 1.0, **facts: object) -> Row:
    return Row("word", text.encode(), document, 0, nats, **facts)  # type: ignore[arg-type]


# -- lags, lengths, frequencies, n-grams


def test_lags_are_of_the_same_document_and_level() -> None:
    rows = [
        Row("token", b"a", 0, 0, 1.0), word("a", 0, 2.0), Row("token", b"b", 0, 1, 3.0), word("b", 0, 4.0),
        word("c", 0, 5.0), word("a", 1, 6.0), word("b", 1, 7.0),
    ]  # fmt: skip
    found = [(row.values["nats_lag1"], row.values["nats_lag2"]) for row in with_lags(rows)]
    assert found == [(None, None), (None, None), (1.0, None), (2.0, None), (4.0, 2.0), (None, None), (6.0, None)]


def test_lengths_and_frequencies_by_hand() -> None:
    rows = [
        word(" the", 0), word(" Zürich,", 0), word("<unk>", 0), word("<unk>", 0, own=b"cat"), word("New York", 0),
        word("<eos>", 0, is_end=True), Row("token", b"the", 0, 0, 1.0),
    ]  # fmt: skip
    counts = {"<unk>": 10, "<s>": 5, "</s>": 5, "the": 6, "cat": 4}
    found = [
        (row.values["length"], row.values["training_count"], row.values["log_frequency"])
        for row in with_frequencies(with_lengths(rows), counts)
    ]
    assert found == [
        (3, 6, math.log(6 / 20)), (7, 0, None), (None, None, None), (3, None, None), (8, None, None), (None, 5, None),
        (None, None, None),
    ]  # fmt: skip


def test_ngrams_begin_anew_with_each_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_the_rank_is_that_of_a_word_of_one_token(name: str, tmp_path: Path) -> None:
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


# -- the entropy of the next word


@pytest.mark.parametrize("is_first", [False, True], ids=["later", "first"])
@pytest.mark.parametrize("name", [name for name in TOKENIZERS if name != "word"])
def test_the_entropy_of_the_next_word_is_that_of_all_words(name: str, is_first: bool) -> None:
    tokenizer = TOKENIZERS[name][0]()
    model = model_of(tokenizer)
    with torch.no_grad():  # words are short here, so that those that can be counted are nearly all
        for token in types_of(tokenizer):
            model.head.bias[token] += 2.5 if token == tokenizer.eos_id or tokenizer.decode_bytes(token).isspace() else 0
    *types, end = types_of(tokenizer)
    data = {i: tokenizer.decode_bytes(i) for i in types}
    context = [] if is_first else tokenizer.encode("ab a").tolist()
    most_tokens = int(math.log(3000, len(types)))
    strings = [list(s) for n in range(1, most_tokens + 1) for s in itertools.product(types, repeat=n)]
    units = [s for s in strings if is_one_word([data[i] for i in s])]
    spaces = [s for s in strings if not b"".join(data[i] for i in s).strip()]
    ends = [[*space, end] for space in [[], *spaces] if len(space) < most_tokens]
    classes = classes_of_types(tokenizer)
    is_closed = not is_first and data[context[-1]][-1:].isspace()
    known = Known.NOTHING if is_closed else Known.WITHIN if is_first and classes[units[0][0], 0] else Known.OVER
    if not is_closed:
        begins = [0] if known is Known.WITHIN else [1, 2]
        units, ends = ([s for s in part if classes[s[0], begins].any()] for part in (units, ends))
    p = np.array([math.exp(-row.nats) for row in words_after(model, tokenizer, context, [*units, *ends])])
    counted = float(-(p * np.log(p)).sum())

    ids = torch.tensor([[*tokenizer.start_ids.tolist(), *context]]).t()
    with torch.no_grad():
        hidden, state = model(ids, model.initial_state(1))
    before = None
    for mass in (0.5, 0.9, 0.999):
        (found,) = NextWords(model, tokenizer, mass=mass).entropies(hidden[-1], state, [known])
        assert mass <= found.mass <= 1 + 1e-9
        assert found.missing_nats == pytest.approx(
            (1 - found.mass) * MOST_TOKENS_LEFT * math.log(1 + classes[:, 0].sum()), abs=1e-9
        )
        assert found.nats + found.missing_nats > counted - 1e-9
        assert before is None or before <= found.nats + 1e-12  # more is found
        before = found.nats
    # what could not be counted has so much probability, as one outcome at least its own −p ln p
    rest = 1 - p.sum()
    assert 0 <= rest < 0.25
    assert counted - 0.01 < found.nats < counted + 0.01 - rest * math.log(rest) + rest * 10


def test_the_expansion_is_the_sum_over_words_exactly() -> None:
    """Of a language in which what comes next does not depend on what was before, so that a sum is known."""
    tokenizer = TOKENIZERS["char"][0]()
    model = model_of(tokenizer)
    space, *letters = tokenizer.encode(" ab").tolist()
    with torch.no_grad():
        for parameter in model.recurrence.parameters():
            parameter.zero_()
        model.head.bias.fill_(-90.0)
        model.head.bias[[space, *letters]] = torch.tensor([1.0, 0.0, 0.5]).double()
    p = torch.tensor([1.0, 0.0, 0.5]).double().softmax(0).tolist()
    hidden, state = torch.zeros(1, 6).double(), model.initial_state(1)
    (found,) = NextWords(model, tokenizer, mass=0.999999).entropies(hidden, state, [Known.WITHIN])
    # the first letter is one of two; then another comes, or with p[0] the word is over: 1 / p[0] times in the mean
    each = -sum(q * math.log(q) for q in (p[1] / (1 - p[0]), p[2] / (1 - p[0])))
    further = -sum(q * math.log(q) for q in p)
    assert found.nats == pytest.approx(each + further / p[0], rel=1e-4)
    assert found.nats < each + further / p[0]


@pytest.mark.parametrize("by_line", [True, False])
@pytest.mark.parametrize("name", ["char", "bpe", "unigram"])
def test_the_entropy_is_that_at_the_place_of_the_word(
    name: str, by_line: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.evaluate.columns.PLACES_AT_ONCE", 3)
    monkeypatch.setattr("pipeline.evaluate.reading.WINDOW_TOKENS", 4)
    tokenizer = TOKENIZERS[name][0]()
    model = model_of(tokenizer)
    reading = Reading(tokenizer, held_out(tokenizer, tmp_path, LINES, by_line=by_line))
    groups = groups_of_types(tokenizer, model)
    rows = list(
        with_word_entropies(
            reading.rows(scored_windows(model, reading.windows(), groups=groups)), model, reading, mass=0.7
        )
    )
    plain = surprisal_rows(model, tokenizer, reading.text)
    assert [(row.level, row.begin) for row in rows] == [(row.level, row.begin) for row in plain]
    words = [row for row in rows if row.level == "word"]
    next_words, places = NextWords(model, tokenizer, mass=0.7), reading.inputs_of(np.arange(len(reading.text.tokens)))
    for row, following in itertools.pairwise([*words, None]):
        assert row is not None
        stop = int(places[row.begin]) + 1
        start = int(np.flatnonzero(reading.places[:stop] == -1)[-1])
        with torch.no_grad():
            hidden, state = model(torch.from_numpy(reading.ids[start:stop, None]), model.initial_state(1))
        (expected,) = next_words.entropies(hidden[-1], state, [row.known])
        assert row.values["word_entropy_nats"] == pytest.approx(expected.nats, rel=1e-9)
        assert row.values["word_entropy_mass"] == pytest.approx(expected.mass, rel=1e-9)
        if following is None or following.document != row.document:
            assert row.values.get("entropy_reduction_nats") is None
        else:
            difference = expected.nats - following.values["word_entropy_nats"]  # type: ignore[operator]
            assert row.values["entropy_reduction_nats"] == pytest.approx(difference, abs=1e-9)


def test_a_model_of_words_has_the_entropy_of_its_types(tmp_path: Path) -> None:
    tokenizer = TOKENIZERS["word"][0]()
    model = model_of(tokenizer)
    text = held_out(tokenizer, tmp_path, LINES)
    rows = list(with_word_entropies(surprisal_rows(model, tokenizer, text), model, Reading(tokenizer, text)))
    for row, following in itertools.pairwise([row for row in rows if row.level == "word"]):
        assert row.values["word_entropy_nats"] == row.entropy_nats
        assert (row.values["word_entropy_missing_nats"], row.values["word_entropy_mass"]) == (0.0, 1.0)
        if row.document == following.document:
            assert row.values["entropy_reduction_nats"] == row.entropy_nats - following.entropy_nats  # type: ignore[operator]
        else:
            assert row.is_end
            assert row.values["entropy_reduction_nats"] is None


def test_words_that_are_never_over_are_refused() -> None:
    tokenizer = train_tokenizer(TokenizerConfig(kind="char", eos="none"), ["abab"], num_documents=1)
    model = LanguageModel(ModelConfig(hidden_size=4, num_layers=1), tokenizer.vocab_size)
    with pytest.raises(UserError, match="no type of the model's tokenizer shows where a word is over"):
        NextWords(model, tokenizer)


# -- several runs


def test_figures_of_several_runs_and_their_mean(tmp_path: Path) -> None:
    tokenizer = TOKENIZERS["word"][0]()
    text = held_out(tokenizer, tmp_path, LINES)
    models = [model_of(tokenizer), LanguageModel(ModelConfig(hidden_size=4, num_layers=1), tokenizer.vocab_size).eval()]
    alone = [list(surprisal_rows(model, tokenizer, text, ranks=True)) for model in models]
    rows = list(joined_rows(["a", "b"], [iter(part) for part in alone], tokens=True))
    assert len(rows) == len(alone[0])
    for row, one, other in zip(rows, *alone, strict=True):
        json = row.to_json()
        assert (json["nats_a"], json["nats_b"]) == (one.nats, other.nats)
        assert json["nats"] == row.nats == (one.nats + other.nats) / 2
        assert (json["rank_a"], json["rank_b"], json["rank"]) == (one.rank, other.rank, (one.rank + other.rank) / 2)  # type: ignore[operator]
        assert (json["text"], json["document"], json["position"]) == (one.to_json()["text"], one.document, one.position)
    names = [field.name for field in fields_of_runs([SCHEMA.field("nats")], ["a", "b"])]
    assert names == ["nats", "nats_a", "nats_b"]


def test_runs_of_other_tokens_have_the_same_words(tmp_path: Path) -> None:
    kinds = ["word", "bpe", "char"]
    tokenizers = [TOKENIZERS[kind][0]() for kind in kinds]
    tokenizers.append(train_tokenizer(TokenizerConfig(kind="char", eos="none"), LINES, num_documents=4))

    def rows_of(tokenizer: Tokenizer) -> Iterator[Row]:
        return surprisal_rows(model_with(tokenizer), tokenizer, held_out(tokenizer, tmp_path, LINES))

    rows = list(joined_rows([*kinds, "no end"], [rows_of(tokenizer) for tokenizer in tokenizers], tokens=False))
    texts = [row.to_json()["text"] for row in rows]
    assert texts == [word for line in LINES for word in [*line.split(), "<eos>"]]
    for row in rows:
        json = row.to_json()
        assert (json["nats_no end"] is None) == (json["nats"] is None) == math.isnan(row.nats) == row.is_end
        assert json["nats_bpe"] is not None


def model_with(tokenizer: Tokenizer) -> LanguageModel:
    torch.manual_seed(1)
    return LanguageModel(ModelConfig(hidden_size=4, num_layers=1), tokenizer.vocab_size).eval()


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (["a", "c"], "runs: one has 'b' as word 2 of document 1 where two has 'c' as word 2 of document 1; the words"),
        (
            ["a"],
            "runs: one has 'b' as word 2 of document 1 where two has no more words; the words of several runs must",
        ),
        (["a", "b", "c"], "runs: one has no more words where two has 'c' as word 3 of document 1"),
    ],
)
def test_other_words_are_refused(other: list[str], sentence: str) -> None:
    streams = [[Row("word", w.encode(), 0, i, 1.0) for i, w in enumerate(words)] for words in (["a", "b"], other)]
    with pytest.raises(UserError) as caught:
        list(joined_rows(["one", "two"], streams, tokens=False))
    assert str(caught.value).startswith(sentence)

"""The entropy of the next word against enumeration, a known sum, and a plain version."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.config import ModelConfig, TokenizerConfig
from pipeline.data.tokenizer import train_tokenizer
from pipeline.errors import UserError
from pipeline.evaluate.columns import with_word_entropies
from pipeline.evaluate.next_words import MOST_TOKENS_LEFT, NextWords
from pipeline.evaluate.reading import Reading
from pipeline.evaluate.surprisal import surprisal_rows
from pipeline.evaluate.type_classes import classes_of_types, groups_of_types
from pipeline.evaluate.words import Known
from pipeline.model.language_model import LanguageModel
from pipeline.scoring import scored_windows
from tests.evaluate.test_columns import LINES, held_out
from tests.evaluate.test_words import TOKENIZERS, is_one_word, model_of, types_of, words_after


@pytest.mark.parametrize("is_first", [False, True], ids=["later", "first"])
@pytest.mark.parametrize("name", [name for name in TOKENIZERS if name != "word"])
def test_the_entropy_of_the_next_word_equals_that_of_enumerated_words(name: str, is_first: bool) -> None:
    tokenizer = TOKENIZERS[name][0]()
    model = model_of(tokenizer)
    with torch.no_grad():  # makes words short, so that nearly all of them can be enumerated
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
        assert before is None or before <= found.nats + 1e-12  # more mass, more entropy
        before = found.nats
    # the words that were not enumerated have this probability; even as one outcome they add −p ln p
    rest = 1 - p.sum()
    assert 0 <= rest < 0.25
    assert counted - 0.01 < found.nats < counted + 0.01 - rest * math.log(rest) + rest * 10


def test_the_expansion_is_the_sum_over_words_exactly() -> None:
    """In a language whose next letter does not depend on the earlier ones, the sum is known."""
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
    # the first letter is one of two; then letters come until, with p[0], the word is over: 1 / p[0] draws on average
    each = -sum(q * math.log(q) for q in (p[1] / (1 - p[0]), p[2] / (1 - p[0])))
    further = -sum(q * math.log(q) for q in p)
    assert found.nats == pytest.approx(each + further / p[0], rel=1e-4)
    assert found.nats < each + further / p[0]


@pytest.mark.parametrize("by_line", [True, False])
@pytest.mark.parametrize("name", ["char", "bpe", "unigram"])
def test_each_word_has_the_entropy_at_its_place(
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


def test_tokenizers_whose_words_never_end_are_refused() -> None:
    tokenizer = train_tokenizer(TokenizerConfig(kind="char", eos="none"), ["abab"], num_documents=1)
    model = LanguageModel(ModelConfig(hidden_size=4, num_layers=1), tokenizer.vocab_size)
    with pytest.raises(UserError, match="no type of the model's tokenizer shows where a word is over"):
        NextWords(model, tokenizer)

"""A model whose state was reset at documents reads a text by itself as it reads a document amid others.

The <eos> before it predicts its first token, and leaves no state.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from pipeline import launch, run
from pipeline.config import Config, TokenizerConfig, TrainConfig
from pipeline.data.streams import ResetRule
from pipeline.data.tokenizer import Tokenizer, train_tokenizer
from pipeline.evaluate import HeldOut, evaluate, side_by_side
from pipeline.evaluate.columns import with_word_entropies
from pipeline.evaluate.next_words import NextWords
from pipeline.evaluate.reading import Reading
from pipeline.evaluate.side_by_side import sentence_nats
from pipeline.evaluate.surprisal import surprisal_rows
from pipeline.model.language_model import LanguageModel
from pipeline.training.checkpoint import load_model
from tests.evaluate.lone_texts import TEXTS, check_read_alone, held_out_texts, tokenizer_of_texts
from tests.evaluate.test_surprisal import model_of, one_by_one

RULE = ResetRule(at_documents=True)


@pytest.fixture
def tokenizer() -> Tokenizer:
    return tokenizer_of_texts()


@pytest.fixture
def text(tokenizer: Tokenizer) -> HeldOut:
    return held_out_texts(tokenizer)


@pytest.fixture
def model(tokenizer: Tokenizer) -> LanguageModel:
    model = model_of(tokenizer)
    model.reset_after = RULE.type_before(tokenizer)
    return model


def by_hand(model: LanguageModel, tokenizer: Tokenizer, text: str) -> list[float]:
    """The first token after <eos>; the others from the state that only the text has left."""
    ids = tokenizer.encode_document(text).tolist()
    return one_by_one(model, [tokenizer.start_ids[0], ids[0]]) + one_by_one(model, ids)


@pytest.mark.parametrize("pays", [True, False])
def test_sentences(model: LanguageModel, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, pays: bool) -> None:
    monkeypatch.setattr(side_by_side, "pays", lambda model, texts: pays)
    expected = [sum(by_hand(model, tokenizer, text)) for text in TEXTS]
    assert sentence_nats(model, tokenizer, TEXTS) == pytest.approx(expected, rel=1e-9)
    model.reset_after = None  # of a model that was trained without resets
    expected = [sum(one_by_one(model, [tokenizer.start_ids[0], *tokenizer.encode_document(text)])) for text in TEXTS]
    assert sentence_nats(model, tokenizer, TEXTS) == pytest.approx(expected, rel=1e-9)


def test_lines_and_stimuli(model: LanguageModel, tokenizer: Tokenizer, text: HeldOut) -> None:
    expected = [nats for text in TEXTS for nats in by_hand(model, tokenizer, text)]
    check_read_alone(model, tokenizer, text, expected, RULE, resets_first=True)


def test_in_running_text_all_but_the_first_tokens_have_the_same_nats(
    model: LanguageModel, tokenizer: Tokenizer, text: HeldOut
) -> None:
    rows = surprisal_rows(model, tokenizer, text, reset=RULE, word_boundary="preceding")
    tokens = [row for row in rows if row.level == "token"]
    expected = [nats for text in TEXTS for nats in by_hand(model, tokenizer, text)[1:]]
    assert [row.nats for row in tokens if row.position] == pytest.approx(expected, rel=1e-9)
    # the table has the tokens that perplexity counts, and the first one
    score = evaluate(model, text, streams=1, bptt=4, reset=RULE)
    assert sum(row.nats for row in tokens[1:]) == pytest.approx(score.nats, rel=1e-9)


def test_the_next_word_is_expanded_from_the_state_in_which_it_is_read(
    model: LanguageModel, tokenizer: Tokenizer, text: HeldOut
) -> None:
    next_words = NextWords(model, tokenizer, mass=0.1)
    for one in (text, replace(text, begin_id=tokenizer.eos_id)):
        reading = Reading(tokenizer, one, reset=RULE)
        rows = surprisal_rows(model, tokenizer, one, reset=RULE)
        found = list(with_word_entropies(rows, model, reading, mass=0.1))
        words = [row for row in found if row.level == "word" and row.document > 0 and row.position == 0]
        assert len(words) == len(TEXTS) - 1
        for word, before in zip(words, TEXTS, strict=False):
            ids = [*tokenizer.encode_document(before).tolist()] if one is text else [tokenizer.eos_id]
            zero = model.initial_state(1)
            with torch.no_grad():
                hidden, state = model(torch.tensor(ids)[:, None], zero)
            expected, other = (next_words.entropies(hidden[-1], each, [word.known])[0].nats for each in (zero, state))
            assert word.values["word_entropy_nats"] == pytest.approx(expected, rel=1e-9)
            assert expected != pytest.approx(other, rel=1e-6)


def test_only_an_eos_of_documents_tells_where_they_end(tokenizer: Tokenizer) -> None:
    lines = train_tokenizer(TokenizerConfig(kind="word"), ["a b\nb a\n"], num_documents=2)
    alone = train_tokenizer(TokenizerConfig(kind="char"), ["a b\nb a\n"], num_documents=1)
    assert [one.eos for one in (lines, alone)] == ["line", "none"]
    assert [RULE.type_before(one) for one in (lines, alone, tokenizer)] == [None, None, tokenizer.eos_id]
    assert ResetRule.of(TrainConfig(reset_state="windows")).type_before(tokenizer) is None


def test_a_run_and_what_loads_it_know(make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int | None] = []
    monkeypatch.setattr(run, "write_sample", lambda model, *_, **__: str(seen.append(model.reset_after)))
    changes: dict[str, Any] = {"corpus.document": "line", "train.max_steps": 1}
    for rule in ("document", "never"):
        directory = f"{make_config().run.directory}-{rule}"
        config = make_config({**changes, "train.reset_state": rule, "run.directory": directory})
        launch.train(config, launch.in_process)
        loaded = load_model(str(config.run.directory))
        seen.append(loaded.model.reset_after)
    assert loaded.tokenizer.eos_id is not None
    assert seen == [loaded.tokenizer.eos_id, loaded.tokenizer.eos_id, None, None]

"""A model whose state was reset every few windows reads and writes any text so, counted from its first token.

What is read before a text predicts its first token, and leaves no state.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from pipeline import launch, run
from pipeline.config import Config, ModelConfig
from pipeline.data.streams import ResetRule
from pipeline.data.tokenizer import Ids, Tokenizer
from pipeline.evaluate import HeldOut, evaluate, side_by_side
from pipeline.evaluate.side_by_side import sentence_nats
from pipeline.evaluate.surprisal import surprisal_rows
from pipeline.generate.beam import beam_search
from pipeline.generate.sampler import Sampler, sample_tokens
from pipeline.model.language_model import LanguageModel
from pipeline.options import Sampling
from pipeline.training.checkpoint import load_model
from tests.evaluate.lone_texts import TEXTS, check_read_alone, held_out_texts, tokenizer_of_texts
from tests.evaluate.test_surprisal import model_of, one_by_one

EVERY = 3
RULE = ResetRule(every_tokens=EVERY)


@pytest.fixture
def tokenizer() -> Tokenizer:
    return tokenizer_of_texts()


@pytest.fixture
def text(tokenizer: Tokenizer) -> HeldOut:
    return held_out_texts(tokenizer)


@pytest.fixture
def model(tokenizer: Tokenizer) -> LanguageModel:
    model = model_of(tokenizer)
    model.reset_every = EVERY
    return model


def by_hand(model: LanguageModel, tokenizer: Tokenizer, ids: Ids) -> list[float]:
    """The first token after what a text begins with; every ``EVERY`` others from the state that they have left."""
    found = one_by_one(model, [int(tokenizer.start_ids[0]), int(ids[0])])
    for begin in range(0, len(ids), EVERY):
        found += one_by_one(model, ids[begin : begin + EVERY + 1].tolist())
    return found


@pytest.mark.parametrize("pays", [True, False])
def test_sentences(model: LanguageModel, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, pays: bool) -> None:
    monkeypatch.setattr(side_by_side, "pays", lambda model, texts: pays)
    expected = [sum(by_hand(model, tokenizer, tokenizer.encode_document(text))) for text in TEXTS]
    assert sentence_nats(model, tokenizer, TEXTS) == pytest.approx(expected, rel=1e-9)


def test_lines_and_stimuli(model: LanguageModel, tokenizer: Tokenizer, text: HeldOut) -> None:
    expected = [nats for text in TEXTS for nats in by_hand(model, tokenizer, tokenizer.encode_document(text))]
    check_read_alone(model, tokenizer, text, expected, RULE, reset_every=EVERY)


def test_the_table_of_surprisal_has_what_perplexity_counts_and_the_first_token(
    model: LanguageModel, tokenizer: Tokenizer, text: HeldOut
) -> None:
    rows = surprisal_rows(model, tokenizer, text, reset=RULE, word_boundary="preceding")
    found = [row.nats for row in rows if row.level == "token"]
    assert found == pytest.approx(by_hand(model, tokenizer, text.tokens[0 : len(text.tokens)]), rel=1e-9)
    assert sum(found[1:]) == pytest.approx(evaluate(model, text, streams=1, bptt=4, reset=RULE).nats, rel=1e-9)


@pytest.mark.parametrize("num_before", [0, 1])
@pytest.mark.parametrize("length", [1, 2, 3, 4, 7])
def test_texts_that_are_written(model: LanguageModel, num_before: int, length: int) -> None:
    prompt = np.random.default_rng(length).integers(0, 5, length)
    ids = prompt.tolist()
    for _ in range(8):
        begin = num_before + (len(ids) - 1 - num_before) // EVERY * EVERY if len(ids) > num_before else 0
        hidden, _ = model(torch.tensor(ids[begin:])[:, None], model.initial_state(1))
        ids.append(int(model.head.logits(hidden[-1]).argmax()))
    how: dict[str, Any] = {"num_tokens": 8, "num_before": num_before}
    drawn = list(sample_tokens(model, prompt, seed=1, sampling=Sampling(temperature=0), **how))
    assert drawn == ids[length:]
    assert list(beam_search(model, prompt, num_beams=1, **how).tokens) == ids[length:]


@pytest.mark.parametrize(
    "kind",
    [
        {"cell": "qrnn"}, {"cell": "slstm", "num_heads": 2}, {"cell": "mingru"}, {"attention": 1, "context": 5},
        {"cell": "transformer", "num_heads": 2, "context": 5},
        {"cell": "transformer", "num_heads": 2, "context": 0, "block_size": 4},
    ],
    ids=str,
)  # fmt: skip
def test_every_kind_of_state_is_reset(kind: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = LanguageModel(ModelConfig(hidden_size=8, num_layers=2, init_range=1.0, **kind), 7).double().eval()
    model.reset_every = EVERY
    prompts = [np.array([1]), np.array([2, 4]), np.array([1, 3, 2, 4, 6])]
    sampler = Sampler(model, prompts, seed=1, sampling=Sampling(temperature=0))
    drawn = np.array([sampler.next() for _ in range(8)]).T  # (B, tokens)
    for prompt, found in zip(prompts, drawn.tolist(), strict=True):
        ids = prompt.tolist()
        for _ in found:
            with torch.no_grad():
                whole = torch.tensor(ids[(len(ids) - 1) // EVERY * EVERY :])[:, None]
                hidden, _ = model(whole, model.initial_state(1))
            ids.append(int(model.head.logits(hidden[-1]).argmax()))
        assert found == ids[len(prompt) :]


def test_each_of_several_texts_has_its_own_place(model: LanguageModel) -> None:
    prompts = [np.array([1]), np.array([2, 4]), np.array([1, 3, 2, 4])]
    how: dict[str, Any] = {"seed": 1, "sampling": Sampling()}
    expected = [list(sample_tokens(model, prompt, num_tokens=7, **how)) for prompt in prompts]
    sampler = Sampler(model, prompts, **how)
    found = [sampler.next() for _ in range(3)]
    sampler.keep([0, 2])
    found += [[first, 0, last] for first, last in (sampler.next() for _ in range(4))]
    columns = [list(column) for column in zip(*found, strict=True)]
    assert columns[::2] == expected[::2]
    assert columns[1][:3] == expected[1][:3]


def test_a_run_and_what_loads_it_know(make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int | None] = []
    monkeypatch.setattr(run, "write_sample", lambda model, *_, **__: str(seen.append(model.reset_every)))
    config = make_config({"train.reset_state": "windows", "train.reset_every_windows": 2, "train.max_steps": 1})
    launch.train(config, launch.in_process)
    seen.append(load_model(str(config.run.directory)).model.reset_every)
    assert seen == [2 * config.train.bptt] * 2

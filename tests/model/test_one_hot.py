"""Models with few types train on one-hot inputs: same figures, same gradients, and only where nothing else differs."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.config import ModelConfig
from pipeline.model.language_model import LanguageModel
from pipeline.model.recurrence import Recurrence
from pipeline.model.regularization import Masks
from pipeline.model.segments import Segments

VOCAB, TIME, STREAMS, SIZE = 6, 9, 4, 12
DROPOUTS = {"embedding_dropout": 0.3, "hidden_dropout": 0.2, "weight_dropout": 0.4, "output_dropout": 0.1}


def make(vocab_size: int = VOCAB, **settings: Any) -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(ModelConfig(**{"hidden_size": SIZE, "num_layers": 2, **settings}), vocab_size).double()


def widths(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that receives how many numbers wide the inputs are on which the recurrence runs."""
    found: list[int] = []
    run = Recurrence.run

    def noted(self: Recurrence, inputs: Tensor, *rest: Any) -> Any:
        found.append(inputs.shape[-1])
        return run(self, inputs, *rest)

    monkeypatch.setattr(Recurrence, "run", noted)
    return found


@pytest.mark.parametrize("resets", [False, True])
@pytest.mark.parametrize("settings", [{}, DROPOUTS, {"tie_weights": True, "mode": "eval"}])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_results_and_gradients_are_those_of_the_embeddings(
    cell: str, settings: dict[str, Any], resets: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    settings = dict(settings)
    is_training = settings.pop("mode", "train") == "train"
    for is_used in (False, True):
        model = make(cell=cell, **settings).train(is_training)
        seen = widths(model, monkeypatch)
        if not is_used:
            monkeypatch.setattr(Recurrence, "takes_one_hot", lambda self, vocab_size: False)
        tokens = torch.randint(VOCAB, (TIME, STREAMS), generator=torch.Generator().manual_seed(1))
        begin = tuple(torch.randn_like(part).requires_grad_() for part in model.initial_state(STREAMS))
        starts = np.zeros((TIME, STREAMS), dtype=bool)
        starts[3, 1] = starts[0, 2] = starts[5, 2] = True
        segments = Segments(starts, device=torch.device("cpu")) if resets else None
        hidden, end = model(tokens, begin, segments, Masks(5, STREAMS, range(STREAMS)))
        (model.head.loss(hidden, tokens) + sum(part.square().sum() for part in end)).backward()
        assert seen == [VOCAB if is_used else SIZE]
        found.append([hidden, *end, *(leaf.grad for leaf in (*begin, *model.parameters()))])
        monkeypatch.undo()
    for one_hot, embedded in zip(*found, strict=True):
        torch.testing.assert_close(one_hot, embedded, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "settings",
    [
        {"input_dropout": 0.1},
        {"dropout": 0.1},
        {"layer_norm": True},
        {"residual": True},
        {"cell": "mingru"},
        {"mogrifier_rounds": 2},
        {"embedding_size": 11},
        {"vocab_size": 7},
    ],
)
def test_embeddings_are_used_where_something_else_reads_them(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make(**settings)
    seen = widths(model, monkeypatch)
    model(torch.zeros(TIME, STREAMS, dtype=torch.int64), model.initial_state(STREAMS))
    assert seen == [model.embedding.embedding_dim]


def test_embeddings_are_used_without_gradients_and_for_few_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make()
    seen = widths(model, monkeypatch)
    with torch.no_grad():
        model(torch.zeros(TIME, STREAMS, dtype=torch.int64), model.initial_state(STREAMS))
    model(torch.zeros(1, VOCAB - 1, dtype=torch.int64), model.initial_state(VOCAB - 1))
    assert seen == [SIZE, SIZE]


def test_dropout_of_inputs_does_not_matter_outside_training(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make(input_dropout=0.1).eval()
    seen = widths(model, monkeypatch)
    model(torch.zeros(TIME, STREAMS, dtype=torch.int64), model.initial_state(STREAMS))
    assert seen == [VOCAB]

"""Streams that are reset within a window, against each stretch run alone."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.config import ModelConfig
from pipeline.model.language_model import LanguageModel
from pipeline.model.segments import Segments
from tests.model.reference import SETTINGS

T, B, VOCAB = 9, 4, 11
CPU = torch.device("cpu")


def resets_at(*places: tuple[int, int]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    mask = np.zeros((T, B), dtype=bool)
    for step, stream in places:
        mask[step, stream] = True
    return mask


RESETS = {
    "several in one stream": resets_at((0, 1), (3, 1), (4, 1), (8, 1), (5, 3)),
    "every stream": resets_at((2, 0), (7, 1), (1, 2), (8, 3)),
    "at the first step only": resets_at((0, 0), (0, 2)),
    "everywhere": np.ones((T, B), dtype=bool),
    "nowhere": resets_at(),
}


def alone(model: LanguageModel, tokens: torch.Tensor, state: Any, resets: Any) -> tuple[torch.Tensor, Any]:
    """Run each stream by itself, and each of its stretches as one call of the plain model."""
    outputs, ends = [], []
    for stream in range(B):
        own = tuple(part[:, stream : stream + 1] for part in state)
        cuts = sorted({0, *np.flatnonzero(resets[:, stream]).tolist(), T})
        parts = []
        for begin, end in itertools.pairwise(cuts):
            if resets[begin, stream]:
                own = model.initial_state(1)
            hidden, own = model(tokens[begin:end, stream : stream + 1], own)
            parts.append(hidden)
        outputs.append(torch.cat(parts))
        ends.append(own)
    return torch.cat(outputs, dim=1), tuple(torch.cat(parts, dim=1) for parts in zip(*ends, strict=True))


def grads(model: LanguageModel, hidden: torch.Tensor, state: Any) -> list[torch.Tensor]:
    """Gradients of a sum that weights every output and every number of the final state differently."""
    generator = torch.Generator().manual_seed(3)
    total = torch.zeros((), dtype=hidden.dtype)
    for part in (hidden, *state):
        total = total + (part * torch.randn(part.shape, generator=generator, dtype=part.dtype)).sum()
    return list(torch.autograd.grad(total, list(model.recurrence.parameters())))


@pytest.mark.parametrize("cell", SETTINGS)
@pytest.mark.parametrize("name", RESETS)
def test_each_stretch_is_as_if_run_alone(cell: Any, name: str) -> None:
    torch.manual_seed(0)
    settings = {**SETTINGS[cell], "hidden_size": 5, "num_layers": 2, "qrnn_wide_layers": "all"}
    model = LanguageModel(ModelConfig(**settings), VOCAB).double()
    tokens = torch.randint(VOCAB, (T, B))
    state = tuple(torch.randn(2, B, 5, dtype=torch.float64) for _ in model.initial_state(1))
    expected, expected_end = alone(model, tokens, state, RESETS[name])
    found, found_end = model(tokens, state, Segments(RESETS[name], device=CPU))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found_end, expected_end, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        grads(model, found, found_end), grads(model, expected, expected_end), rtol=1e-11, atol=1e-11
    )


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_float32_kernels_keep_the_end_state_of_shorter_rows(cell: Any) -> None:
    torch.manual_seed(0)
    model = LanguageModel(ModelConfig(cell=cell, hidden_size=16, num_layers=1, dropout=0.0), VOCAB)
    tokens, resets = torch.randint(VOCAB, (T, B)), RESETS["several in one stream"]
    state = tuple(torch.randn(1, B, 16) for _ in model.initial_state(1))
    expected, expected_end = alone(model, tokens, state, resets)
    found, found_end = model(tokens, state, Segments(resets, device=CPU))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found_end, expected_end, rtol=1e-5, atol=1e-6)


def test_there_are_as_many_rows_as_streams_and_resets_within_the_window() -> None:
    resets = RESETS["several in one stream"]  # five resets, one of them at the beginning of the window
    assert Segments(resets, device=CPU).num_rows == B + 4

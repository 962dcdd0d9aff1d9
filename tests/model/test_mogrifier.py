"""The Mogrifier LSTM against its equations, and the settings with which it is the plain LSTM."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipeline.config import load
from pipeline.model.cpu.mogrified_lstm import MogrifiedLSTM
from pipeline.model.mogrifier import MogrifierLSTM
from pipeline.model.recurrence import Recurrence
from tests.model.reference import mogrifier_step

T, B, E, H = 6, 3, 5, 4
DOUBLE = {"dtype": torch.float64}


def make(num_rounds: int, rank: int | None = None) -> MogrifierLSTM:
    torch.manual_seed(num_rounds)
    layer = MogrifierLSTM(E, H, num_rounds=num_rounds, rank=rank).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.uniform_(-0.8, 0.8)
    return layer


def window() -> tuple[Tensor, tuple[Tensor, ...]]:
    torch.manual_seed(0)
    inputs, *state = (torch.randn(shape, **DOUBLE).requires_grad_() for shape in [(T, B, E), (1, B, H), (1, B, H)])
    return inputs, tuple(state)


@pytest.mark.parametrize("rank", [None, 2])
@pytest.mark.parametrize("num_rounds", [1, 2, 3, 4, 5])
def test_outputs_and_gradients_are_those_of_the_equations(num_rounds: int, rank: int | None) -> None:
    layer = make(num_rounds, rank)
    inputs, start = window()
    state, steps = [part[0] for part in start], []
    for x in inputs:
        state = mogrifier_step(x, state, layer, None)
        steps.append(state[0])
    found, (hidden, cell) = layer(inputs, start)
    torch.testing.assert_close([found, hidden[0], cell[0]], [torch.stack(steps), *state], rtol=1e-11, atol=1e-12)
    leaves = [inputs, *start, *layer.parameters()]
    weights = torch.linspace(-1, 1, found.numel(), **DOUBLE).view(found.shape)
    gradients = [
        torch.autograd.grad((outputs * weights).sum() + (end * weights[0]).pow(2).sum(), leaves)
        for outputs, end in ((found, cell[0]), (torch.stack(steps), state[1]))
    ]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("num_rounds", [1, 2, 3])
@pytest.mark.parametrize("resets", [None, [[0, 1], [0, 0], [1, 0]]])
def test_gradcheck(num_rounds: int, resets: Any) -> None:
    torch.manual_seed(0)
    where = None if resets is None else torch.tensor(resets, dtype=torch.bool)
    mixers = [(3, 2) if index % 2 == 0 else (2, 3) for index in range(num_rounds)]
    shapes = [(3, 2, 3), (2, 2), (2, 2), (8, 3), (8, 2), (8,), *mixers]
    inputs, hidden, cell, *weights = (torch.randn(shape, **DOUBLE).requires_grad_() for shape in shapes)

    def run(inputs: Tensor, hidden: Tensor, cell: Tensor, *weights: Tensor) -> Any:
        return MogrifiedLSTM.apply(inputs, hidden, cell, where, *weights)

    assert torch.autograd.gradcheck(run, (inputs, hidden, cell, *weights), fast_mode=True)


def test_rounds_with_zero_matrices_equal_no_rounds() -> None:
    """With zero matrices all gates are 2σ(0) = 1, which is torch's LSTM."""
    layer, plain = make(4), nn.LSTM(E, H, **DOUBLE)
    with torch.no_grad():
        for mixer in layer.mixers:
            mixer.zero_()
        for name, parameter in (("weight_ih", layer.weight), ("weight_hh", layer.weight_hh), ("bias_ih", layer.bias)):
            getattr(plain, f"{name}_l0").copy_(parameter)
        plain.bias_hh_l0.zero_()
    inputs, state = window()
    expected, end = plain(inputs, state)
    found, found_end = layer(inputs, state)
    torch.testing.assert_close([found, *found_end], [expected, *end], rtol=1e-12, atol=1e-13)


def test_without_rounds_it_is_torch_s_lstm() -> None:
    (layer,) = Recurrence("lstm", input_size=E, hidden_sizes=[H]).layers
    assert type(layer) is nn.LSTM


@pytest.mark.parametrize("rank", [None, 8])
def test_float32_stays_near_float64(rank: int | None) -> None:
    torch.manual_seed(0)
    layer = Recurrence("lstm", input_size=16, hidden_sizes=[24], mogrifier_rounds=5, mogrifier_rank=rank)
    inputs, results = torch.randn(200, B, 16), []
    for dtype in (torch.float32, torch.float64):
        state = layer.initial_state(B, device=inputs.device, dtype=dtype)
        hidden, _ = layer.to(dtype)(inputs.to(dtype), state)
        results.append([hidden, *torch.autograd.grad(hidden.square().mean(), list(layer.parameters()))])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            "cell=gru mogrifier_rounds=5",
            "model.mogrifier_rounds: 5, but only model.cell=lstm has them, not gru",
        ),
        ("mogrifier_rank=8", "model.mogrifier_rank: 8, but model.mogrifier_rounds is 0"),
        (
            "mogrifier_rounds=2 mogrifier_rank=8 hidden_size=16 embedding_size=8",
            "model.mogrifier_rank: must be less than 8, the smallest size of inputs and layers, not 8",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(overrides: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=r"^model") as caught:
        load(None, [f"model.{override}" for override in overrides.split()])
    assert str(caught.value) == sentence

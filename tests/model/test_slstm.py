"""The sLSTM against its equations, with and without the paper's stabiliser, and the meaning of its state."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.config import ModelConfig, load
from pipeline.model.cpu.looped_slstm import LoopedSLSTM
from pipeline.model.language_model import LanguageModel
from pipeline.model.recurrence import Recurrence
from pipeline.model.slstm import SLSTM
from tests.model.reference import slstm_step, zero_state

T, B, E, H = 7, 3, 5, 6
DOUBLE = {"dtype": torch.float64}


def make(num_heads: int = 2, *, forget_gate: str = "sigmoid") -> SLSTM:
    torch.manual_seed(num_heads)
    layer = SLSTM(E, H, num_heads=num_heads, is_exponential=forget_gate == "exponential").double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.uniform_(-1.2, 1.2)
    return layer


def zeros() -> tuple[Tensor, ...]:
    return (torch.zeros(1, B, H, **DOUBLE),) * 3


@pytest.mark.parametrize("forget_gate", ["sigmoid", "exponential"])
@pytest.mark.parametrize("num_heads", [1, 2, 3, 6])
def test_outputs_states_and_gradients_are_those_of_the_equations(num_heads: int, forget_gate: str) -> None:
    layer, inputs = make(num_heads, forget_gate=forget_gate), torch.randn(T, B, E, **DOUBLE)
    state, steps = zero_state(layer, B), []
    for x in inputs:
        state = slstm_step(x, state, layer, None)
        steps.append(state[0])
    found, (hidden, average, log) = layer(inputs, zeros())
    expected = [torch.stack(steps), state[1], state[2] / state[3], state[3].log()]
    ours = [found, hidden[0], average[0], log[0]]
    torch.testing.assert_close(ours, expected, rtol=1e-11, atol=1e-12)
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(part.shape, generator=generator, **DOUBLE) for part in expected]
    gradients = [
        torch.autograd.grad(sum((w * p).sum() for w, p in zip(weights, parts, strict=True)), list(layer.parameters()))  # type: ignore[arg-type]
        for parts in (ours, expected)
    ]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("is_exponential", [False, True])
@pytest.mark.parametrize("resets", [None, [[0, 1, 0], [0, 0, 0], [1, 0, 0], [0, 1, 0]]])
def test_gradcheck(resets: Any, is_exponential: bool) -> None:
    torch.manual_seed(0)
    where = None if resets is None else torch.tensor(resets, dtype=torch.bool)
    shapes = [(4, B, 4 * 4), (4 * 4, 2), (B, 4), (B, 4), (B, 4)]
    values = [torch.randn(shape, **DOUBLE) for shape in shapes]
    values[4][0] = 0  # one stream has read nothing, a value that finite differences must not change
    values = [part.requires_grad_() for part in values]

    def run(products: Tensor, weight: Tensor, hidden: Tensor, average: Tensor, log: Tensor) -> Any:
        log = torch.cat([torch.zeros_like(log[:1]), log[1:]])
        return LoopedSLSTM.apply(products, weight, hidden, average, log, where, is_exponential)

    assert torch.autograd.gradcheck(run, values, fast_mode=True)
    parts = LoopedSLSTM.apply(*values, where, is_exponential)
    (gradient,) = torch.autograd.grad(sum(part.sum() for part in parts), values[4])
    assert gradient[0].eq(0).all()
    assert gradient[1:].ne(0).any()


def paper(sums: Tensor, *, is_exponential: bool) -> list[Tensor]:
    """(T, N, 4) sums of f, i, z, o before their activations → h, c, n, m, (T, N) each, by equations 8 to 17."""
    c, n = torch.zeros_like(sums[0, :, 0]), torch.zeros_like(sums[0, :, 0])
    m, steps = torch.full_like(c, -torch.inf), []
    for f, i, z, o in (step.unbind(-1) for step in sums):
        log_f = f if is_exponential else F.logsigmoid(f)
        largest = torch.maximum(log_f + m, i)
        i, f, m = torch.exp(i - largest), torch.exp(log_f + m - largest), largest
        c, n = f * c + i * torch.tanh(z), f * n + i
        steps.append([torch.sigmoid(o) * c / n, c, n, m])
    return [torch.stack(part) for part in zip(*steps, strict=True)]


@pytest.mark.parametrize("is_exponential", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_gates_of_any_size_equal_the_paper_s_stabilised_form(dtype: torch.dtype, is_exponential: bool) -> None:
    """Over 300 steps, with input gates of exp(±300) and closed forget gates, for which the plain form overflows."""
    torch.manual_seed(0)
    sums = torch.randn(300, 8, 4, **DOUBLE) * torch.tensor([20.0, 100, 1, 1], **DOUBLE)
    sums = sums.float().double()  # the same numbers in both formats
    expected = paper(sums, is_exponential=is_exponential)
    products = sums.to(dtype).view(300, 8, 4).requires_grad_()  # 8 streams and one unit, whose weight is 0
    weight, start = torch.zeros(4, 1, dtype=dtype), torch.zeros(8, 1, dtype=dtype)
    hidden, average, log = LoopedSLSTM.apply(products, weight, start, start, start, None, is_exponential)
    # float32 resolves exponents of ±300 to 300 · 6e-8
    tolerance = {"rtol": 1e-10, "atol": 1e-10} if dtype == torch.float64 else {"rtol": 1e-3, "atol": 1e-3}
    torch.testing.assert_close(hidden[..., 0].double(), expected[0], **tolerance)
    torch.testing.assert_close(average[:, 0].double(), (expected[1] / expected[2])[-1], **tolerance)
    torch.testing.assert_close(log[:, 0].double(), (expected[3] + expected[2].log())[-1], **tolerance)
    (gradient,) = torch.autograd.grad(hidden.sum(), products)
    assert gradient.isfinite().all()


def test_a_normaliser_of_one_is_not_taken_for_none() -> None:
    """With ĩ = 0 the first step leaves n = 1, whose logarithm, 0, also marks a stream that has read nothing."""
    layer = make(1)
    with torch.no_grad():
        for parameter in (layer.weight_hh, layer.weight, layer.bias):
            parameter.zero_()
        layer.bias[2 * H : 3 * H] = 1.0  # z
        layer.weight[2 * H : 3 * H] = 0.5
    inputs = torch.ones(2, B, E, **DOUBLE)
    whole, _ = layer(inputs, zeros())
    first, state = layer(inputs[:1], zeros())
    second, state = layer(inputs[1:], state)
    assert torch.equal(torch.cat([first, second]), whole)
    torch.testing.assert_close(state[2].exp(), torch.full((1, B, H), 1.5, **DOUBLE))  # n = σ(0) · 1 + 1
    state = tuple(torch.zeros(B, H, **DOUBLE) for _ in range(3))
    for x in inputs:
        output, state = layer.step(x, state)
    torch.testing.assert_close(output, whole[1])
    torch.testing.assert_close(state[2].exp(), torch.full((B, H), 1.5, **DOUBLE))


def test_units_see_only_those_of_their_own_head() -> None:
    layer = make(3)
    hidden = torch.randn(1, B, H, **DOUBLE, requires_grad=True)
    rest = tuple(torch.randn(1, B, H, **DOUBLE) for _ in range(2))
    _, (after, _, _) = layer(torch.randn(1, B, E, **DOUBLE), (hidden, *rest))
    for unit in range(H):
        (gradient,) = torch.autograd.grad(after[0, 0, unit], hidden, retain_graph=True)
        assert (gradient[0, 0] != 0).tolist() == [unit // 2 == other // 2 for other in range(H)]


def test_norms_start_at_one_and_ignore_the_initial_range() -> None:
    layers = Recurrence("slstm", input_size=E, hidden_sizes=[64, 64], num_heads=4)
    for layer in layers.layers:
        for name, parameter in layer.named_parameters():
            if name == "head_norm":
                assert parameter.eq(1).all()
            else:
                assert 0.9 / 8 < parameter.abs().max() <= 1 / 8
    model = LanguageModel(ModelConfig(cell="slstm", hidden_size=64, num_layers=1, num_heads=4, init_range=0.05), 11)
    for name, parameter in model.recurrence.named_parameters():
        if name.endswith("head_norm"):
            assert parameter.eq(1).all()
        else:
            assert 0.04 < parameter.abs().max() <= 0.05


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            "cell=slstm hidden_size=650",
            "model.num_heads: a layer of 650 units (model.hidden_size) does not divide into 4 equal heads",
        ),
        (
            "cell=slstm hidden_size=[8,9] num_heads=2",
            "model.num_heads: a layer of 9 units (model.hidden_size) does not divide into 2 equal heads",
        ),
        ("cell=gru num_heads=2", "model.num_heads: 2, but model.cell=gru is neither slstm nor transformer"),
        ("slstm_forget_gate=exponential", "model.slstm_forget_gate: exponential, but model.cell=lstm is not slstm"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(overrides: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=r"^model") as caught:
        load(None, [f"model.{override}" for override in overrides.split()])
    assert str(caught.value) == sentence

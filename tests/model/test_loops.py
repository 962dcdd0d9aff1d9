"""Layers that loop over time themselves, against torch's in float64, and when the model uses them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipeline.model import kernels, precision
from pipeline.model.cpu import products, wide_lstm
from pipeline.model.cpu.looped_gru import LoopedGRU
from pipeline.model.cpu.looped_rnn import LoopedRNN
from pipeline.model.cpu.wide_lstm import WideLSTM
from pipeline.model.recurrence import Recurrence
from pipeline.model.segments import Segments

T, B, E, H = 5, 3, 4, 6
DOUBLE = {"dtype": torch.float64}

each_cell = pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU, nn.RNN], ids=["lstm", "gru", "rnn"])


def window(cell: Any, dtype: torch.dtype = torch.float64) -> tuple[Any, Tensor, tuple[Tensor, ...]]:
    torch.manual_seed(0)
    layer = cell(E, H, dtype=torch.float64)
    inputs = torch.randn(T, B, E, **DOUBLE)
    state = [torch.randn(1, B, H, **DOUBLE) for _ in range(2 if cell is nn.LSTM else 1)]
    leaves = [part.to(dtype).requires_grad_() for part in (inputs, *state)]
    return layer.to(dtype), leaves[0], tuple(leaves[1:])


@pytest.fixture(params=["as it is", "weights replaced"])
def replaced(request: pytest.FixtureRequest) -> Any:
    """A function: layer → weights that replace its own, their recurrent matrix another, as with weight dropout."""
    if request.param == "as it is":
        return lambda layer: None
    return lambda layer: kernels.weights_of(layer, layer.weight_hh_l0 / 2)


def choose(monkeypatch: pytest.MonkeyPatch, *, fused: bool) -> None:
    monkeypatch.setattr(kernels, "is_fused", lambda layer, inputs: fused)


@each_cell
def test_outputs_and_gradients_are_those_of_torch(cell: Any, replaced: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for fused in (False, True):
        choose(monkeypatch, fused=fused)
        layer, inputs, state = window(cell)
        hidden, end = kernels.run_layer(layer, inputs, state, replaced(layer))
        weights = torch.linspace(-1, 1, hidden.numel(), **DOUBLE).view(hidden.shape)
        # the last state is differentiated too, each part with its own weights
        loss = (hidden * weights).sum() + (end[0] * 2).sum() + (end[-1] * weights[0]).sum()
        loss.backward()
        found.append([hidden, *end, *(leaf.grad for leaf in (inputs, *state, *layer.parameters()))])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


@each_cell
def test_gradcheck(cell: Any) -> None:
    layer, inputs, state = window(cell)
    weights = [part.detach().clone().requires_grad_() for part in layer.parameters()]
    function = {nn.LSTM: WideLSTM, nn.GRU: LoopedGRU, nn.RNN: LoopedRNN}[cell].apply
    assert torch.autograd.gradcheck(function, (inputs, *state, *(weights if cell is nn.GRU else weights[:3])))


@each_cell
def test_outputs_without_gradients_are_the_same(cell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    choose(monkeypatch, fused=False)
    layer, inputs, state = window(cell, torch.float32)
    expected, expected_end = kernels.run_layer(layer, inputs, state)
    with torch.inference_mode():
        found, end = kernels.run_layer(layer, inputs, state)
    for one, other in zip((found, *end), (expected, *expected_end), strict=True):
        assert torch.equal(one, other)


@each_cell
def test_streams_that_are_reset_within_the_window(cell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, inputs, state = window(cell)
    resets = torch.zeros(T, B, dtype=torch.bool).numpy()
    resets[2, 1] = resets[4, 1] = resets[3, 0] = True
    found = []
    for fused in (False, True):
        choose(monkeypatch, fused=fused)
        hidden, end = Segments(resets, device=inputs.device).run(layer, inputs, state)
        found.append([hidden, *end])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@each_cell
def test_in_bf16_gradients_are_as_near_to_float64_as_the_fused_kernel_s(
    cell: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Either one rounds to 8 bits, which leaves errors of the same size."""
    exact_layer, inputs, state = window(cell)
    hidden, _ = exact_layer(inputs, state if cell is nn.LSTM else state[0])
    hidden.square().sum().backward()
    exact = torch.cat([parameter.grad.flatten() for parameter in exact_layer.parameters()])
    errors = []
    for fused in (True, False):
        choose(monkeypatch, fused=fused)
        layer = copy.deepcopy(exact_layer).float()
        layer.zero_grad()
        low = [part.detach().bfloat16() for part in (inputs, *state)]
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
            hidden, _ = kernels.run_layer(layer, low[0], tuple(low[1:]))
        assert hidden.dtype == torch.bfloat16
        hidden.float().square().sum().backward()
        found = torch.cat([parameter.grad.flatten() for parameter in layer.parameters()])
        errors.append(float((found - exact).norm() / exact.norm()))
    assert errors[1] < max(2 * errors[0], 0.02)


@pytest.mark.parametrize("cell", ["slstm", "mogrifier"])
def test_our_own_cells_in_bf16_are_as_near_to_float64_as_its_rounding(
    cell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Products are in bf16, which has 8 bits, even if this CPU would not choose it by itself."""
    monkeypatch.setattr(precision, "has_bf16_products", lambda: True)
    torch.manual_seed(0)
    settings: dict[str, Any] = (
        {"cell": "slstm", "num_heads": 2} if cell == "slstm" else {"cell": "lstm", "mogrifier_rounds": 3}
    )
    layers, inputs, found = Recurrence(input_size=24, hidden_sizes=[32], **settings), torch.randn(9, B, 24), []
    resets = torch.rand(9, B).lt(0.2).numpy()
    for dtype in (torch.float64, torch.float32):
        model, state = layers.to(dtype), layers.initial_state(B, device=inputs.device, dtype=dtype)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.float32, cache_enabled=False):
            assert model.product_formats(inputs.to(dtype)) == {torch.bfloat16 if dtype == torch.float32 else dtype}
            hidden, end = model(inputs.to(dtype), state, Segments(resets, device=inputs.device))
        assert {part.dtype for part in end} == {dtype}
        gradients = torch.autograd.grad(hidden.to(dtype).square().sum(), list(model.parameters()))
        found.append([hidden, *end, *gradients])
    for exact, low in zip(*found, strict=True):
        error = float(((low.double() - exact).norm() / exact.norm()).detach())
        assert 0 < error < 0.05


def test_only_a_wide_lstm_trained_in_bf16_on_a_cpu_loops() -> None:
    wide, narrow = torch.empty(4 * 640, 640), torch.empty(4 * 639, 639)
    inputs = torch.empty(1, 1, 1)
    assert not wide_lstm.is_faster(inputs, wide)
    with torch.autocast("cpu", torch.bfloat16):
        assert wide_lstm.is_faster(inputs, wide)
        assert not wide_lstm.is_faster(inputs, narrow)
        with torch.no_grad():
            assert not wide_lstm.is_faster(inputs, wide)


@pytest.mark.parametrize("cell", [nn.GRU, nn.RNN])
def test_a_gru_and_a_tanh_rnn_loop_over_large_windows_on_a_cpu(cell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = cell(E, 256)
    large, short, narrow = torch.empty(8, 8, E), torch.empty(7, 8, E), torch.empty(8, 7, E)
    assert not kernels.is_fused(layer, large)
    assert kernels.is_fused(layer, short)
    assert kernels.is_fused(layer, narrow)
    for is_faster in (False, True):
        monkeypatch.setattr(products, "onednn_is_faster", lambda is_faster=is_faster: is_faster)
        with torch.no_grad():
            assert kernels.is_fused(layer, large) is not is_faster
    if torch.cuda.is_available():
        assert kernels.is_fused(layer.cuda(), large.cuda())

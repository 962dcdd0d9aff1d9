"""The LSTM that loops over time itself, against torch's in float64, and where the model takes it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from pipeline.model import kernels, wide_lstm
from pipeline.model.segments import Segments

T, B, E, H = 5, 3, 4, 6
DOUBLE = {"dtype": torch.float64}


def window(dtype: torch.dtype = torch.float64) -> tuple[nn.LSTM, Tensor, tuple[Tensor, Tensor]]:
    torch.manual_seed(0)
    layer = nn.LSTM(E, H, dtype=torch.float64)
    inputs = torch.randn(T, B, E, **DOUBLE)
    state = torch.randn(1, B, H, **DOUBLE), torch.randn(1, B, H, **DOUBLE)
    layer.to(dtype)
    leaves = [part.to(dtype).requires_grad_() for part in (inputs, *state)]
    return layer, leaves[0], (leaves[1], leaves[2])


def test_outputs_and_gradients_are_those_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {}
    for name in ("torch", "ours"):
        layer, inputs, state = window()
        monkeypatch.setattr(kernels, "is_faster", lambda inputs, weight, name=name: name == "ours")
        hidden, end = kernels.run_layer(layer, inputs, state)
        weights = torch.linspace(-1, 1, hidden.numel(), **DOUBLE).view(hidden.shape)
        # the last state is differentiated too, h and c with weights of their own
        ((hidden * weights).sum() + (end[0] * 2).sum() + (end[1] * weights[0]).sum()).backward()
        found[name] = [hidden, *end, *(leaf.grad for leaf in (inputs, *state, *layer.parameters()))]
    for ours, theirs in zip(found["ours"], found["torch"], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_gradcheck() -> None:
    layer, inputs, state = window()
    leaves = [part.detach().clone().requires_grad_() for part in (layer.weight_ih_l0, layer.weight_hh_l0)]
    bias = layer.bias_ih_l0.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(wide_lstm.WideLSTM.apply, (inputs, *state, *leaves, bias))


def test_streams_that_begin_anew_within_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, inputs, state = window()
    resets = torch.zeros(T, B, dtype=torch.bool).numpy()
    resets[2, 1] = resets[4, 1] = resets[3, 0] = True
    theirs, their_end = Segments(resets, device=inputs.device).run(layer, inputs, state)
    monkeypatch.setattr(kernels, "is_faster", lambda inputs, weight: True)
    ours, our_end = Segments(resets, device=inputs.device).run(layer, inputs, state)
    for one, other in zip((ours, *our_end), (theirs, *their_end), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_in_bf16_gradients_are_as_near_to_float64_as_the_fused_kernel_s() -> None:
    """Rounding to 8 bits, by either, leaves errors of the same size."""
    exact_layer, inputs, state = window()
    hidden, _ = exact_layer(inputs, state)
    hidden.square().sum().backward()
    exact = torch.cat([parameter.grad.flatten() for parameter in exact_layer.parameters()])
    errors = []
    for function in (lambda layer, *rest: layer(*rest)[0], ours):
        layer = copy.deepcopy(exact_layer).float()
        layer.zero_grad()
        low = [part.detach().bfloat16() for part in (inputs, *state)]
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
            hidden = function(layer, low[0], (low[1], low[2]))
        assert hidden.dtype == torch.bfloat16
        hidden.float().square().sum().backward()
        found = torch.cat([parameter.grad.flatten() for parameter in layer.parameters()])
        errors.append(float((found - exact).norm() / exact.norm()))
    assert errors[1] < max(2 * errors[0], 0.02)


def ours(layer: nn.LSTM, inputs: Tensor, state: tuple[Tensor, Tensor]) -> Tensor:
    bias = layer.bias_ih_l0 + layer.bias_hh_l0
    hidden: Tensor = wide_lstm.WideLSTM.apply(inputs, *state, layer.weight_ih_l0, layer.weight_hh_l0, bias)[0]
    return hidden


def test_only_a_wide_layer_trained_in_bf16_on_a_cpu_takes_it() -> None:
    wide, narrow = torch.empty(4 * 640, 640), torch.empty(4 * 639, 639)
    inputs = torch.empty(1, 1, 1)
    assert not wide_lstm.is_faster(inputs, wide)
    with torch.autocast("cpu", torch.bfloat16):
        assert wide_lstm.is_faster(inputs, wide)
        assert not wide_lstm.is_faster(inputs, narrow)
        with torch.no_grad():
            assert not wide_lstm.is_faster(inputs, wide)

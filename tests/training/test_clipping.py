"""Clipping against torch's own and numpy's percentile."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.training.clipping import Clipping


def gradients(scale: float = 1.0) -> list[Tensor]:
    return [scale * torch.tensor([[3.0, -0.5], [0.0, 1.0]]), scale * torch.tensor([-4.0])]


def test_by_value_then_by_norm_equals_torch() -> None:
    expected = [torch.zeros(2, 2, requires_grad=True), torch.zeros(1, requires_grad=True)]
    for parameter, gradient in zip(expected, gradients(), strict=True):
        parameter.grad = gradient
    torch.nn.utils.clip_grad_value_(expected, 2.0)
    torch.nn.utils.clip_grad_norm_(expected, 1.5)
    ours = gradients(scale=8.0)
    norm, divisor = Clipping(value=2.0, norm=1.5)(ours, torch.tensor(8.0))
    assert norm.item() == pytest.approx(math.sqrt(9 + 0.25 + 1 + 16))
    for parameter, gradient in zip(expected, ours, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(gradient / divisor, parameter.grad, rtol=1e-5, atol=0)


def test_an_update_of_which_a_single_number_is_clipped_counts_as_clipped() -> None:
    clipping = Clipping(value=2.0)
    for numbers in ([1.0, -3.0], [2.0, -2.0], [math.inf, 0.0], [0.5, 0.5]):
        clipping([torch.tensor(numbers)], torch.tensor(1.0))
    assert clipping.take_share() == 1 / 4  # not the update that is refused


@pytest.mark.parametrize("norm", [None, 3.0])
def test_by_percentile_of_the_last_finite_norms(norm: float | None) -> None:
    clipping = Clipping(percentile=40, history=5, norm=norm)
    seen: list[float] = []
    source = np.random.default_rng(1)
    num_clipped = 0
    for index in range(23):
        size = math.inf if index % 6 == 3 else float(source.uniform(0.5, 5))
        found, divisor = clipping([torch.tensor([size])], torch.tensor(1.0))
        assert found.item() == pytest.approx(size)
        if math.isinf(size):
            continue
        seen.append(size)
        limit = min(norm or math.inf, float(np.percentile(seen[-5:], 40)))
        num_clipped += size > limit * (1 + 1e-6)
        assert size / divisor.item() == pytest.approx(min(size, limit), rel=1e-5)
    assert clipping.take_share() == pytest.approx(num_clipped / 23)
    assert clipping.take_share() == 0


def test_clipping_by_value_does_not_hide_a_gradient_that_is_not_finite() -> None:
    for bad in (math.inf, math.nan):
        norm, _ = Clipping(value=1.0)([torch.tensor([1.0, bad])], torch.tensor(1.0))
        assert not torch.isfinite(norm)


def test_the_state_of_clipping_is_saved_and_loaded() -> None:
    ours, theirs = (Clipping(percentile=30, history=3) for _ in range(2))
    for size in (1.0, 4.0, 2.0, 7.0):
        ours([torch.tensor([size])], torch.tensor(1.0))
    theirs.load_state_dict(ours.state_dict())
    for size in (3.0, 0.5):
        results = [clipping([torch.tensor([size])], torch.tensor(1.0))[1] for clipping in (ours, theirs)]
        assert results[0] == results[1]
    assert ours.take_share() == theirs.take_share()


@pytest.mark.parametrize("norm", [None, 3.0])
def test_a_gradient_of_zero_is_divided_by_one(norm: float | None) -> None:
    """The limit is 0, too: nothing is clipped, and 0 ÷ 0 does not reach the weights."""
    clipping = Clipping(percentile=50, history=3, norm=norm)
    for _ in range(2):
        found, divisor = clipping([torch.zeros(3)], torch.tensor(8.0))
        assert (found, divisor) == (0, 8)
    _, divisor = clipping([torch.tensor([2.0])], torch.tensor(1.0))
    assert 2.0 / divisor == 0  # the median norm is 0
    assert clipping.take_share() == pytest.approx(1 / 3)

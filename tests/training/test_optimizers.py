"""Schedules as lists worked by hand, optimizers against their equations."""

import math

import pytest
import torch
from torch import Tensor

from pipeline.config import OptimizerConfig
from pipeline.training.optimizers import build_optimizer, learning_rate


def rates(total_steps: int, steps_per_epoch: int = 2, **settings: object) -> list[float]:
    config = OptimizerConfig(lr=1.0, **settings)  # type: ignore[arg-type]
    return [
        learning_rate(config, step=step, total_steps=total_steps, steps_per_epoch=steps_per_epoch)
        for step in range(total_steps)
    ]


def test_constant_with_warm_up() -> None:
    assert rates(6, schedule="constant", warmup_steps=4) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_step_decay_as_in_zaremba() -> None:
    # lr · 0.5^max(epoch + 1 − 4, 0), epochs from 0
    assert rates(14, schedule="step", decay_after_epochs=4, decay_factor=0.5) == (
        [1.0] * 8 + [0.5] * 2 + [0.25] * 2 + [0.125] * 2
    )


def test_cosine() -> None:
    half = math.sqrt(0.5)
    expected = [1.0, (1 + half) / 2, 0.5, (1 - half) / 2]
    assert rates(4, schedule="cosine") == pytest.approx(expected)
    assert rates(4, schedule="cosine", final_lr_ratio=0.1) == pytest.approx([0.1 + 0.9 * rate for rate in expected])


def test_one_cycle_rises_to_its_peak_and_falls_to_the_end() -> None:
    found = rates(11, schedule="1cycle", peak_fraction=0.3, final_lr_ratio=0.01)
    assert found[0] == pytest.approx(1 / 25)
    assert found[3] == pytest.approx(1.0)
    assert found[10] == pytest.approx(0.01)
    assert found[:4] == sorted(found[:4])
    assert found[3:] == sorted(found[3:], reverse=True)


def test_no_weight_decay_on_biases() -> None:
    optimizer = build_optimizer(OptimizerConfig(weight_decay=0.1), torch.nn.LSTM(2, 3))
    decay = {tuple(p.shape): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decay == {(12, 2): 0.1, (12, 3): 0.1, (12,): 0.0}


def updates(values: Tensor, config: OptimizerConfig) -> Tensor:
    """``values`` after four updates from the equations, the gradient of each being cos(values)."""
    first, second = torch.zeros_like(values), torch.zeros_like(values)
    for number in range(1, 5):
        gradient = torch.cos(values)
        if config.name == "sgd":
            first = config.momentum * first + gradient + config.weight_decay * values
            values = values - config.lr * first
        else:
            first = config.beta1 * first + (1 - config.beta1) * gradient
            second = config.beta2 * second + (1 - config.beta2) * gradient**2
            mean, square = first / (1 - config.beta1**number), second / (1 - config.beta2**number)
            values = values * (1 - config.lr * config.weight_decay) - config.lr * mean / (square.sqrt() + config.eps)
    return values


@pytest.mark.parametrize(
    "settings", [{"name": "sgd", "momentum": 0.9}, {"name": "sgd"}, {"name": "adamw", "beta2": 0.9}]
)
def test_optimizers_equal_their_equations(settings: dict[str, object]) -> None:
    config = OptimizerConfig(lr=0.1, weight_decay=0.2, **settings)  # type: ignore[arg-type]
    layer = torch.nn.Linear(3, 2, bias=False).double()
    expected = updates(layer.weight.detach().clone(), config)
    optimizer = build_optimizer(config, layer)
    for _ in range(4):
        layer.weight.grad = torch.cos(layer.weight.detach())
        optimizer.step()
    torch.testing.assert_close(layer.weight.detach(), expected, rtol=1e-12, atol=1e-12)

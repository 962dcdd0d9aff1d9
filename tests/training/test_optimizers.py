"""Optimizers against their equations."""

import pytest
import torch
from torch import Tensor

from pipeline.config import OptimizerConfig
from pipeline.training.optimizers import build_optimizer


@pytest.mark.parametrize(("decayed", "of_biases"), [("matrices", 0.0), ("all", 0.1)])
def test_weight_decay_on_biases_only_if_asked(decayed: str, of_biases: float) -> None:
    config = OptimizerConfig(weight_decay=0.1, decayed=decayed)  # type: ignore[arg-type]
    optimizer = build_optimizer(config, torch.nn.LSTM(2, 3))
    decay = {tuple(p.shape): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decay == {(12, 2): 0.1, (12, 3): 0.1, (12,): of_biases}


def updates(values: Tensor, config: OptimizerConfig) -> Tensor:
    """``values`` after four updates from the equations, the gradient of each being cos(values)."""
    first, second = torch.zeros_like(values), torch.zeros_like(values)
    for number in range(1, 5):
        gradient = torch.cos(values)
        if config.name != "adamw":
            gradient = gradient + config.weight_decay * values
        if config.name == "sgd":
            first = config.momentum * first + gradient
            values = values - config.lr * first
            continue
        second = config.beta2 * second + (1 - config.beta2) * gradient**2
        if config.name == "rmsprop":
            values = values - config.lr * gradient / (second.sqrt() + config.eps)
            continue
        first = config.beta1 * first + (1 - config.beta1) * gradient
        mean, square = first / (1 - config.beta1**number), second / (1 - config.beta2**number)
        if config.name == "adamw":
            values = values * (1 - config.lr * config.weight_decay)
        values = values - config.lr * mean / (square.sqrt() + config.eps)
    return values


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "sgd", "momentum": 0.9},
        {"name": "sgd"},
        {"name": "adam", "beta2": 0.9},
        {"name": "adamw", "beta2": 0.9},
        {"name": "rmsprop", "beta2": 0.95, "eps": 0.01},
    ],
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

"""Optimizers against their equations."""

import math
from copy import deepcopy
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.config import ModelConfig, OptimizerConfig
from pipeline.model.language_model import LanguageModel
from pipeline.training.muon import Muon, orthogonal
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


def test_momentum_that_comes_back_begins_with_the_gradients_of_then() -> None:
    layer = torch.nn.Linear(3, 2, bias=False)
    before: dict[str, Any] = {}
    for momentum, gradient, change in ((0.9, 1.0, 1.0), (0.0, 2.0, 2.0), (0.9, 4.0, 4.0), (0.9, 0.0, 3.6)):
        optimizer = build_optimizer(OptimizerConfig(name="sgd", lr=1.0, momentum=momentum), layer)
        if before:
            optimizer.load_state_dict(before)
        weight = layer.weight.detach().clone()
        layer.weight.grad = torch.full_like(weight, gradient)
        optimizer.step()
        torch.testing.assert_close(weight - layer.weight.detach(), torch.full_like(weight, change))
        before = optimizer.state_dict()


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


@pytest.mark.parametrize(
    ("settings", "theirs"),
    [
        ({"name": "sgd", "momentum": 0.9}, partial(torch.optim.SGD, momentum=0.9)),
        ({"name": "adam"}, torch.optim.Adam),
        ({"name": "adamw"}, partial(torch.optim.AdamW, weight_decay=0.0)),
    ],
)
def test_optimizers_are_torch_s_bit_for_bit(settings: dict[str, object], theirs: Any) -> None:
    """So they also continue from a state that torch's optimizers saved."""
    torch.manual_seed(0)
    layers = [torch.nn.Linear(5, 4) for _ in range(2)]
    layers[1].load_state_dict(layers[0].state_dict())
    config = OptimizerConfig(lr=0.1, weight_decay=0.0, **settings)  # type: ignore[arg-type]
    ours = build_optimizer(config, layers[0])
    other = theirs([{"params": [layers[1].weight]}, {"params": [layers[1].bias]}], lr=0.1, fused=True)
    for number in range(4):
        gradients = [torch.randn_like(parameter) for parameter in layers[0].parameters()]
        for layer in layers:
            for parameter, gradient in zip(layer.parameters(), gradients, strict=True):
                parameter.grad = gradient.clone()
        ours.step()
        other.step()
        for a, b in zip(layers[0].parameters(), layers[1].parameters(), strict=True):
            assert torch.equal(a, b)
        if number == 1:
            ours.load_state_dict(deepcopy(other.state_dict()))
    ours.zero_grad(set_to_none=True)
    assert all(parameter.grad is None for parameter in layers[0].parameters())


@pytest.mark.parametrize("shape", [(7, 4), (4, 7), (5, 5)])
def test_muon_equals_its_equations(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(*shape[::-1]).double()
    config = OptimizerConfig(name="muon", lr=0.1, weight_decay=0.2, muon_momentum=0.9)
    expected, momentum = layer.weight.detach().clone(), torch.zeros(shape, dtype=torch.float64)
    of_bias = updates(layer.bias.detach().clone(), OptimizerConfig(name="adamw", lr=0.1))
    optimizer = build_optimizer(config, layer)
    for _ in range(4):
        gradient = torch.cos(expected)
        momentum = 0.9 * momentum + 0.1 * gradient
        mixed = 0.1 * gradient + 0.9 * momentum
        # the iteration is an odd polynomial of the singular values
        left, values, right = torch.linalg.svd(mixed / mixed.norm(), full_matrices=False)
        for _ in range(5):
            values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
        expected = (1 - 0.1 * 0.2) * expected - 0.1 * 0.2 * max(shape) ** 0.5 * (left * values) @ right
        layer.weight.grad, layer.bias.grad = torch.cos(layer.weight.detach()), torch.cos(layer.bias.detach())
        optimizer.step()
    torch.testing.assert_close(layer.weight.detach(), expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(layer.bias.detach(), of_bias, rtol=1e-12, atol=1e-12)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon to compare with")
def test_muon_is_torch_s() -> None:
    torch.manual_seed(0)
    ours, theirs = torch.nn.Linear(30, 20, bias=False), torch.nn.Linear(30, 20, bias=False)
    theirs.load_state_dict(ours.state_dict())
    begin = ours.weight.detach().clone()
    config = OptimizerConfig(name="muon", lr=0.02, weight_decay=0.1)
    optimizers = [
        build_optimizer(config, ours),
        torch.optim.Muon(theirs.parameters(), lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
    ]
    for _ in range(3):
        gradient = torch.randn(20, 30)
        for layer, optimizer in zip((ours, theirs), optimizers, strict=True):
            layer.weight.grad = gradient.clone()
            optimizer.step()
    moved = theirs.weight.detach() - begin
    assert (ours.weight - theirs.weight).norm() < 0.05 * moved.norm()  # torch's iterates in bf16


def test_muon_updates_only_the_matrices_between_embedding_and_head() -> None:
    config = ModelConfig(hidden_size=4, embedding_size=3, num_layers=1, tie_weights=True)
    model = LanguageModel(config, 11)
    optimizer = build_optimizer(OptimizerConfig(name="muon"), model)
    (group,) = [group for group in optimizer.param_groups if group["orthogonal"]]
    assert {tuple(parameter.shape) for parameter in group["params"]} == {(16, 3), (16, 4), (3, 4)}
    everything = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert len(everything) == len({id(parameter) for parameter in everything}) == len(list(model.parameters()))


def test_muon_leaves_embeddings_of_positions_to_adamw() -> None:
    config = ModelConfig(
        cell="transformer", hidden_size=8, num_layers=1, num_heads=2, positions="learned", context=0, block_size=5
    )
    model = LanguageModel(config, 11)
    optimizer = build_optimizer(OptimizerConfig(name="muon"), model)
    (group,) = [group for group in optimizer.param_groups if group["orthogonal"]]
    of_block = [parameter for parameter in model.recurrence.layers.parameters() if parameter.dim() == 2]
    assert {id(parameter) for parameter in group["params"]} == {id(parameter) for parameter in of_block}


def test_muon_divides_by_the_scale_and_goes_on_from_a_saved_state() -> None:
    torch.manual_seed(0)
    plain, scaled = (torch.nn.Linear(6, 4).double() for _ in range(2))
    scaled.load_state_dict(plain.state_dict())
    config = OptimizerConfig(name="muon", lr=0.1)
    one, other = build_optimizer(config, plain), build_optimizer(config, scaled)
    for number in range(4):
        if number == 2:
            saved = other.state_dict()
            other = build_optimizer(config, scaled)
            other.load_state_dict(saved)
        other.grad_scale = torch.tensor(8.0)  # type: ignore[attr-defined]
        for a, b in zip(plain.parameters(), scaled.parameters(), strict=True):
            a.grad = torch.randn_like(a)
            b.grad = 8 * a.grad
        one.step()
        other.step()
        for a, b in zip(plain.parameters(), scaled.parameters(), strict=True):
            assert torch.equal(a, b)  # a factor of two changes no bit
    assert isinstance(other, Muon)


def test_muon_brings_singular_values_near_one() -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonal(torch.randn(20, 12, dtype=torch.float64)))
    assert 0.6 < values.min() < values.max() < 1.3


@pytest.mark.parametrize("shape", [(20, 12), (48, 12), (12, 30)])
def test_muon_applies_its_polynomial_to_the_singular_values(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape, dtype=torch.float64)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    values = values / values.norm()
    a, b, c = 3.4445, -4.7750, 2.0315
    for _ in range(5):
        values = a * values + b * values**3 + c * values**5
    torch.testing.assert_close(orthogonal(matrix), left @ torch.diag(values) @ right)


@pytest.mark.parametrize("smallest", [1e-2, 1e-5])
def test_muon_stays_bounded_in_bf16_if_singular_values_are_small(smallest: float) -> None:
    torch.manual_seed(0)
    left, _, right = torch.linalg.svd(torch.randn(256, 64), full_matrices=False)
    matrix = (left * torch.logspace(0, math.log10(smallest), 64)) @ right
    values = torch.linalg.svdvals(orthogonal(matrix.bfloat16()).float())
    assert values.max() < 1.3  # 10 and more if the Gram matrix is not computed anew

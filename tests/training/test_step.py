"""One update against torch's own clip and optimizers, and the guard against bad numbers."""

import math
from functools import partial

import numpy as np
import pytest
import torch

from pipeline.config import ModelConfig, OptimizerConfig
from pipeline.data.windows import IGNORED
from pipeline.model.language_model import LanguageModel
from pipeline.seeds import mix
from pipeline.training.clipping import Clipping
from pipeline.training.loss_scale import LossScale
from pipeline.training.optimizers import build_optimizer
from pipeline.training.step import TrainingStep

VOCAB, TIME, STREAMS = 11, 5, 3


def tiny_model() -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(ModelConfig(hidden_size=8, num_layers=1), VOCAB)


def window() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    tokens = torch.randint(VOCAB, (TIME + 1, STREAMS))
    return tokens[:-1], tokens[1:]


def make_step(
    model: LanguageModel,
    *,
    name: str = "sgd",
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    clip_norm: float | None = 0.1,
    precision: str = "float32",
    accumulate: int = 1,
) -> TrainingStep:
    optimizer = build_optimizer(OptimizerConfig(name=name, lr=0.5, momentum=momentum, weight_decay=weight_decay), model)
    clipping = Clipping(norm=clip_norm)
    return TrainingStep(model, optimizer, clipping=clipping, precision=precision, seed=1, accumulation_steps=accumulate)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "rmsprop"])
@pytest.mark.parametrize("clip_norm", [0.1, 100.0, None])
def test_update_equals_torch_clip_and_optimizer(name: str, clip_norm: float | None) -> None:
    inputs, targets = window()
    ours, reference = tiny_model(), tiny_model()
    step = make_step(ours, name=name, clip_norm=clip_norm)
    lr = 0.01 if name == "rmsprop" else 0.5
    optimizer = {
        "sgd": partial(torch.optim.SGD, lr=lr),
        "adam": partial(torch.optim.Adam, lr=lr),
        "adamw": partial(torch.optim.AdamW, lr=lr, weight_decay=0.0),
        "rmsprop": partial(torch.optim.RMSprop, lr=lr, alpha=0.999),
    }[name](reference.parameters())
    state, reference_state = ours.initial_state(STREAMS), reference.initial_state(STREAMS)
    for index in range(3):
        nats, norm, state = step(inputs, targets, state, num_targets=TIME * STREAMS, lr=lr, index=index)
        hidden, reference_state = reference(inputs, tuple(part.detach() for part in reference_state))
        logits = reference.head.logits(hidden)
        loss = torch.nn.functional.cross_entropy(logits.reshape(-1, VOCAB), targets.reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        limit = math.inf if clip_norm is None else clip_norm
        expected_norm = torch.nn.utils.clip_grad_norm_(reference.parameters(), limit)
        optimizer.step()
        assert nats.item() / (TIME * STREAMS) == pytest.approx(loss.item(), rel=1e-5)
        assert norm.item() == pytest.approx(expected_norm.item(), rel=1e-4)
    for a, b in zip(ours.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("accumulate", [2, 3])
def test_accumulated_updates_equal_whole_ones(cell: str, accumulate: int) -> None:
    inputs, targets = window()
    resets = np.zeros((TIME, STREAMS), dtype=bool)
    resets[2, 1] = True
    results = []
    for groups in (1, accumulate):
        torch.manual_seed(0)
        model = LanguageModel(ModelConfig(cell=cell, hidden_size=8), VOCAB).double()
        step = make_step(model, name="adamw", accumulate=groups)
        state = model.initial_state(STREAMS)
        for index in range(4):
            at = resets if index == 2 else None
            nats, norm, state = step(inputs, targets, state, num_targets=15, lr=0.01, index=index, resets=at)
        results.append([nats, norm, *state, *model.parameters()])
    for whole, accumulated in zip(*results, strict=True):
        torch.testing.assert_close(accumulated, whole, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "rmsprop", "muon"])
def test_no_bad_number_reaches_the_weights(name: str) -> None:
    inputs, targets = window()
    model, undisturbed = tiny_model(), tiny_model()
    steps = [make_step(each, name=name, momentum=0.9, weight_decay=0.1) for each in (model, undisturbed)]
    step, zeros = steps[0], model.initial_state(STREAMS)
    for each in steps:
        each(inputs, targets, zeros, num_targets=15, lr=0.5, index=0)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    bad = tuple(part + math.nan for part in zeros)
    _, norm, _ = step(inputs, targets, bad, num_targets=15, lr=0.5, index=1)
    assert not torch.isfinite(norm)
    assert step.refusals.number.item() == 1
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    for each in steps:
        _, norm, _ = each(inputs, targets, zeros, num_targets=15, lr=0.5, index=2)
        assert torch.isfinite(norm)
    assert step.refusals.number.item() == 1
    # nor did it reach what the optimizer remembers
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), undisturbed.parameters(), strict=True))


def test_a_refused_first_update_leaves_the_momentum_at_zero() -> None:
    inputs, targets = window()
    model, other = tiny_model(), tiny_model()
    steps = [make_step(each, name="sgd", momentum=0.9) for each in (model, other)]
    junk = [torch.full_like(parameter, math.nan) for parameter in model.parameters() for _ in range(20)]
    del junk  # memory that is allocated again still holds NaN
    bad = tuple(part + math.nan for part in model.initial_state(STREAMS))
    steps[0](inputs, targets, bad, num_targets=15, lr=0.5, index=0)
    for step, each in zip(steps, (model, other), strict=True):
        step(inputs, targets, each.initial_state(STREAMS), num_targets=15, lr=0.5, index=1)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("clip_percentile", [None, 10.0])
def test_a_window_without_any_target_changes_nothing(clip_percentile: float | None) -> None:
    inputs, targets = window()
    model = tiny_model()
    step = make_step(model, name="sgd")
    step.clipping = Clipping(norm=0.1, percentile=clip_percentile)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    nothing = torch.full_like(targets, IGNORED)
    nats, norm, _ = step(inputs, nothing, model.initial_state(STREAMS), num_targets=0, lr=0.5, index=0)
    assert nats == norm == 0
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_fp16_overflow_halves_the_loss_scale_and_skips_the_update() -> None:
    inputs, targets = window()
    model = tiny_model()
    step = make_step(model, precision="fp16")
    scale = step.loss_scale.scale.item()
    with torch.no_grad():
        model.embedding.weight.grad = None
    step.loss_scale.scale.fill_(3e38)  # the scaled loss overflows float32
    before = [parameter.detach().clone() for parameter in model.parameters()]
    step(inputs, targets, model.initial_state(STREAMS), num_targets=15, lr=0.5, index=0)
    assert scale == 2.0**16
    assert step.loss_scale.scale.item() == pytest.approx(1.5e38)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_the_loss_scale_doubles_after_two_thousand_good_updates_in_a_row_also_across_a_stop() -> None:
    scale, device = LossScale(enabled=True, device=torch.device("cpu")), torch.device("cpu")
    for finite in [True] * 5 + [False] + [True] * 1999:
        scale.update(torch.tensor(finite))
    assert scale.scale == 2.0**15
    again = LossScale(enabled=True, device=device)
    again.load_state_dict(scale.state_dict())
    again.update(torch.tensor(True))
    assert again.scale == 2.0**16


def test_plain_dropout_differs_from_rank_to_rank_and_is_repeated_on_each() -> None:
    inputs, targets = window()

    def nats(rank: int) -> float:
        torch.manual_seed(0)
        model = LanguageModel(ModelConfig(hidden_size=8, num_layers=1, dropout=0.5), VOCAB)
        step = TrainingStep(
            model,
            build_optimizer(OptimizerConfig(name="sgd"), model),
            clipping=Clipping(),
            precision="float32",
            seed=1,
            batch_size=2 * STREAMS,
            rank=rank,
        )
        return step(inputs, targets, model.initial_state(STREAMS), num_targets=15, lr=0.0, index=3)[0].item()

    assert nats(0) == nats(0)
    assert nats(0) != nats(1)


def test_seeds_mixed_from_neighbouring_numbers_differ() -> None:
    seeds = {mix(seed, window, rank) for seed in range(4) for window in range(50) for rank in range(4)}
    assert len(seeds) == 800
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert mix(1, 2) != mix(2, 1)

"""An interrupted run, continued, equals the uninterrupted one bit for bit; W ranks equal one rank."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline import config as configuration
from pipeline import launch, resources, run
from pipeline.config import Config
from pipeline.data.prepare import prepare_in_process
from pipeline.training import checkpoint, guard
from pipeline.training.monitor import read
from pipeline.training.stateful import Interval
from tests.training.ranks import Plan, carry_out, train_on_ranks

# epochs of 81 steps
CONVENTIONAL = {
    "train.epochs": 2,
    "train.bptt": 20,
    "train.batch_size": 12,
    "model.dropout": 0.3,
    "train.checkpoint_every_steps": 13,
}


def curve(config: Config, kind: str = "train", figure: str = "loss") -> list[tuple[int, float]]:
    records = read(Path(str(config.run.directory)) / "metrics.jsonl")
    return [(record["step"], record[figure]) for record in records if record["kind"] == kind]


def end_state(config: Config) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    path = checkpoint.find(str(config.run.directory), "last")
    return dict(checkpoint.load_model(path).model.state_dict()), checkpoint.load_state(path)


def assert_bitwise_equal(ours: Any, theirs: Any) -> None:
    if isinstance(ours, torch.Tensor):
        assert torch.equal(ours, theirs)
    elif isinstance(ours, dict):
        assert ours.keys() == theirs.keys()
        for key in ours:
            assert_bitwise_equal(ours[key], theirs[key])
    elif isinstance(ours, (list, tuple)):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            assert_bitwise_equal(a, b)
    else:
        assert ours == theirs


def interrupt_after(config: Config, num_steps: int) -> None:
    """Train in this process and ask to stop after ``num_steps`` more steps."""
    asked = 0

    def stop_requested() -> bool:
        nonlocal asked
        asked += 1
        return asked >= num_steps

    run.train(config, resources.local_worker(config), stop_requested=stop_requested)


ENGINES: dict[str, dict[str, Any]] = {
    "sgd": {"optimizer.name": "sgd"},
    "adamw": {"optimizer.name": "adamw"},
    "rmsprop, plateau, averaged": {
        "optimizer.name": "rmsprop",
        "optimizer.schedule": "plateau",
        "optimizer.average": "exponential",
        "train.window_lengths": "random",
        "train.evaluate_every_steps": 10,
    },
    "averaged over the tail": {"optimizer.average": "tail", "optimizer.average_after_epochs": 1},
    "muon, adaptive softmax": {
        "optimizer.name": "muon",
        "model.head": "adaptive",
        "model.adaptive_cutoffs": [8, 14],
        "model.tie_weights": True,
    },
    "accumulated, clipped adaptively": {
        "train.gradient_accumulation_steps": 2,
        "train.clip_percentile": 60,
        "train.clip_history": 30,
        "train.clip_value": 0.1,
    },
}


@pytest.mark.parametrize("name", ENGINES)
def test_interrupted_anywhere_and_continued_is_bitwise_equal(
    make_config: Callable[..., Config], tmp_path: Path, name: str
) -> None:
    config = make_config({**CONVENTIONAL, **ENGINES[name]})
    broken = configuration.with_values(config, {"run.directory": str(tmp_path / "broken")})
    prepare_in_process(config)
    launch.train(config, launch.in_process)
    # stops fall within an epoch, within a logging interval, on a checkpoint's step, and across the epoch's end
    for num_steps in (3, 10, 5, 60, 25):
        interrupt_after(broken, num_steps)
    launch.train(broken, launch.in_process)
    assert curve(config) == curve(broken)
    assert curve(config, figure="clipped") == curve(broken, figure="clipped")
    assert curve(config, "valid") == curve(broken, "valid")
    assert_bitwise_equal(end_state(config), end_state(broken))


class Counter:
    """A part of the step that counts updates."""

    def __init__(self) -> None:
        self.number = torch.zeros(())

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {"number": self.number}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        self.number.copy_(state["number"])


def test_a_new_part_of_the_step_is_saved_resumed_and_undone(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config({"train.max_steps": 9, "train.on_bad_window": "undo", "optimizer.schedule": "constant"})
    prepare_in_process(config)
    update, numbers, finite = run.TrainingStep.update, [], math.isfinite

    def counted(self: run.TrainingStep, lr: float, index: int) -> torch.Tensor:
        counter: Any = self.parts.get("counter")
        counter.number += 1
        numbers.append(int(counter.number))
        return update(self, lr, index)

    build = run.build_step

    def with_counter(*arguments: Any, **named: Any) -> run.TrainingStep:
        step = build(*arguments, **named)
        step.parts["counter"] = Counter()
        return step

    monkeypatch.setattr(run.TrainingStep, "update", counted)
    monkeypatch.setattr(run, "build_step", with_counter)
    interrupt_after(config, 3)
    # the sixth window is bad once: the update before it is undone, and the window tried again
    monkeypatch.setattr(guard.math, "isfinite", lambda value: len(numbers) != 6 and finite(value))
    run.train(config, resources.local_worker(config))
    assert numbers == [1, 2, 3, 4, 5, 6, 5, 6, 7, 8]
    assert checkpoint.load_state(checkpoint.find(str(config.run.directory), "last"))["counter"]["number"] == 8


ACCUMULATED = {
    "train.gradient_accumulation_steps": 2,
    "train.max_steps": 40,
    "train.evaluate_every_steps": 10,
    "train.epochs": 1,
}


@pytest.mark.parametrize("world_size", [1, 2])
def test_failing_within_a_window_or_before_the_report_and_continued_is_bitwise_equal(
    make_config: Callable[..., Config], tmp_path: Path, world_size: int
) -> None:
    config = make_config({**CONVENTIONAL, **ACCUMULATED})
    broken = configuration.with_values(config, {"run.directory": str(tmp_path / "broken")})
    prepare_in_process(config)
    settling = int(world_size > 1)  # one forward pass that DDP makes at every start
    plans = [
        Plan(config),
        Plan(broken, fail_at_forward=2 * 17 + settling),  # the second group of the 17th window's rows
        Plan(broken, fail_at_report=2),  # at step 20: its checkpoint is written but not yet reported
        Plan(broken, fail_at_forward=2 * 3 + settling),
        Plan(broken),
    ]
    if world_size == 1:
        for plan in plans:
            carry_out(plan, resources.local_worker(config))
    else:
        train_on_ranks(world_size, *plans)
    assert curve(config) == curve(broken)
    assert curve(config, "valid") == curve(broken, "valid")
    assert curve(config, "sample", "text") == curve(broken, "sample", "text")
    assert_bitwise_equal(end_state(config), end_state(broken))


def test_the_sums_of_an_open_line_of_the_record_continue_on_any_number_of_ranks() -> None:
    saved = {"nats": torch.tensor([[1.0, 2.0, 4.0]], dtype=torch.float64), "tokens": 9}  # of three ranks
    for world_size, expected in ((3, [1, 2, 4]), (2, [7, 0]), (1, [7])):
        intervals = [Interval(torch.device("cpu"), rank=rank, world_size=world_size) for rank in range(world_size)]
        for interval in intervals:
            interval.load_state_dict(saved)
        assert [interval.nats.item() for interval in intervals] == expected
        assert {interval.tokens for interval in intervals} == {9}  # on each those of all


def test_a_finished_run_is_not_trained_again_and_more_epochs_go_on(make_config: Callable[..., Config]) -> None:
    config = make_config({"optimizer.schedule": "constant", "train.batch_size": 30})
    sentences: list[str] = []
    first = launch.train(config, launch.in_process)
    assert launch.train(config, launch.in_process, say=sentences.append) == first
    assert "finished" in sentences[0]
    longer = configuration.with_values(config, {"train.epochs": 2})
    assert launch.train(longer, launch.in_process)["steps"] == 2 * first["steps"]


@pytest.mark.parametrize(("precision", "tolerance"), [("float64", 1e-10), ("float32", 1e-4)])
def test_losses_do_not_depend_on_the_number_of_workers(
    make_config: Callable[..., Config], tmp_path: Path, precision: str, tolerance: float
) -> None:
    changes = {"train.precision": precision, "train.max_steps": 200, "train.log_every_steps": 1}
    config = make_config({**changes, "train.batch_size": 5, "train.checkpoint_every_steps": 60})
    prepare_in_process(config)
    launch.train(config, launch.in_process)
    two = configuration.with_values(
        config, {"run.directory": str(tmp_path / "two"), "train.gradient_accumulation_steps": 2}
    )
    train_on_ranks(2, Plan(two))  # 5 streams on 2 ranks: 2 and 3, in groups of 1 and 1, 1 and 2
    expected, found = curve(config), curve(two)
    assert len(expected) == 200
    assert [step for step, _ in found] == [step for step, _ in expected]
    assert [loss for _, loss in found] == pytest.approx([loss for _, loss in expected], rel=tolerance)
    # and a run continues with another number of workers: hidden states follow their streams
    moved = configuration.with_values(config, {"run.directory": str(tmp_path / "moved"), "train.epochs": 1})
    interrupt_after(moved, 77)
    train_on_ranks(2, Plan(moved, stop_after=15))  # asked every fourth step
    assert 100 < curve(moved)[-1][0] < 150
    interrupt_after(moved, 1000)
    assert [loss for _, loss in curve(moved)] == pytest.approx([loss for _, loss in expected], rel=tolerance)

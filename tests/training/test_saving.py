"""Checkpoints written in the background hold the state of their own step; a full disk costs only the new one."""

import resource
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pipeline import config as configuration
from pipeline import launch, resources, run
from pipeline.config import Config
from pipeline.data.prepare import prepare_in_process
from pipeline.training import checkpoint, loop
from pipeline.training.directory import RunDirectory
from pipeline.training.guard import TrainingStoppedError
from pipeline.training.loop import INTERRUPTED, LeaveError
from pipeline.training.monitor import read


def steps_saved(config: Config) -> list[int]:
    return [manifest["step"] for _, manifest in checkpoint.manifests(str(config.run.directory))]


def wait_for(path: Path) -> None:
    """Wait until a writer that is still at work has renamed its checkpoint to ``path``."""
    deadline = time.monotonic() + 30
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)


def test_a_slow_write_holds_the_state_of_its_own_step(
    make_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = {"train.checkpoint_every_steps": 4, "optimizer.schedule": "constant", "train.keep_checkpoints": 9}
    config = make_config({**every, "train.max_steps": 10, "model.tie_weights": True})
    shorter = {"train.max_steps": 4, "run.directory": str(tmp_path / "shorter")}
    launch.train(configuration.with_values(config, shorter), launch.in_process)
    write = checkpoint.save

    def slowly(*arguments: Any, **named: Any) -> Path:
        time.sleep(0.3)
        return write(*arguments, **named)

    monkeypatch.setattr(checkpoint, "save", slowly)
    launch.train(config, launch.in_process)
    assert steps_saved(config) == [4, 8, 10]
    paths = [tmp_path / name / "checkpoints" / "step-00000004" for name in ("run", "shorter")]
    ours, theirs = ([*checkpoint.load_model(path).model.parameters()] for path in paths)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_figures_reported_to_a_search_are_already_in_a_checkpoint(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config({"train.max_steps": 6, "train.checkpoint_every_steps": 2})
    prepare_in_process(config)
    write, told = checkpoint.save, []

    def slowly(*arguments: Any, **named: Any) -> Path:
        time.sleep(0.2)
        return write(*arguments, **named)

    def report(figures: dict[str, Any]) -> None:
        told.append((figures["tokens"], steps_saved(config)))

    monkeypatch.setattr(checkpoint, "save", slowly)
    run.train(config, resources.local_worker(config), report=report, evaluate_at_tokens=[180])  # 60 tokens per step
    assert told == [(180, [2, 3]), (360, [4, 6])]  # two checkpoints are kept


def test_a_run_that_is_told_to_leave_does_so_with_its_checkpoint(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config({"train.max_steps": 6, "train.evaluate_every_steps": 2})
    prepare_in_process(config)
    write = checkpoint.save

    def slowly(*arguments: Any, **named: Any) -> Path:
        time.sleep(0.2)
        return write(*arguments, **named)

    def leave(figures: dict[str, Any]) -> None:
        raise LeaveError

    monkeypatch.setattr(checkpoint, "save", slowly)
    assert run.train(config, resources.local_worker(config), report=leave) == INTERRUPTED
    assert steps_saved(config) == [2]


def test_checkpoints_by_the_clock(make_config: Callable[..., Config]) -> None:
    config = make_config({"train.max_steps": 5, "train.checkpoint_every_minutes": 1e-6, "train.keep_checkpoints": 9})
    launch.train(config, launch.in_process)
    assert steps_saved(config) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(("rank", "seconds", "saves"), [(0, 119.9, False), (0, 120.0, True), (1, 999.0, False)])
def test_rank_0_saves_when_so_many_minutes_have_passed(
    monkeypatch: pytest.MonkeyPatch, rank: int, seconds: float, saves: bool
) -> None:
    stand_in: Any = SimpleNamespace(
        step=SimpleNamespace(rank=rank, world_size=1),
        train=SimpleNamespace(checkpoint_every_minutes=2.0),
        saved_at=1000.0,
        stop_requested=lambda: False,
        save_requested=lambda: False,
        monitor=None,
    )
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0 + seconds)
    assert loop.agreed(stand_in) == (False, saves)


def test_a_full_disk_leaves_the_last_checkpoint_intact(
    make_config: Callable[..., Config], tmp_path: Path, file_size_limit: Callable[[int], None]
) -> None:
    config = make_config({"train.max_steps": 12, "train.checkpoint_every_steps": 3, "model.hidden_size": 64})
    whole = configuration.with_values(config, {"run.directory": str(tmp_path / "whole")})

    def fill(record: dict[str, Any]) -> None:
        if record["kind"] == "train" and record["step"] == 5:  # the checkpoint of step 3 may still be being written
            wait_for(checkpoint.folder(RunDirectory(tmp_path / "run"), 3))
            file_size_limit(100_000)  # weights and optimizer state are larger, the metrics file is not

    with pytest.raises(TrainingStoppedError, match=r"could not be written .*the last good checkpoint is .*00000003"):
        launch.train(config, launch.in_process, on_record=fill)
    warnings = [record for record in read(tmp_path / "run" / "metrics.jsonl") if record["kind"] == "warning"]
    assert warnings[0]["step"] == 10
    assert "could not be written" in warnings[0]["text"]
    assert steps_saved(config) == [3]
    assert not list((tmp_path / "run" / "checkpoints").glob(".*"))
    file_size_limit(resource.RLIM_INFINITY)
    checkpoint.load_model(checkpoint.find(str(config.run.directory), "last"))
    assert launch.train(config, launch.in_process)["perplexity"] == launch.train(whole, launch.in_process)["perplexity"]


def lines(config: Config) -> list[dict[str, Any]]:
    """The record of a run without what differs between two equal runs, and without warnings."""
    differ = ("time", "record", "xxh3", "host", "pid", "tokens_per_second", "seconds_left", "flops_utilization")
    return [
        {name: value for name, value in record.items() if name not in differ and not name.endswith(("_ms", "_mb"))}
        for record in read(Path(str(config.run.directory)) / "metrics.jsonl")
        if record["kind"] != "warning"
    ]


@pytest.mark.parametrize("until_step", [8, 99])
def test_a_run_goes_on_through_a_full_disk_bitwise(
    make_config: Callable[..., Config], tmp_path: Path, file_size_limit: Callable[[int], None], until_step: int
) -> None:
    every = {"train.max_steps": 12, "train.checkpoint_every_steps": 3, "train.log_every_steps": 1}
    config = make_config({**every, "train.evaluate_every_steps": 6, "train.keep_checkpoints": 9})
    whole = configuration.with_values(config, {"run.directory": str(tmp_path / "whole")})
    undisturbed = launch.train(whole, launch.in_process)
    told: list[dict[str, Any]] = []

    def fill_and_empty(record: dict[str, Any]) -> None:
        told.append(record)
        if record["kind"] == "train" and record["step"] in (4, until_step):
            if record["step"] == 4:
                wait_for(checkpoint.folder(RunDirectory(tmp_path / "run"), 3))
            file_size_limit(0 if record["step"] == 4 else resource.RLIM_INFINITY)

    if until_step > 12:
        with pytest.raises(
            TrainingStoppedError, match=r"could not be written .*the last good checkpoint is .*00000003"
        ):
            launch.train(config, launch.in_process, on_record=fill_and_empty)
        assert steps_saved(config) == [3]
        assert told[-1]["text"].endswith("lines could not be written (File too large)")
        file_size_limit(resource.RLIM_INFINITY)
        result = launch.train(config, launch.in_process)
        starts = [number for number, line in enumerate(lines(config)) if line["kind"] in ("start", "running")]
        assert [line for line in lines(config) if line["kind"] not in ("start", "running")] == [
            line for line in lines(whole) if line["kind"] not in ("start", "running")
        ]
        assert len(starts) == 4
    else:
        result = launch.train(config, launch.in_process, on_record=fill_and_empty)
        assert steps_saved(config) == [3, 9, 12]
        assert lines(config) == lines(whole)
        warnings = [(record["step"], record["text"]) for record in told if record["kind"] == "warning"]
        assert [step for step, text in warnings if "metrics.jsonl cannot be written" in text] == [5]
        assert [step for step, text in warnings if "no line is missing" in text] == [9]
        assert any("a checkpoint could not be written" in text for _, text in warnings)
    assert result["perplexity"] == undisturbed["perplexity"]
    models = [checkpoint.load_model(checkpoint.find(str(each.run.directory), "last")).model for each in (config, whole)]
    assert all(torch.equal(a, b) for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True))

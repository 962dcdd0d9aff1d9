"""Failures in a run on Ray are recovered from, reported in a sentence, and leave no trace in the result."""

import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import ActorDiedError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

from pipeline import config as configuration
from pipeline import launch
from pipeline.cluster import train as ray_train
from pipeline.cluster.callbacks import QuickExit, what_failed
from pipeline.cluster.train import on_ray
from pipeline.cluster.worker import run_rank
from pipeline.config import Config
from pipeline.training.directory import RunDirectory
from pipeline.training.monitor import Record, read

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def curve(config: Config) -> list[float]:
    return [r["loss"] for r in read(Path(str(config.run.directory)) / "metrics.jsonl") if r["kind"] == "train"]


def test_a_worker_that_hangs_is_started_again(
    make_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = make_config({"train.max_steps": 40, "train.checkpoint_every_steps": 5, "model.dropout": 0.1})
    changes = {"cluster.backend": "ray", "cluster.step_timeout_seconds": 2.0, "run.directory": str(tmp_path / "hung")}
    hung = configuration.with_values(whole, changes)
    marker = str(tmp_path / "has-hung")

    def rank_that_hangs_once(settings: dict[str, Any]) -> dict[str, Any]:
        from pathlib import Path

        from pipeline.training.step import TrainingStep

        update, updates = TrainingStep.update, [0]

        def update_or_hang(self: TrainingStep, lr: float, index: int) -> Any:
            updates[0] += 1
            if updates[0] == 17 and not Path(marker).exists():
                Path(marker).touch()
                threading.Event().wait()
            return update(self, lr, index)

        TrainingStep.update = update_or_hang  # type: ignore[method-assign]
        try:
            return run_rank(settings)
        finally:
            TrainingStep.update = update  # type: ignore[method-assign]

    monkeypatch.setattr(ray_train, "run_rank", rank_that_hangs_once)
    records: list[Record] = []
    launch.train(hung, on_ray, on_record=records.append)
    launch.train(whole, launch.in_process)
    assert curve(hung) == curve(whole)
    (warning,) = [record for record in records if record["kind"] == "warning"]
    assert "worker 0 made no step within cluster.step_timeout_seconds" in warning["text"]
    assert "the last checkpoint is of step 15" in warning["text"]
    (stacks,) = (tmp_path / "hung").glob("hung-worker-0-*.txt")
    assert "update_or_hang" in stacks.read_text()


@pytest.mark.slow
def test_a_run_that_saves_between_losses_survives_more_of_them_than_in_a_row(
    make_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray Train gives it up at the second loss, and is handed it again."""
    whole = make_config({"train.max_steps": 40, "train.checkpoint_every_steps": 5, "model.dropout": 0.1})
    changes = {"cluster.backend": "ray", "cluster.max_failures": 1, "run.directory": str(tmp_path / "lost")}
    marks = [str(tmp_path / f"lost-{number}") for number in range(3)]

    def rank_that_dies_three_times(settings: dict[str, Any]) -> dict[str, Any]:
        import os
        import signal
        from pathlib import Path

        from pipeline.training.step import TrainingStep

        update, updates = TrainingStep.update, [0]
        left = [mark for mark in marks if not Path(mark).exists()]

        def update_or_die(self: TrainingStep, lr: float, index: int) -> Any:
            updates[0] += 1
            if updates[0] == 12 and left and any(Path(settings["config"]["run"]["directory"]).glob("checkpoints/*")):
                Path(left[0]).touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return update(self, lr, index)

        TrainingStep.update = update_or_die  # type: ignore[method-assign]
        return run_rank(settings)

    monkeypatch.setattr(ray_train, "run_rank", rank_that_dies_three_times)
    records: list[Record] = []
    lost = configuration.with_values(whole, changes)
    launch.train(lost, on_ray, on_record=records.append)
    launch.train(whole, launch.in_process)
    assert curve(lost) == curve(whole)
    warnings = [record["text"].partition(";")[0] for record in records if record["kind"] == "warning"]
    assert warnings == ["worker 0 died"] * 3


def test_the_controller_s_process_ends_though_a_destructor_never_returns(
    make_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted = str(tmp_path / "pid")

    class HangsInC(QuickExit):
        def after_controller_start(self, train_run_context: Any) -> None:
            libc = ctypes.CDLL(None)
            libc["__cxa_atexit"](libc.pause, None, None)
            Path(noted).write_text(str(os.getpid()))
            super().after_controller_start(train_run_context)

    monkeypatch.setattr(ray_train, "QuickExit", HangsInC)
    launch.train(make_config({"train.max_steps": 2, "cluster.backend": "ray"}), on_ray)
    pid = int(Path(noted).read_text())
    give_up = time.monotonic() + 20
    while is_alive(pid) and time.monotonic() < give_up:
        time.sleep(0.1)
    left_behind = is_alive(pid)
    if left_behind:
        os.kill(pid, signal.SIGKILL)
    assert not left_behind


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_failure_that_caused_the_others_is_reported(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    dead = WorkerHealthCheckFailedError("A worker health check failed.", ActorDiedError())
    peer = RuntimeError("[gloo/transport/tcp/pair.cc] Connection closed by peer")
    assert what_failed(directory, {0: peer, 1: dead}) == "worker 1 died"
    assert what_failed(directory, {0: peer, 1: KeyError("lr")}) == "worker 1 failed ('lr')"
    assert what_failed(directory, {0: peer}) == "worker 0 lost its connection to another worker"
    (tmp_path / "no-step-rank-2.txt").write_text("Thread 0x1")
    assert "worker 2 made no step" in what_failed(directory, {0: peer, 2: dead})

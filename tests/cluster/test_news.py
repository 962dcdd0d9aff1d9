"""What workers record reaches the driver once, even if the disk is full for a while."""

import json
from pathlib import Path
from typing import Any

import pytest
from ray.train import ControllerError
from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError
from ray.train.v2._internal.execution.controller.state import ReschedulingState, RunningState, SchedulingState

from pipeline.cluster import callbacks, mailbox, room, train
from pipeline.cluster import store as kv
from pipeline.cluster.train import MAILBOX_EVERY_POLLS, News
from pipeline.training.directory import RunDirectory
from pipeline.training.monitor import Record, Tail


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Ray's key-value store, as a dict."""
    held: dict[str, Any] = {}
    monkeypatch.setattr(kv.internal_kv, "_internal_kv_initialized", lambda: True)
    monkeypatch.setattr(kv.internal_kv, "_internal_kv_put", held.__setitem__)
    monkeypatch.setattr(kv.internal_kv, "_internal_kv_get", lambda key, namespace: held.get(key))
    monkeypatch.setattr(kv.internal_kv, "_internal_kv_del", held.pop)
    return held


def record(number: int) -> Record:
    return {"kind": "warning", "step": number, "record": number, "time": 0.5 - number, "text": "…"}


def test_records_not_yet_on_disk_are_reported_early_and_only_once(tmp_path: Path, store: dict[str, Any]) -> None:
    path = tmp_path / "metrics.jsonl"
    news = News([Tail(path), Tail(tmp_path / "failures.jsonl")], "me")

    def written(*numbers: int) -> None:
        with path.open("a") as stream:
            stream.writelines(json.dumps(record(number)) + "\n" for number in numbers)

    def polled() -> list[int]:
        return [each["step"] for _ in range(MAILBOX_EVERY_POLLS) for each in news.records()]

    written(1, 2)
    assert polled() == [1, 2]
    leave = mailbox.mailbox("me")
    leave(record(3))
    assert polled() == [3]
    leave(record(4))
    assert polled() == [4]
    written(3, 4, 5)
    assert polled() == [5]
    leave(record(6))
    written(6)
    assert polled() == [6]
    leave(record(7))
    for number in range(8, 200):
        leave({**record(number), "kind": "train"})
    leave(record(200))
    assert [each["step"] for each in news.records(last=True)] == [7, 199, 200]
    assert store == {}


def test_a_failure_is_reported_even_if_it_cannot_be_written_down(
    tmp_path: Path, store: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = callbacks.FailureNotes(str(tmp_path), "me")
    tail = Tail(RunDirectory(tmp_path).failures)
    for _ in range(2):
        notes.after_exception(None, {0: RuntimeError("it broke")})
    assert [each["record"] for each in tail.records()] == [1, 2]
    gone = callbacks.FailureNotes(str(tmp_path / "gone"), "me")
    gone.after_exception(None, {0: RuntimeError("it broke")})
    (told,) = train.take_mailbox("me")
    assert told["text"] == "worker 0 failed (it broke); the last checkpoint is of step 0"


def test_a_wait_for_room_is_reported_once(
    tmp_path: Path, store: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A controller that looks for room again and again notes it the first time, and again once it had found some."""
    monkeypatch.setattr(room.ray, "available_resources", lambda: {"CPU": 5.0, "memory": 1e9})
    monkeypatch.setattr(room.ray, "cluster_resources", lambda: {"CPU": 8.0, "GPU": 1.0, "memory": 1e9})
    tail = Tail(RunDirectory(tmp_path).failures)
    notes = callbacks.WaitNotes(str(tmp_path), "me", {"CPU": 4, "GPU": 0.5})
    running = RunningState()
    found_none = ReschedulingState(ControllerError(WorkerGroupStartupTimeoutError(num_workers=2)))
    for state in (found_none, SchedulingState(None), found_none, running, found_none):
        notes.after_controller_state_update(running, state)
    assert [each["text"] for each in tail.records()] == [
        "2 workers of 4 CPUs and 0.5 GPU each wait for room on the cluster (free: 5 of 8 CPUs and 0 of 1 GPU); the "
        "last checkpoint is of step 0"
    ] * 2

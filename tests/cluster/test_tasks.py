"""What becomes of a comparison's tasks if their workers or nodes are lost, with Ray's answers played and from Ray."""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.exceptions import NodeDiedError, OutOfMemoryError, RayTaskError, WorkerCrashedError

from pipeline.cluster import tasks
from pipeline.cluster.train import Plan
from pipeline.errors import UserError

PLAN = Plan(1, 1, False)
CRASH, NODE = WorkerCrashedError(), NodeDiedError("its node is gone")


@dataclass(eq=False)
class Running:
    """What Ray returns at once for a task."""

    name: str
    outcome: Any


class PlayedRay:
    """Takes tasks in turn; the outcomes of the first calls with an argument are given, later calls run."""

    def __init__(self, outcomes: dict[str, list[Exception]]) -> None:
        self.outcomes = outcomes
        self.calls: list[str] = []
        self.cancelled: list[str] = []

    def remote(self, **options: Any) -> Callable[..., Any]:
        assert options["max_retries"] == 0
        return lambda function: self.Task(self, function)

    class Task:
        def __init__(self, played: "PlayedRay", function: Callable[..., Any]) -> None:
            self.played, self.function = played, function

        def remote(self, name: str) -> Any:
            self.played.calls.append(name)
            left = self.played.outcomes.get(name, [])
            outcome = left.pop(0) if left else self.function(name)
            return Running(name, outcome)

    def wait(self, running: list[Running], *, num_returns: int) -> tuple[list[Running], list[Running]]:
        return [running[-1]], running[:-1]  # the last to begin ends first

    def get(self, running: Running) -> Any:
        if isinstance(running.outcome, BaseException):
            raise running.outcome
        return running.outcome

    def cancel(self, running: Running, *, force: bool) -> None:
        assert force  # a task that computes does not look whether it is to end
        self.cancelled.append(running.name)


def outcome_of(
    monkeypatch: pytest.MonkeyPatch, outcomes: dict[str, list[Exception]], *, max_failures: int = 2
) -> tuple[list[str], list[str], list[str]]:
    """What the tasks a, b and c return, the calls that were made, and what was said."""
    played, said = PlayedRay(outcomes), list[str]()
    monkeypatch.setattr(tasks, "ray", played)
    run = tasks.on_ray(PLAN, max_failures=max_failures, say=said.append)
    return run(str.upper, [("a",), ("b",), ("c",)]), played.calls, said


def test_a_task_whose_worker_or_node_was_lost_begins_again(monkeypatch: pytest.MonkeyPatch) -> None:
    found, calls, said = outcome_of(monkeypatch, {"a": [CRASH, NODE], "c": [NODE]})
    assert found == ["A", "B", "C"]
    assert sorted(calls) == ["a", "a", "a", "b", "c", "c"]  # c ends first, and b runs once
    assert said == ["a worker was lost while it scored or measured; what it was doing begins again"] * 3


@pytest.mark.parametrize(("max_failures", "num_calls"), [(0, 1), (1, 2), (2, 3)])
def test_a_task_that_is_lost_too_often_ends_the_comparison(
    monkeypatch: pytest.MonkeyPatch, max_failures: int, num_calls: int
) -> None:
    """Losses of other tasks do not count: a node that goes takes all tasks on it."""
    with pytest.raises(UserError, match=r"^compare: scoring or measuring was stopped: .*; the runs are kept, the same"):
        outcome_of(monkeypatch, {"a": [CRASH] * 9, "b": [CRASH] * max_failures}, max_failures=max_failures)
    calls = tasks.ray.calls  # type: ignore[attr-defined]
    assert [calls.count(name) for name in "abc"] == [num_calls, max_failures + 1, 1]


@pytest.mark.parametrize(
    ("failure", "sentence"),
    [
        (OutOfMemoryError("Task was killed due to the node running low on memory."), "was stopped: Task was killed"),
        (RayTaskError("score_one", "", MemoryError("9 GiB")), "was stopped: 9 GiB"),
        (RayTaskError("score_one", "", UserError("run: has no checkpoint")), "^run: has no checkpoint$"),
    ],
)
def test_what_would_happen_again_is_not_tried_again(
    monkeypatch: pytest.MonkeyPatch, failure: Exception, sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        outcome_of(monkeypatch, {"b": [failure]})
    assert tasks.ray.calls == ["a", "b", "c"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("failure", [OutOfMemoryError("memory"), RayTaskError("score_one", "", ValueError("bug"))])
def test_the_others_end_with_a_task_that_fails(monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    with pytest.raises((UserError, RayTaskError)):
        outcome_of(monkeypatch, {"b": [failure]})  # after c
    assert tasks.ray.cancelled == ["a"]  # type: ignore[attr-defined]


def test_nothing_is_cancelled_when_all_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome_of(monkeypatch, {"a": [CRASH]})
    assert tasks.ray.cancelled == []  # type: ignore[attr-defined]


@pytest.mark.ray
def test_a_process_that_is_killed_is_replaced(tmp_path: Path, ray_cluster: None) -> None:
    said: list[str] = []
    run = tasks.on_ray(PLAN, max_failures=1, say=said.append)
    assert run(killed_once, [(tmp_path / "first",), (tmp_path / "second",)]) == ["first", "second"]
    assert len(said) == 2
    assert ray.is_initialized()


def killed_once(trace: Path) -> str:
    if not trace.exists():
        trace.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return trace.name

"""How often a run survives the loss of its workers: losses in a row count, with no new checkpoint in between."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError
from ray.train import ControllerError, WorkerGroupError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

from pipeline.cluster import callbacks, failures
from pipeline.cluster.failures import WorkersLostError, fitted, while_it_saves
from pipeline.errors import UserError
from pipeline.training.directory import RunDirectory
from pipeline.training.guard import TrainingStoppedError
from pipeline.training.monitor import read

DIED = WorkerHealthCheckFailedError("A worker health check failed.", ActorDiedError())


class PlayedRun:
    """A run on Ray Train whose workers are lost after these steps; it saves at each hundredth step."""

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, *, lost_at: list[int], notes: bool = True
    ) -> None:
        self.directory, self.lost_at, self.notes = RunDirectory(folder), lost_at, notes
        self.step, self.allowed = 0, list[int]()
        saved: Any = lambda folder: [(folder, {"step": self.step})] if self.step else []  # noqa: E731
        monkeypatch.setattr(failures, "manifests", saved)
        monkeypatch.setattr(callbacks, "manifests", saved)

    def fit(self, max_failures: int) -> str:
        """As Ray Train counts."""
        self.allowed.append(max_failures)
        for _ in range(max_failures + 1):
            if not self.lost_at:
                return "finished"
            self.step = self.lost_at.pop(0) // 100 * 100
            if self.notes:
                callbacks.FailureNotes(str(self.directory.path), "me").after_exception(None, {0: DIED})
        raise WorkersLostError("workers failed")

    def run(self, max_failures: int) -> str:
        return while_it_saves(self.fit, self.directory, max_failures=max_failures)


@pytest.mark.parametrize(("notes", "allowed"), [(True, [2, 0, 1, 1, 1]), (False, [2, 1, 1, 1])])
def test_a_run_that_saves_between_losses_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, notes: bool, allowed: list[int]
) -> None:
    """Ray is allowed what is left; where notes of losses cannot be written, one loss is taken to be in the row."""
    run = PlayedRun(tmp_path, monkeypatch, lost_at=[150, 250, 260, 350, 450, 550, 650, 750], notes=notes)
    assert run.run(2) == "finished"
    assert run.allowed == allowed


@pytest.mark.parametrize(
    ("max_failures", "lost_at", "num_left"),
    [
        (2, [150] * 9, 6),  # three in a row
        (2, [150, 250, 250, 250, 250], 1),  # Ray gives up at the third loss, which is the second in a row
        (2, [150, 150, 250, 350, 350, 350, 450], 1),
        (1, [50, 50, 50], 1),  # nothing was ever saved
        (0, [150, 250], 1),  # none is to be survived
    ],
)
def test_losses_in_a_row_end_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, max_failures: int, lost_at: list[int], num_left: int
) -> None:
    run = PlayedRun(tmp_path, monkeypatch, lost_at=lost_at)
    callbacks.note(run.directory, "me", "worker 0 died", lost=True)  # in an earlier start
    with pytest.raises(WorkersLostError):
        run.run(max_failures)
    assert len(run.lost_at) == num_left


def test_the_loss_of_a_node_that_was_known_to_go_is_noted_but_not_counted(tmp_path: Path) -> None:
    """Ray Train restarts such workers without end."""
    gone = ActorDiedError()
    gone._preempted = True
    notes = callbacks.FailureNotes(str(tmp_path), "me")
    for error in (DIED, WorkerHealthCheckFailedError("A worker health check failed.", gone)):
        notes.after_exception(None, {0: RuntimeError("gloo/transport"), 1: error})
    written = list(read(RunDirectory(tmp_path).failures))
    assert [record["text"] for record in written] == ["worker 1 died; the last checkpoint is of step 0"] * 2
    assert [record["lost"] for record in written] == [True, False]
    assert failures.losses_at(0, RunDirectory(tmp_path), after=0) == 1


def test_an_error_of_ray_s_controller_is_not_called_a_lost_worker() -> None:
    def failing(error: Exception) -> Any:
        def fit() -> Any:
            raise error

        return fit

    with pytest.raises(WorkersLostError, match=r"more often in a row than cluster\.max_failures allows \(gone\)"):
        fitted(failing(WorkerGroupError("gone", {0: DIED})))
    with pytest.raises(TrainingStoppedError, match=r"^Ray Train failed \(no hook\)") as failed:
        fitted(failing(ControllerError(AttributeError("no hook"))))
    assert not isinstance(failed.value, WorkersLostError)
    with pytest.raises(UserError, match="no text"):
        fitted(lambda: SimpleNamespace(return_value={"mistake": "no text"}))

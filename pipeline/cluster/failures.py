"""How a run on Ray Train ends: with its status, with a mistake that a rank found, or after too many lost workers.

``cluster.max_failures`` allows that many losses without a new checkpoint in between. Ray Train counts every loss of a
run instead, so a run of many days on machines that are taken away would end although it makes progress. Therefore a run
that Ray has given up is started again if it has saved a checkpoint since.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray.train import TrainingFailedError, WorkerGroupError

from pipeline.cluster.callbacks import LOST
from pipeline.cluster.session import own_node
from pipeline.errors import UserError
from pipeline.training.directory import RunDirectory
from pipeline.training.guard import DivergedError, TrainingStoppedError
from pipeline.training.monitor import number_of, read
from pipeline.training.selection import manifests


class WorkersLostError(TrainingStoppedError):
    """More workers were lost than Ray was told to allow."""


def while_it_saves(fit: Callable[[int], str], directory: RunDirectory, *, max_failures: int) -> str:
    """Return the status of the run in ``directory``, which survives ``max_failures`` losses in a row.

    A new checkpoint in between begins the count anew.

    Args:
        fit: begins or continues the run, allowing that many losses in all; raises ``WorkersLostError`` at one more.

    Raises:
        TrainingStoppedError: workers were lost ``max_failures`` + 1 times without a new checkpoint in between.
    """
    allowed, before = max_failures, last_record(directory)
    while True:
        step = last_step(directory)
        try:
            return fit(allowed)
        except WorkersLostError:
            if last_step(directory) <= step:
                raise
            # one at least: its note cannot be written while the disk is full
            in_a_row = max(1, losses_at(last_step(directory), directory, after=before))
            if in_a_row > max_failures:
                raise
            allowed = max_failures - in_a_row


def last_step(directory: RunDirectory) -> int:
    """Return the step of the last checkpoint; 0 before the first."""
    found = manifests(directory.path)
    return int(found[-1][1]["step"]) if found else 0


def last_record(directory: RunDirectory) -> int:
    """Return the number of the last note of a lost worker."""
    return max(map(number_of, read(directory.failures)), default=0)


def losses_at(step: int, directory: RunDirectory, *, after: int) -> int:
    """Return how often workers were lost while the last checkpoint was of ``step``, as notes ``after`` a number say."""
    notes = (record for record in read(directory.failures) if number_of(record) > after)
    return sum(bool(record.get(LOST)) and record["step"] == step for record in notes)


def fitted(fit: Callable[[], Any]) -> str:
    """The status that the ranks of a trainer's ``fit`` returned, or the error that ended them.

    Raises:
        UserError, TrainingStoppedError: what a rank found wrong, in its own words (``DivergedError`` if the numbers
            went wrong); ``WorkersLostError`` if more workers were lost than the trainer allows.
    """
    try:
        outcome = fit().return_value
    except TrainingFailedError as error:
        reason = str(error).strip().splitlines()[-1]
        node = own_node()
        logs = Path(node.get_session_dir_path()) / "logs" if node is not None else "Ray's session directory"
        if not isinstance(error, WorkerGroupError):
            raise TrainingStoppedError(f"Ray Train failed ({reason}); its logs are in {logs}") from None
        raise WorkersLostError(
            f"workers failed more often in a row than cluster.max_failures allows ({reason}); their logs are in {logs}"
        ) from None
    if "mistake" in outcome:
        raise UserError(outcome["mistake"])
    if "stopped" in outcome:
        raise (DivergedError if outcome["diverged"] else TrainingStoppedError)(outcome["stopped"])
    return outcome["status"]

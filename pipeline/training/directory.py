"""A run directory and who may write to it.

    config.yaml          the resolved configuration of the latest start
    metrics.jsonl        one JSON record a line: the record of the run
    failures.jsonl       lost and hung workers, one JSON record a line
    tensorboard/         the same, drawn from metrics.jsonl
    checkpoints/         step-00000123/ …
    lock, owner, stop    who is writing now, and the request to finish

One driver holds the lock, which the operating system drops when the driver dies. Its workers may outlive it for
some seconds on other machines, so each write first asks whether ``owner`` still names their driver.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import UserError
from pipeline.files import hold, make_directory, remove_if_empty

LOCKED = ("lock", "owner", "stop")  # what belongs to the driver, not to the run


class LostOwnershipError(RuntimeError):
    """Another driver has taken this run directory over; this one's workers must stop writing."""


class RunDirectory:
    """The paths of a run, and the ``owner`` token that must still stand in it for a write to be allowed."""

    def __init__(self, path: str | Path, *, owner: str = "") -> None:
        self.path = Path(path).absolute()
        self.owner = owner
        self.config = self.path / "config.yaml"
        self.metrics = self.path / "metrics.jsonl"
        self.failures = self.path / "failures.jsonl"
        self.tensorboard = self.path / "tensorboard"
        self.checkpoints = self.path / "checkpoints"

    def check_owner(self) -> None:
        """Raise ``LostOwnershipError`` if another driver has taken over since."""
        if self.owner and (self.path / "owner").read_text() != self.owner:
            raise LostOwnershipError(f"another process has taken over {self.path}")

    def request_stop(self) -> None:
        """Ask the ranks of this run to finish their step, save and leave."""
        (self.path / "stop").touch()

    def stop_requested(self) -> bool:
        return (self.path / "stop").exists()

    @contextmanager
    def locked(self) -> Iterator[RunDirectory]:
        """Hold the directory for this process and clear an old stop request.

        Raises:
            UserError: if another run holds it, or it cannot be made.
        """
        try:
            made = make_directory(self.path)
            descriptor = hold(self.path / "lock")
        except BlockingIOError:
            raise UserError(f"run.directory: {self.path} is in use by another run") from None
        except OSError as error:
            raise UserError(f"run.directory: cannot write to {self.path}: {error.strerror}") from None
        try:
            self._own()
            yield self
        finally:
            # where a mistake was found before anything started, leave no trace
            if self.owner and not self.config.exists():
                self._remove_traces(made)
            os.close(descriptor)

    def _own(self) -> None:
        self.owner = uuid.uuid4().hex
        try:
            (self.path / "owner").write_text(self.owner)
            (self.path / "stop").unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"run.directory: cannot write to {self.path}: {error.strerror}") from None

    def _remove_traces(self, made: list[Path]) -> None:
        """Remove what ``locked`` made, the directories only if nothing else is in them."""
        for name in LOCKED:
            (self.path / name).unlink(missing_ok=True)
        remove_if_empty(made)

    def set_aside(self, *, but: str | Path = "") -> Path | None:
        """Move what the ``locked`` directory holds to ``<name>.old-1`` (or the next free number); None: nothing.

        What ``but`` is, or is within, stays.
        """
        held = [path for path in self.path.iterdir() if path.name not in LOCKED and not Path(but).is_relative_to(path)]
        if not held:
            return None
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.old-{number}")).exists():
            number += 1
        aside.mkdir()
        for path in held:
            path.rename(aside / path.name)
        return aside

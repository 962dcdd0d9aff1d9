"""A run directory and who may write to it.

    config.yaml          the resolved configuration of the latest start
    metrics.jsonl        one JSON record a line: the record of the run
    failures.jsonl       lost and hung workers, one JSON record a line
    tensorboard/         the same record, drawn from metrics.jsonl
    checkpoints/         step-00000123/ …
    lock, owner, stop    who is writing now, and the request to finish

One driver holds the lock, which the operating system drops when the driver dies. Its workers may outlive it for
some seconds on other machines, so each write first asks whether ``owner`` still names their driver. The trials of a
search are run directories that the search's own directory holds: its owner and its stop request are theirs too.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from pipeline.errors import UserError
from pipeline.files import hold, make_directory, remove_if_empty, replacing

LOCKED = ("lock", "owner", "stop")  # what belongs to the driver, not to the run
FORMER = re.compile(r"old-\d+")  # what starting over has set aside within the directory


class LostOwnershipError(RuntimeError):
    """Another driver has taken this run directory over; this one's workers must stop writing."""


class RunDirectory:
    """The paths of a run, and the ``owner`` token that its directory must still name for a write to be allowed."""

    def __init__(self, path: str | Path, *, owner: str = "", held_by: str | Path | None = None) -> None:
        """``held_by``: the directory with the files ``owner`` and ``stop``; None: this one."""
        self.path = Path(path).absolute()
        self.held_by = self.path if held_by is None else Path(held_by).absolute()
        self.owner = owner
        self.config = self.path / "config.yaml"
        self.metrics = self.path / "metrics.jsonl"
        self.failures = self.path / "failures.jsonl"
        self.tensorboard = self.path / "tensorboard"
        self.checkpoints = self.path / "checkpoints"

    def check_owner(self) -> None:
        """Raise ``LostOwnershipError`` if another driver has taken over since, or the directory was removed."""
        if not self.owner:
            return
        file = self.held_by / "owner"
        try:
            owner = file.read_bytes()
        except FileNotFoundError:
            raise LostOwnershipError(f"{self.held_by} no longer exists, or {file} does not") from None
        if owner != self.owner.encode():
            raise LostOwnershipError(f"another process has taken over {self.held_by}")

    def request_stop(self) -> None:
        """Ask the ranks of this run to finish their step, save and leave."""
        (self.held_by / "stop").touch()

    def stop_requested(self) -> bool:
        return (self.held_by / "stop").exists()

    @contextmanager
    def locked(self) -> Iterator[RunDirectory]:
        """Hold the directory for this process and clear an old stop request.

        Raises:
            UserError: another run holds it, or it cannot be created.
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
            # if a mistake was found before anything started, leave no trace
            if self.owner and not self.config.exists():
                self._remove_traces(made)
            os.close(descriptor)

    def _own(self) -> None:
        self.owner = uuid.uuid4().hex
        try:
            with replacing(self.path / "owner") as temporary:
                temporary.write_text(self.owner)
            (self.path / "stop").unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"run.directory: cannot write to {self.path}: {error.strerror}") from None

    def _remove_traces(self, made: list[Path]) -> None:
        """Remove what ``locked`` made, the directories only if nothing else is in them."""
        for name in LOCKED:
            (self.path / name).unlink(missing_ok=True)
        remove_if_empty(made)

    def set_aside(self, *, but: str | Path | None = None) -> Path | None:
        """Move what the ``locked`` directory holds to ``<name>.old-1`` (or the next free number); None: nothing moved.

        What ``but`` is, or is within, stays. If the directory is a link to another file system, or all of one, the
        place is ``old-1`` within it: nothing can be renamed from one file system into another.

        Raises:
            UserError: it cannot be moved; everything is still where it was.
        """
        stays = None if but is None else Path(but).resolve()
        if stays == self.path.resolve():
            raise UserError(
                f"data.directory: {but} is run.directory itself, which starting over sets aside; name another"
            )
        held = [
            path
            for path in self.path.iterdir()
            if path.name not in LOCKED
            and not FORMER.fullmatch(path.name)
            and not (stays is not None and stays.is_relative_to(path.resolve()))
        ]
        if not held:
            return None
        failures = []
        for start in (self.path.with_name(f"{self.path.name}.old-"), self.path / "old-"):
            aside = next(free for number in count(1) if not (free := Path(f"{start}{number}")).exists())
            try:
                move_together(held, aside)
            except OSError as error:
                failures.append(f"{aside}: {error.strerror}")
            else:
                return aside
        raise UserError(f"run.directory: what {self.path} holds cannot be set aside as {' nor as '.join(failures)}")


def move_together(paths: list[Path], folder: Path) -> None:
    """Move ``paths`` into a new ``folder``, all of them or, raising ``OSError``, none."""
    folder.mkdir()
    moved = []
    try:
        for path in paths:
            path.rename(folder / path.name)
            moved.append(path)
    except OSError:
        for path in moved:
            (folder / path.name).rename(path)
        folder.rmdir()
        raise

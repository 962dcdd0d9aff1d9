"""The journal of a search, ``search.jsonl``: which trials were drawn, what they reported, and how each ended.

It is the one truth of a search, one JSON record a line, each with its checksum. Ray Tune's own files are never read:
they count a trial that was cut off as finished. A trial without an end goes on from its own last checkpoint.

    start    a trial begins, or goes on after so many tokens: its name, number and settings
    report   a validation: tokens, loss (nats per token), perplexity, and the rung that it is the first to reach
    end      its status (done, stopped, lost, failed), the reason, and the figures of its checkpoints
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline import signing
from pipeline.errors import UserError
from pipeline.files import reason, write_file
from pipeline.training.directory import RunDirectory
from pipeline.training.monitor import CHECKSUM, Record, checksum_of

JOURNAL = "search.jsonl"
FORMAT = 1
# failed: its process died, its disk was full, …; the next start of the search tries it again
DONE, STOPPED, LOST, FAILED = "done", "stopped", "lost", "failed"


@dataclass
class Trial:
    """One trial as the journal knows it."""

    name: str
    number: int  # of the draw, from 1
    settings: dict[str, Any]
    reports: list[Record] = field(default_factory=list)
    end: Record | None = None
    is_running: bool = False

    @property
    def tokens(self) -> int:
        """How far its last report goes."""
        return self.reports[-1]["tokens"] if self.reports else 0


@dataclass
class Standing:
    """Where a search stands: what its records come to."""

    trials: dict[str, Trial] = field(default_factory=dict)

    @classmethod
    def of(cls, records: Iterable[Record]) -> Standing:
        standing = cls()
        for record in records:
            standing.apply(record)
        return standing

    def apply(self, record: Record) -> None:
        """Take one more record in."""
        name = record.get("trial")
        if record["kind"] == "start":
            trial = self.trials.setdefault(str(name), Trial(str(name), record["number"], record["settings"]))
            trial.end, trial.is_running = None, True
        elif record["kind"] == "report":
            self.trials[str(name)].reports.append(record)
        elif record["kind"] == "end":
            trial = self.trials[str(name)]
            trial.end, trial.is_running = record, False

    def begin_sitting(self) -> None:
        """No trial runs yet, whatever ran when the last driver ended."""
        for trial in self.trials.values():
            trial.is_running = False

    @property
    def num_ended(self) -> int:
        return sum(trial.end is not None for trial in self.trials.values())

    @property
    def best_perplexity(self) -> float | None:
        """The lowest so far, of all reports."""
        reports = [report["perplexity"] for trial in self.trials.values() for report in trial.reports]
        ends = [trial.end["perplexity"] for trial in self.trials.values() if trial.end and trial.end["perplexity"]]
        return min(reports + ends, default=None)


def read_journal(directory: Path) -> list[Record]:
    """The records of the search in ``directory``, oldest first; none where there is no journal.

    A last line that was cut short by a kill is left out: what it said is found in the trial's own directory again.

    Raises:
        UserError: naming a line that was altered, or a journal of another format.
    """
    path = directory / JOURNAL
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {reason(error)}") from None
    records = []
    for number, line in enumerate(content.split(b"\n")[:-1], start=1):
        try:
            record = signing.parse(line)
        except ValueError:
            record = {}
        if record.pop(CHECKSUM, None) != checksum_of(record):
            raise UserError(
                f"{path}: line {number} was altered since it was written; without this file the search goes on from "
                "what its trials' directories hold"
            )
        records.append(record)
    if records and records[0].get("format") != FORMAT:
        raise UserError(f"{path}: format {records[0].get('format')}, but this version reads format {FORMAT}")
    return records


def begin_journal(directory: Path, records: Iterable[Record]) -> None:
    """Write the journal anew with these ``records``, as ``read_journal`` gives them. Raises ``UnwritableError``."""
    whole = list(records) or [{"kind": "search", "format": FORMAT, "time": time.time()}]
    write_file(directory / JOURNAL, "".join(map(as_line, whole)))


class Journal:
    """Appends records to the journal of a search, for as long as its owner holds it.

    No ``OSError`` leaves it: what the storage refuses waits, and ``failure`` says why.
    """

    def __init__(self, directory: RunDirectory) -> None:
        self.directory = directory
        self.waiting = b""
        self.failure = ""

    def append(self, *records: Mapping[str, Any]) -> None:
        """Add ``records`` in one write, after all that waits.

        Raises:
            LostOwnershipError: another driver has taken the search over.
        """
        self.waiting += "".join(as_line({**record, "time": time.time()}) for record in records).encode()
        self.retry()

    def retry(self) -> None:
        """Try to write what waits. Raises ``LostOwnershipError`` as ``append``."""
        if not self.waiting:
            return
        try:
            self.directory.check_owner()
            append_lines(self.directory.path / JOURNAL, self.waiting)
        except OSError as error:
            self.failure = reason(error)
        else:
            self.waiting, self.failure = b"", ""


def append_lines(path: Path, lines: bytes) -> None:
    """Append whole ``lines`` to a file; where that fails, it is as it was. Raises ``OSError``."""
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":  # half a line of a writer that failed or was killed
            size = path.read_bytes().rfind(b"\n") + 1
            os.ftruncate(descriptor, size)
        try:
            while lines:
                lines = lines[os.write(descriptor, lines) :]
        except OSError:
            os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)


class JournalTail:
    """New records of a journal that another thread or process writes, whole lines only."""

    def __init__(self, directory: Path) -> None:
        """What the journal holds already is not new."""
        self.path = directory / JOURNAL
        self.offset = self.path.stat().st_size

    def records(self) -> list[Record]:
        """Records written since the last call."""
        try:
            with self.path.open("rb") as stream:
                stream.seek(self.offset)
                content = stream.read()
        except OSError:  # the storage is away for a while
            return []
        whole = content[: content.rfind(b"\n") + 1]
        self.offset += len(whole)
        return [json.loads(line) for line in whole.splitlines()]


def as_line(record: Mapping[str, Any]) -> str:
    return json.dumps({**record, CHECKSUM: checksum_of(dict(record))}, allow_nan=False) + "\n"

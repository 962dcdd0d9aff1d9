"""The journal of a search, ``search.jsonl``: which trials were drawn, what they reported, what was decided.

It is the one truth of a search, one JSON record a line, each with its checksum. Ray Tune's own files are never read:
they count a trial that was cut off as finished. A trial without an end continues from its own last checkpoint.

    search   the format, once, at the beginning, and the fingerprint of the corpus; in a comparison of variants
             (``pipeline.compare``), that it is one, and the fingerprint of the tokens
    sitting  a driver begins
    start    a trial begins, or continues after a number of tokens: its name, number and settings; how many draws before
             it were refused
    report   a validation: tokens, loss (nats per token), perplexity, and its rung, if it is the trial's first there
    pause    a trial stops at its rung, where it is not among the best for now
    promote  a trial continues from its rung, at once or later
    generation  of a population: who takes the checkpoint of whom, with which settings, and who continues
    interrupted  a trial saved and left, because the search was asked to stop, or is out of tokens or time
    failure  the process of a trial was lost, and the tokens of its last checkpoint; it is tried again
    room     a trial has waited long for room on the cluster; in words
    over     search.max_hours is used up
    end      of a trial: its status (done, stopped, lost, failed), the reason, perplexity, tokens and seconds

``standing`` says what they add up to. Earlier versions (format 1) wrote only start, report and end.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline import signing
from pipeline.errors import UserError
from pipeline.files import reason, write_file
from pipeline.training.directory import RunDirectory
from pipeline.training.monitor import CHECKSUM, Record, checksum_of

JOURNAL = "search.jsonl"
FORMAT, EARLIER = 2, 1  # what this version writes; what it also reads and continues
SEARCH, COMPARISON = "search", "comparison"  # whose trials the records are about
TOKENS = "tokens"  # of the first record: the fingerprint of the tokens of the corpus
WAITING_FOR_ROOM = "room"  # the kind of that record


def read_journal(directory: Path) -> list[Record]:
    """The records of the search in ``directory``, oldest first; none if there is no journal.

    A last line that was cut short by a kill is left out: what it said can be found again in the trial's own directory.

    Raises:
        UserError: naming a line that was altered, or that is left of a trial without its start; or a journal of
            another format.
    """
    path = directory / JOURNAL
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {reason(error)}") from None
    *lines, rest = content.split(b"\n")
    if whole_record(rest[:-1]):  # its newline was altered: a writer that was killed leaves nothing after a record
        lines.append(rest)
    records: list[Record] = []
    started: set[Any] = set()
    for number, line in enumerate(lines, start=1):
        record = whole_record(line)
        if record is None:
            raise UserError(
                f"{path}: line {number} was altered since it was written; without this file the search continues from "
                "what its trials' directories hold"
            )
        records.append(record)
        trial = record.get("trial")
        if record.get("kind") == "start":
            started.add(trial)
        elif trial is not None and trial not in started:
            raise UserError(f"{path}: line {number} is about {trial}, but the line that starts it was taken out")
    if records and records[0].get("format") not in (FORMAT, EARLIER):
        raise UserError(f"{path}: format {records[0].get('format')}, but this version reads formats up to {FORMAT}")
    return records


def whole_record(line: bytes) -> Record | None:
    """The record in a line of the journal, without its checksum; None if the line is no record or was altered."""
    try:
        record = signing.parse(line)
    except ValueError:
        return None
    return record if record.pop(CHECKSUM, None) == checksum_of(record) else None


def kind_of(records: Sequence[Record]) -> str:
    """Whether ``records`` are those of a search or of a comparison; empty if there are none."""
    return str(records[0].get("of", SEARCH)) if records else ""


def begin_journal(
    directory: Path, records: Iterable[Record], *, of: str = SEARCH, corpus: str = "", tokens: str = ""
) -> None:
    """Write a new journal with these ``records``, as ``read_journal`` returns them. Raises ``UnwritableError``.

    ``corpus``: the fingerprint of the one that trials are trained on, unless the records say so; ``tokens``: the same
    of its tokens alone.
    """
    whole = list(records) or [{"kind": "search", "format": FORMAT, "time": time.time()}]
    if of != SEARCH:
        whole[0] = {**whole[0], "of": of}
    if corpus:
        whole[0] = {"corpus": corpus, **whole[0]}
    if tokens:
        whole[0] = {TOKENS: tokens, **whole[0]}
    write_file(directory / JOURNAL, "".join(map(as_line, whole)))


class Journal:
    """Appends records to the journal of a search, for as long as its owner holds it.

    It never raises ``OSError``: what the storage refuses waits, and ``failure`` says why.
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
        self.waiting += "".join(as_line({"time": time.time(), **record}) for record in records).encode()
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
    """Append whole ``lines`` to a file, which is unchanged if that fails. Raises ``OSError``."""
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
        except OSError:  # the storage cannot be reached for a while
            return []
        whole = content[: content.rfind(b"\n") + 1]
        self.offset += len(whole)
        return [json.loads(line) for line in whole.splitlines()]


def as_line(record: Mapping[str, Any]) -> str:
    return json.dumps({**record, CHECKSUM: checksum_of(dict(record))}, allow_nan=False) + "\n"

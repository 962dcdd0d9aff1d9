"""The record of a run is written to metrics.jsonl, and drawn from there for TensorBoard and the progress line.

metrics.jsonl is the record, one JSON object a line with its ``kind`` (start, running, train, valid, sample, change,
warning, profile), global ``step``, number (``record``), unix ``time`` and the ``xxh3`` of all this. TensorBoard's files
are drawn from it again at every start, so a run that was stopped and continued is one clean line in any reader. Only
rank 0 has a ``Monitor``.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeGuard

import xxhash

from pipeline.events import EventFile, PatientFile
from pipeline.files import replacing
from pipeline.strict_json import finite
from pipeline.training.directory import LostOwnershipError, RunDirectory
from pipeline.training.times import PHASES

Record = dict[str, Any]

SCALARS = {
    "train": {
        "loss": "loss/train",
        "perplexity": "perplexity/train",
        "divergence": "divergence/train",
        "lr": "optimizer/learning_rate",
        "grad_norm": "optimizer/gradient_norm",
        "clipped": "optimizer/clipped_share",
        "loss_scale": "optimizer/loss_scale",
        "tokens_per_second": "speed/tokens_per_second",
        "slowest_ratio": "speed/slowest_worker_ratio",
        "flops_utilization": "speed/model_flops_utilization",
        "peak_memory_mb": "memory/peak_mb",
        "peak_gpu_memory_mb": "memory/peak_gpu_mb",
        **{f"{phase}_ms": f"step_ms/{phase}" for phase in PHASES},
    },
    "valid": {"loss": "loss/valid", "perplexity": "perplexity/valid", "bits_per_byte": "bits_per_byte/valid"},
}
WITH_TEXT = ("sample", "warning", "profile", "change")
CHECKSUM = "xxh3"


class Monitor:
    """Appends records to a run's metrics file and draws them for TensorBoard.

    Failing storage does not end the run: it is reported once, and the lines wait in memory (see ``PatientFile``).
    """

    def __init__(
        self,
        directory: RunDirectory,
        *,
        step: int,
        on_record: Callable[[Record], None] | None = None,
        on_waiting: Callable[[Record], None] | None = None,
    ) -> None:
        """Continue the record of ``directory`` after ``step``; later lines, of work that was lost, are dropped.

        Args:
            on_record: called with each new record.
            on_waiting: called with each new record that waits to be written.

        Raises:
            OSError: the record cannot be started.
        """
        self.directory = directory
        self.is_trial = directory.held_by != directory.path
        self.step = step
        self.on_record = on_record
        self.on_waiting = on_waiting
        found = list(parsed(directory.metrics))
        records = [record for record in found if record is not None]
        kept = [record for record in records if record["step"] <= step and record["kind"] != "end"]
        self.notices = dropped_lines(directory.metrics, len(found) - len(records))
        self.number = max(map(number_of, records), default=0)
        # the tokens up to which changes of settings are in the record
        self.changed_at = max((record.get("tokens", 0) for record in kept if record["kind"] == "change"), default=0)
        with replacing(directory.metrics) as temporary:
            temporary.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")
        shutil.rmtree(directory.tensorboard, ignore_errors=True)
        self.events = EventFile(directory.tensorboard, purges=True)
        for record in kept:
            self._draw(record)
        if self.events.file.failure:
            raise OSError(self.events.file.failure)
        self.file = PatientFile(directory.metrics, before_write=directory.check_owner)
        self.failure = ""

    def write(self, kind: str, *, step: int, **values: Any) -> None:
        """Add one record and pass it to ``on_record``; numbers that are not finite become null, as JSON has none.

        Raises:
            LostOwnershipError: another driver has taken the run over.
        """
        self.step = step
        record = self._record(kind, step, values)
        self.file.append((json.dumps(record) + "\n").encode())
        self._draw(record)
        self._pass_on(record)
        self._tell(step)

    def flush(self) -> None:
        """Try to write what waits. Raises ``LostOwnershipError`` if another driver has taken the run over."""
        if self.file.waiting:
            self.file.flush()
        if self.events.file.waiting:
            self.events.file.flush()

    def close(self) -> None:
        """Write what waits, or warn that it is lost; raise nothing, as another error may be on its way already."""
        self.events.close()
        with suppress(LostOwnershipError):
            self.file.close()
            if num_lost := len(self.file.waiting):
                text = f"{self.file.path}: its last {num_lost:,} lines could not be written ({self.file.failure})"
                self._pass_on(self._record("warning", self.step, {"text": text}))

    def _record(self, kind: str, step: int, values: Mapping[str, Any]) -> Record:
        self.number += 1
        record = {"kind": kind, "step": step, "record": self.number, "time": time.time(), **finite(dict(values))}
        return {**record, CHECKSUM: checksum_of(record)}

    def _pass_on(self, record: Record) -> None:
        if self.on_record is not None:
            self.on_record(record)
        if self.file.waiting and self.on_waiting is not None:
            self.on_waiting(record)

    def _tell(self, step: int) -> None:
        """Warn if the storage began to fail, or to work again, since the last warning."""
        failing = next((file for file in (self.file, self.events.file) if file.failure), None)
        if (failing is not None) == bool(self.failure):
            return
        if failing is not None:
            self.failure = f"{failing.path} cannot be written ({failing.failure})"
            text = f"{self.failure}; its lines are kept in memory meanwhile, training continues"
        else:
            self.failure = ""
            lost = self.file.num_lost
            text = "the storage takes the record again; " + (
                f"the {lost:,} oldest of the lines that waited are lost" if lost else "no line is missing"
            )
        self.write("warning", step=step, text=text)

    def _draw(self, record: Mapping[str, Any]) -> None:
        """Add ``record`` to the curves, over steps or, for a trial, over tokens: other trials' steps may hold more."""
        step, when = record["step"], record["time"]
        if self.is_trial:
            step = record.get("tokens", step)
        tags = SCALARS.get(record["kind"], {})
        values = [(tag, record.get(name)) for name, tag in tags.items()]
        self.events.scalars([(tag, value) for tag, value in values if is_number(value)], step=step, when=when)
        if record["kind"] == "sample":
            self.events.text("sample", "    " + record["text"].replace("\n", "\n    "), step=step, when=when)


def is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_whole(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def is_record(values: Record) -> bool:
    """Return whether ``values`` have what every record has."""
    return (
        isinstance(values.get("kind"), str)
        and is_whole(values.get("step"))
        and is_number(values.get("time"))
        and (values["kind"] not in WITH_TEXT or isinstance(values.get("text"), str))
    )


def checksum_of(record: Record) -> str:
    """Hex xxh3 of a record's values, in whatever order they stand; records of earlier versions have none."""
    content = {name: value for name, value in record.items() if name != CHECKSUM}
    return xxhash.xxh3_64_hexdigest(json.dumps(content, sort_keys=True).encode())


def number_of(record: Record) -> int:
    """The number of a record, which grows by one from line to line over all starts of a run; 0 in older files."""
    number = record.get("record")
    return number if is_whole(number) else 0


def record_of(line: bytes) -> Record | None:
    """Read the record in a line; None if it holds none, or one that was altered since it was written.

    What JSON has no word for (NaN, Infinity) becomes null.
    """
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    record = finite(value) if isinstance(value, dict) else {}
    is_altered = CHECKSUM in record and record[CHECKSUM] != checksum_of(record)
    return record if is_record(record) and not is_altered else None


def parsed(path: Path) -> Iterator[Record | None]:
    """The record in each line of a metrics file, None if it has none; a last line cut short by a kill is left out.

    Yields nothing if there is no file.
    """
    if not path.exists():
        return
    with path.open("rb") as lines:
        for line in lines:
            record = record_of(line)
            if record is not None or (line.endswith(b"\n") and line.strip()):
                yield record


def dropped_lines(path: Path, number: int) -> list[str]:
    """Say in a sentence how many lines of ``path`` are no records, if any are."""
    lines = "1 line that is no record was" if number == 1 else f"{number:,} lines that are no records were"
    return [f"{path}: {lines} dropped"] if number else []


def read(path: Path) -> Iterator[Record]:
    """The records of a metrics file; other lines are left out."""
    return (record for record in parsed(path) if record is not None)


class Tail:
    """New records of a file that another process writes, whole lines only, in their order in the file.

    They are told apart by their numbers: clocks of different machines differ.
    """

    def __init__(self, path: Path) -> None:
        """What the file holds already is not new."""
        self.path = path
        self.latest = max(map(number_of, read(path)), default=0)
        self.inode = 0
        self.offset = 0

    def records(self) -> list[Record]:
        """Records written since the last call; those that a restart copies into its new file come only once."""
        try:
            with self.path.open("rb") as stream:
                status = os.fstat(stream.fileno())
                if status.st_ino != self.inode or status.st_size < self.offset:
                    self.inode, self.offset = status.st_ino, 0
                stream.seek(self.offset)
                lines = stream.read()
        except OSError:  # not there yet, or the storage is away for a while
            return []
        whole = lines[: lines.rfind(b"\n") + 1]
        self.offset += len(whole)
        fresh = []
        for record in map(record_of, whole.split(b"\n")):
            if record is not None and number_of(record) > self.latest:
                self.latest = number_of(record)
                fresh.append(record)
        return fresh

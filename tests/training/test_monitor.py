"""The record of a run stays consistent over stops, kills, full disks and clocks that differ."""

import errno
import json
import math
import os
import time
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from jobs.terminal.progress import RunProgress
from pipeline.training.directory import LostOwnershipError, RunDirectory
from pipeline.training.monitor import Monitor, Record, Tail, read, record_of
from tests.damage import flipped


def train_line(monitor: Monitor, step: int, loss: float) -> None:
    monitor.write("train", step=step, loss=loss, perplexity=2.0, lr=0.1, grad_norm=1.0, tokens_per_second=5.0)


def losses_in_tensorboard(directory: RunDirectory) -> list[tuple[int, float]]:
    """Every loss point in the raw event files, not filtered by a reader."""
    points = []
    for path in sorted(directory.tensorboard.glob("events*")):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if value.tag == "loss/train":
                    points.append((event.step, round(value.tensor.float_val[0], 4)))
    return points


def test_lost_work_is_dropped_from_the_record_and_from_tensorboard(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    monitor = Monitor(directory, step=0)
    for step in (10, 20, 30):
        train_line(monitor, step, loss=step / 10)
    monitor.close()
    with directory.metrics.open("a") as stream:
        stream.write('{"kind": "train", "step": 40, "lo')  # as if killed while writing
    monitor = Monitor(directory, step=20)
    train_line(monitor, 30, loss=7.0)
    monitor.close()
    assert [(r["step"], r["loss"]) for r in read(directory.metrics)] == [(10, 1.0), (20, 2.0), (30, 7.0)]
    assert losses_in_tensorboard(directory) == [(10, 1.0), (20, 2.0), (30, 7.0)]


def test_the_curves_of_a_trial_are_drawn_over_tokens(tmp_path: Path) -> None:
    for directory, places in (
        (RunDirectory(tmp_path / "a"), [3, 6]),
        (RunDirectory(tmp_path / "b", held_by=tmp_path), [60, 90]),
    ):
        directory.path.mkdir()
        for last in (0, 3):  # the second draws what the first wrote again
            monitor = Monitor(directory, step=last)
            monitor.write("train", step=last + 3, tokens=60 + 10 * last, loss=1.0)
            monitor.close()
        assert [place for place, _ in losses_in_tensorboard(directory)] == places


def test_numbers_that_are_not_finite_are_null(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = RunDirectory(tmp_path)
    records: list[Record] = []
    monitor = Monitor(directory, step=0, on_record=records.append)
    train_line(monitor, 10, loss=math.nan)
    monitor.close()
    assert "NaN" not in directory.metrics.read_text()
    assert records[0]["loss"] is None
    assert losses_in_tensorboard(directory) == []
    progress = RunProgress()
    progress.show({**records[0], "seconds_left": 1.0})
    assert "loss not finite  perplexity 2.0" in capsys.readouterr().err


def test_tail_returns_each_new_whole_record_once_over_a_restart(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    monitor = Monitor(directory, step=0)
    train_line(monitor, 5, loss=1.0)
    tail = Tail(directory.metrics)
    train_line(monitor, 10, loss=1.0)
    train_line(monitor, 15, loss=1.0)
    with directory.metrics.open("a") as stream:
        stream.write(json.dumps({"kind": "train"})[:8])
    assert [record["step"] for record in tail.records()] == [10, 15]
    assert tail.records() == []
    monitor.close()
    for lost_step, last_step in ((10, 15), (10, 20)):  # twice from the same checkpoint, so step 15 comes again
        monitor = Monitor(directory, step=lost_step)
        train_line(monitor, last_step, loss=1.0)
        monitor.close()
        assert [record["step"] for record in tail.records()] == [last_step]
    assert [record["step"] for record in read(directory.metrics)] == [5, 10, 20]


@pytest.mark.parametrize("hours", [-1, 1])
def test_tail_follows_a_worker_whose_clock_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: int) -> None:
    directory = RunDirectory(tmp_path)
    monitor = Monitor(directory, step=0)
    train_line(monitor, 5, loss=1.0)
    monitor.close()
    tail = Tail(directory.metrics)
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 3600 * hours)
    monitor = Monitor(directory, step=5)
    train_line(monitor, 10, loss=1.0)
    monkeypatch.setattr(time, "time", lambda: now() - 3600 * hours)  # the restarted worker is on another machine
    monitor.close()
    monitor = Monitor(directory, step=10)
    train_line(monitor, 15, loss=1.0)
    monitor.close()
    assert [record["step"] for record in tail.records()] == [10, 15]


NO_RECORDS = [
    b"",
    b"null",
    b"[1, 2]",
    b'"text"',
    b'{"kind": "train", "time": 1.0}',
    *(b'{"kind": "train", "step": %s, "time": 1.0}' % step for step in
      (b"1.0", b'"1"', b"NaN", b"Infinity", b"-1", b"true", b"null", b"[1]", b"1e3", b"9" * 5000)),
    b'{"step": 1, "time": 1.0}',
    b'{"kind": 3, "step": 1, "time": 1.0}',
    b'{"kind": "train", "step": 1}',
    b'{"kind": "train", "step": 1, "time": "now"}',
    b'{"kind": "train", "step": 1, "time": NaN}',
    b'{"kind": "sample", "step": 1, "time": 1.0}',
    b"\x00\xff\x80",
    b"[" * 100_000,
]  # fmt: skip


def test_lines_that_are_not_records_are_dropped_and_counted(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    monitor = Monitor(directory, step=0)
    tail = Tail(directory.metrics)
    train_line(monitor, 5, loss=1.0)
    monitor.close()
    with directory.metrics.open("ab") as stream:
        stream.write(b"\n".join(NO_RECORDS) + b'\n{"kind": "train", "st')
    assert [record["step"] for record in tail.records()] == [5]
    monitor = Monitor(directory, step=9)
    train_line(monitor, 10, loss=2.0)
    monitor.close()
    num_bad = len(NO_RECORDS) - 1  # an empty line is not counted
    assert monitor.notices == [f"{directory.metrics}: {num_bad} lines that are no records were dropped"]
    assert [record["step"] for record in read(directory.metrics)] == [5, 10]
    assert losses_in_tensorboard(directory) == [(5, 1.0), (10, 2.0)]
    assert [record["step"] for record in tail.records()] == [10]
    assert Monitor(directory, step=10).notices == []


def test_no_flipped_bit_changes_what_a_line_says(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    monitor = Monitor(directory, step=0)
    monitor.write("train", step=20, loss=1.0986122886681098, perplexity=3.0, lr=1e-05, tokens_per_second=None)
    monitor.close()
    line = directory.metrics.read_bytes()
    (record,) = read(directory.metrics)
    values = {name: value for name, value in record.items() if name != "xxh3"}
    num_dropped = 0
    for bit in range(8 * len(line)):
        found = record_of(flipped(line, bit))
        num_dropped += found is None
        # with a flip in the name of the checksum it passes for a line of an earlier version
        assert found is None or found.items() >= values.items(), f"bit {bit}"
    assert num_dropped > 7.7 * len(line)


def test_numbers_unknown_to_json_are_read_as_null_and_strings_are_not_plotted(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    lines = ['"loss": NaN', '"loss": 1e999', '"loss": -Infinity', '"loss": "0.5"', '"loss": 0.5']
    directory.metrics.write_text(
        "".join(f'{{"kind": "train", "step": {n}, "time": 1, {line}}}\n' for n, line in enumerate(lines))
    )
    Monitor(directory, step=9).close()
    assert [record["loss"] for record in read(directory.metrics)] == [None, None, None, "0.5", 0.5]
    assert losses_in_tensorboard(directory) == [(4, 0.5)]
    for line in directory.metrics.read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How many bytes ``os.write`` still takes before it fails as on a full disk, as a list of one number."""
    left: list[float] = [math.inf]
    write = os.write

    def on_disk(descriptor: int, data: bytes) -> int:
        if not left[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        num_written = write(descriptor, data[: int(min(left[0], len(data)))])
        left[0] -= num_written
        return num_written

    monkeypatch.setattr(os, "write", on_disk)
    return left


def test_lines_of_a_full_disk_wait_and_are_written_in_order(tmp_path: Path, room: list[float]) -> None:
    directory = RunDirectory(tmp_path)
    told: list[Record] = []
    waiting: list[Record] = []
    monitor = Monitor(directory, step=0, on_record=told.append, on_waiting=waiting.append)
    train_line(monitor, 1, loss=1.0)
    room[0] = 100  # enough for part of a line
    for step in (2, 3, 4):
        train_line(monitor, step, loss=float(step))
    whole = [record["step"] for record in read(directory.metrics)]
    assert whole == [1]
    room[0] = math.inf
    train_line(monitor, 5, loss=5.0)
    monitor.close()
    warnings = [record["text"] for record in told if record["kind"] == "warning"]
    assert warnings == [
        f"{directory.metrics} cannot be written (No space left on device); "
        "its lines are kept in memory meanwhile, training continues",
        "the storage takes the record again; no line is missing",
    ]
    assert list(read(directory.metrics)) == told
    assert [(record["step"], record["kind"]) for record in waiting] == [
        (2, "train"), (2, "warning"), (3, "train"), (4, "train")
    ]  # fmt: skip
    assert losses_in_tensorboard(directory) == [(step, float(step)) for step in range(1, 6)]


def test_lines_that_are_never_written_are_reported_and_hide_no_error(tmp_path: Path, room: list[float]) -> None:
    directory = RunDirectory(tmp_path, owner="a")
    (tmp_path / "owner").write_text("a")
    told: list[Record] = []
    monitor = Monitor(directory, step=0, on_record=told.append)
    room[0] = 0
    train_line(monitor, 1, loss=1.0)
    monitor.close()
    assert told[-1]["text"].endswith("its last 2 lines could not be written (No space left on device)")
    room[0] = math.inf
    (tmp_path / "owner").write_text("b")
    with pytest.raises(LostOwnershipError):
        train_line(monitor, 2, loss=1.0)
    monitor.close()
    assert list(read(directory.metrics)) == []


def test_a_record_whose_file_cannot_be_created_is_an_error_at_once(tmp_path: Path, room: list[float]) -> None:
    room[0] = 0
    with pytest.raises(OSError, match="No space left on device"):
        Monitor(RunDirectory(tmp_path), step=0)

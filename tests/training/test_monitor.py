"""The record of a run stays one clean line over stops and kills."""

import json
import math
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from pipeline.training.directory import RunDirectory
from pipeline.training.monitor import Monitor, Record, Tail, read
from pipeline.training.progress import Progress


def train_line(monitor: Monitor, step: int, loss: float) -> None:
    monitor.write("train", step=step, loss=loss, perplexity=2.0, lr=0.1, grad_norm=1.0, tokens_per_second=5.0)


def losses_in_tensorboard(directory: RunDirectory) -> list[tuple[int, float]]:
    """Every loss point in the raw event files, before any reader tidies up."""
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
        stream.write('{"kind": "train", "step": 40, "lo')  # killed while writing
    monitor = Monitor(directory, step=20)
    train_line(monitor, 30, loss=7.0)
    monitor.close()
    assert [(r["step"], r["loss"]) for r in read(directory.metrics)] == [(10, 1.0), (20, 2.0), (30, 7.0)]
    assert losses_in_tensorboard(directory) == [(10, 1.0), (20, 2.0), (30, 7.0)]


def test_numbers_that_are_not_finite_are_null(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = RunDirectory(tmp_path)
    records: list[Record] = []
    monitor = Monitor(directory, step=0, on_record=records.append)
    train_line(monitor, 10, loss=math.nan)
    monitor.close()
    assert "NaN" not in directory.metrics.read_text()
    assert records[0]["loss"] is None
    assert losses_in_tensorboard(directory) == []
    progress = Progress()
    progress.show({**records[0], "seconds_left": 1.0})
    assert "loss not finite  perplexity 2.0" in capsys.readouterr().err


def test_tail_gives_each_new_whole_record_once_over_a_restart(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    monitor = Monitor(directory, step=0)
    tail = Tail(directory.metrics)
    train_line(monitor, 10, loss=1.0)
    with directory.metrics.open("a") as stream:
        stream.write(json.dumps({"kind": "train"})[:8])
    assert [record["step"] for record in tail.records()] == [10]
    assert tail.records() == []
    monitor.close()
    monitor = Monitor(directory, step=10)
    train_line(monitor, 20, loss=1.0)
    monitor.close()
    assert [record["step"] for record in tail.records()] == [20]

"""Evaluate and compress say how far they are, also in a pipe and whatever they measure."""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from jobs import compress, evaluate
from jobs.shared.cli import run_job
from jobs.terminal import progress
from pipeline import launch
from pipeline.config import Config

LINE = re.compile(r" *(\d+)% █* +(.+) ([\d,]+) of ([\d,]+) (tokens|sentences)  [\d,]+ \w+/s  [\d:]+ left")


@pytest.fixture
def run(make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> str:
    """A short run; from then on progress is shown without waiting."""
    config = make_config({"train.max_steps": 3})
    launch.train(config, launch.in_process)
    for name in ("LOG_EVERY_SECONDS", "MOVE_EVERY_SECONDS"):
        monkeypatch.setattr(progress, name, 0.0)
    return str(config.run.directory)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which stands still unless it is changed; progress is shown without waiting."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    for name in ("LOG_EVERY_SECONDS", "MOVE_EVERY_SECONDS"):
        monkeypatch.setattr(progress, name, 0.0)
    return now


def test_what_an_earlier_sitting_prepared_says_nothing_about_the_speed_of_this_one(clock: list[float]) -> None:
    stream = io.StringIO()
    shown = progress.ShardProgress(stream=stream)
    clock[0] += 3  # texts are compared
    for _ in range(6):
        shown.show({"source_bytes": 1_000_000, "num_tokens": 300_000, "is_kept": True}, 10_000_000)
    clock[0] += 2
    shown.show({"source_bytes": 1_000_000, "num_tokens": 300_000}, 10_000_000)
    lines = stream.getvalue().splitlines()
    assert lines[5].endswith("prepared 6.0 MB")
    assert lines[6].endswith("prepared 7.0 MB  0.5 MB/s  150,000 tokens/s  0:06 left")


def test_a_count_that_goes_on_knows_its_own_speed(clock: list[float]) -> None:
    stream = io.StringIO()
    count = progress.Count("taught", 1_000, "tokens", stream=stream)
    count.keep(600)
    clock[0] += 2
    count.add(100)
    assert stream.getvalue().endswith("taught 700 of 1,000 tokens  50 tokens/s  0:06 left\n")


@pytest.mark.parametrize(
    ("job", "options", "told"),
    [
        (evaluate, ["--exact"], ["scored"]),
        (evaluate, ["--text", "{text}", "--by-line"], ["scored"]),
        (evaluate, ["--surprisal", "{folder}/rows.csv", "--pairs", "{pairs}"], ["scored"]),
        (evaluate, ["--bleu", "20"], ["written"]),
        (evaluate, ["--cache", "--dynamic", "sgd"], ["scored"]),
        (evaluate, ["--cache", "--tune"], ["scored", "tried caches on"]),
        (
            compress,
            ["--tokens", "40", "--output", "{folder}/small"],
            ["bf16: scored", "float32: scored", "onnx-float32: scored", "onnx-int8: scored", "pruned-0.5: scored",
             "timed"],
        ),
    ],
)  # fmt: skip
def test_jobs_in_a_pipe_say_how_far_they_are(
    run: str,
    tmp_path: Path,
    tiny_text: Path,
    capsys: pytest.CaptureFixture[str],
    job: ModuleType,
    options: list[str],
    told: list[str],
) -> None:
    pairs = tmp_path / "pairs"
    pairs.write_text(json.dumps({"good": "the cat sat", "bad": "sat cat the"}) + "\n")
    capsys.readouterr()
    names = {"text": tiny_text, "folder": tmp_path, "pairs": pairs}
    run_job(job.main, ["--run", run, *(option.format(**names) for option in options)])
    lines = capsys.readouterr().err.splitlines()
    found = [LINE.fullmatch(line) for line in lines]
    assert all(found), lines
    assert sorted({match[2] for match in found if match}) == told
    for match in filter(None, found):
        done, total = (int(match[n].replace(",", "")) for n in (3, 4))
        assert 0 < done <= total
        assert int(match[1]) == round(100 * done / total)

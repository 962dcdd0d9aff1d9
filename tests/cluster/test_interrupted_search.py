"""A search interrupted again and again ends with the same trials and figures as an undisturbed one."""

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import config as configuration
from pipeline.config import Config
from pipeline.search.journal import read_journal
from pipeline.search.standing import Standing
from tests.cluster.test_search import check_trials

pytestmark = [pytest.mark.ray, pytest.mark.slow]

WAIT_SECONDS = 240
NUM_TRIALS = 4


def start(settings: Path) -> subprocess.Popen[str]:
    """``jobs.search`` with a private Ray of its own."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    command = [sys.executable, "-m", "jobs.search", "--config", str(settings)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(happened: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not happened() and time.monotonic() < deadline:
        assert process.poll() is None, "the search ended before it was interrupted"
        time.sleep(0.02)


def test_interrupted_at_ten_moments_and_killed_at_one(make_config: Callable[..., Config], tmp_path: Path) -> None:
    values = {"cluster.backend": "ray", "cluster.device": "cpu", "search.num_trials": NUM_TRIALS,
              "search.max_concurrent": 2, "search.max_tokens": 60_000, "search.reduction_factor": 2,
              "search.grace_tokens": 15_000, "train.evaluate_every_steps": 25, "model.dropout": 0.1,
              "search.space": {"optimizer.lr": {"loguniform": [0.005, 0.02]}, "train.bptt": [10, 12]}}  # fmt: skip
    config = make_config(values)
    settings, directory = tmp_path / "mine.yaml", Path(str(config.run.directory))
    settings.write_text(configuration.to_yaml(config))
    source = random.Random(1)
    signals = [*itertools.islice(itertools.cycle([signal.SIGTERM, signal.SIGINT]), 8), signal.SIGKILL]
    for number, signum in enumerate([*signals, signal.SIGTERM, signal.SIGINT]):
        process, before = start(settings), len(read_journal(directory))
        awaited = source.randint(2, 6)
        if number == 4:  # Ray itself has hardly started
            time.sleep(source.uniform(0.5, 4))
        elif number < len(signals):
            wait_for(lambda n=before + awaited: len(read_journal(directory)) > n, process)  # type: ignore[misc]
        else:  # the last trials run
            wait_for(lambda n=before + 3: runs_the_last(directory, n), process)  # type: ignore[misc]
        time.sleep(source.uniform(0, 0.3))
        process.send_signal(signum)
        output, _ = process.communicate(timeout=WAIT_SECONDS)
        assert process.returncode in (128 + signum, -signum), output
        if process.returncode > 0 and number != 4:
            assert f"of {NUM_TRIALS} trials done; to continue:" in output
            assert "The search was stopped before its end" in (directory / "report.md").read_text()
        assert not (directory / "best.yaml").exists()
    process = start(settings)
    output, _ = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 0, output
    assert (directory / "best.yaml").exists()
    records = read_journal(directory)
    ends = [record["trial"] for record in records if record["kind"] == "end"]
    assert len(ends) == len(set(ends)) == NUM_TRIALS
    check_trials(directory, num_trials=NUM_TRIALS)


def runs_the_last(directory: Path, num_records: int) -> bool:
    records = read_journal(directory)
    trials = Standing.of(records).trials.values()
    return len(records) > num_records and len(trials) == NUM_TRIALS and records[-1]["kind"] == "report"

"""A search whose driver is killed with -9 again and again: no trial is lost, runs twice or starts over."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline import config as configuration
from pipeline.cluster.search import search
from pipeline.config import Config
from pipeline.search.journal import read_journal
from pipeline.search.standing import RUNNING, Standing
from pipeline.training.monitor import Record, read
from pipeline.training.selection import manifests
from tests.cluster.test_interrupted_search import WAIT_SECONDS, start, wait_for
from tests.cluster.test_search import check_trials

pytestmark = pytest.mark.ray

SEARCH = {
    "cluster.backend": "ray", "cluster.device": "cpu", "search.algorithm": "tpe", "search.startup_trials": 2,
    "search.space": {"optimizer.lr": {"loguniform": [0.002, 0.05]}, "train.bptt": [9, 10, 12]}, "search.keep": 99,
    "search.reduction_factor": 2, "model.dropout": 0.1, "train.evaluate_every_steps": 25,
}  # fmt: skip


def decided(records: list[Record]) -> list[tuple[Any, ...]]:
    """What was drawn, reported and decided, without the records of when a driver began."""
    names = ("kind", "trial", "tokens", "loss", "rung", "status")
    drawn = {record["trial"]: record["settings"] for record in records if record["kind"] == "start"}
    kinds = ("report", "pause", "promote", "end")
    return [*drawn.items(), *(tuple(r.get(name) for name in names) for r in records if r["kind"] in kinds)]


def weights_of(directory: Path) -> dict[str, bytes]:
    """Trial → the weights of its last checkpoint."""
    folders = sorted((directory / "trials").iterdir())
    return {folder.name: (manifests(folder)[-1][0] / "weights.safetensors").read_bytes() for folder in folders}


def kill_and_go_on(settings: Path, directory: Path, *, num_kills: int, after_records: tuple[int, int]) -> None:
    """Run a search to its end, killing it ``num_kills`` times; after each kill every trial continues where it was."""
    source, resumed = random.Random(1), []
    for _ in range(num_kills):
        process, awaited = start(settings), len(read_journal(directory)) + source.randint(*after_records)
        wait_for(lambda n=awaited: len(read_journal(directory)) > n, process)  # type: ignore[misc]
        time.sleep(source.uniform(0, 1))
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=WAIT_SECONDS)
        for trial in Standing.of(read_journal(directory)).in_state(RUNNING):
            found = manifests(directory / "trials" / trial.name)
            if found:
                resumed.append((trial.name, found[-1][1]["step"], len(starts_of(directory, trial.name))))
    process = start(settings)
    output, _ = process.communicate(timeout=10 * WAIT_SECONDS)
    assert process.returncode == 0, output
    for name, step, num_before in resumed:  # a trial killed at its rung may have nothing left to do
        begun = starts_of(directory, name)
        assert min(begun[num_before:], default=step) >= step > 0, (name, begun, step)


def starts_of(directory: Path, trial: str) -> list[int]:
    """The steps at which the sittings of a trial began."""
    return [r["step"] for r in read(directory / "trials" / trial / "metrics.jsonl") if r["kind"] == "start"]


def settings_file(config: Config, path: Path) -> Path:
    path.write_text(configuration.to_yaml(config))
    return path


def check_one_after_another(make_config: Callable[..., Config], tmp_path: Path, **how: Any) -> None:
    """With one trial at a time, a killed search decides the same, and ends the same, as an undisturbed one."""
    changes = {**SEARCH, "search.max_concurrent": 1, **how.pop("changes")}
    config = make_config(changes)
    directory = Path(str(config.run.directory))
    kill_and_go_on(settings_file(config, tmp_path / "mine.yaml"), directory, **how)
    calm = make_config({**changes, "run.directory": str(tmp_path / "calm")})
    process = start(settings_file(calm, tmp_path / "calm.yaml"))
    output, _ = process.communicate(timeout=10 * WAIT_SECONDS)
    assert process.returncode == 0, output
    assert decided(read_journal(directory)) == decided(read_journal(tmp_path / "calm"))
    assert weights_of(directory) == weights_of(tmp_path / "calm")
    assert (directory / "best.yaml").read_text().replace(str(directory), "") == (
        tmp_path / "calm" / "best.yaml"
    ).read_text().replace(str(tmp_path / "calm"), "")


@pytest.mark.slow  # three starts of a search: a minute and a half on two cores
def test_killed_once(make_config: Callable[..., Config], tmp_path: Path) -> None:
    changes = {"search.num_trials": 4, "search.max_tokens": 12_000, "search.grace_tokens": 3_000}
    check_one_after_another(make_config, tmp_path, changes=changes, num_kills=1, after_records=(6, 9))


@pytest.mark.slow
def test_killed_ten_times_with_one_trial_at_a_time(make_config: Callable[..., Config], tmp_path: Path) -> None:
    changes = {"search.num_trials": 16, "search.max_tokens": 24_000, "search.grace_tokens": 6_000}
    check_one_after_another(make_config, tmp_path, changes=changes, num_kills=10, after_records=(2, 12))


@pytest.mark.slow
def test_killed_ten_times_with_two_trials_at_a_time(make_config: Callable[..., Config], tmp_path: Path) -> None:
    changes = {"search.num_trials": 16, "search.max_tokens": 24_000, "search.grace_tokens": 6_000}
    config = make_config({**SEARCH, **changes, "search.max_concurrent": 2})
    directory = Path(str(config.run.directory))
    kill_and_go_on(settings_file(config, tmp_path / "mine.yaml"), directory, num_kills=10, after_records=(2, 12))
    records = read_journal(directory)
    reported = [(r["trial"], r["tokens"]) for r in records if r["kind"] == "report"]
    assert len(reported) == len(set(reported))  # none ran twice
    assert sum(trial.status == "done" for trial in Standing.of(records).drawn) >= 2
    check_trials(directory, num_trials=16)


def test_everything_is_killed(make_config: Callable[..., Config], tmp_path: Path) -> None:
    """The driver, Ray and the processes of the trials, all at once, as in a power failure."""
    config = make_config({**SEARCH, "search.num_trials": 3, "search.max_tokens": 12_000, "search.max_concurrent": 2})
    settings, directory = settings_file(config, tmp_path / "mine.yaml"), Path(str(config.run.directory))
    process = start(settings)
    wait_for(lambda: len(read_journal(directory)) > 4, process)
    for pid in descendants(process.pid):
        os.kill(pid, signal.SIGKILL)
    process.communicate(timeout=WAIT_SECONDS)
    before = read_journal(directory)
    search(config)
    assert read_journal(directory)[: len(before)] == before
    check_trials(directory, num_trials=3)


def descendants(pid: int) -> list[int]:
    """``pid`` and all processes below it."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    children: dict[int, list[int]] = {}
    for line in listed.splitlines():
        child, parent = map(int, line.split())
        children.setdefault(parent, []).append(child)
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found

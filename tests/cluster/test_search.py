"""A search over tiny models, its leaderboard, and what it hands to jobs.train."""

import csv
import json
import re
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray

from jobs import search as job
from jobs.shared.cli import run_job
from jobs.terminal.progress import MovingLine
from pipeline import config as configuration
from pipeline import launch, resources, run
from pipeline.cluster import room, tuning
from pipeline.cluster.search import search
from pipeline.config import Config
from pipeline.errors import Notice, UserError
from pipeline.search.corpora import of_trial
from pipeline.search.journal import read_journal
from pipeline.training.monitor import read
from tests.cluster.interruptions import interrupting

SPACE = {"optimizer.lr": [0.001, 0.1, 1.0, 3.0, 1e30], "model.hidden_size": [4, 8]}


@pytest.mark.ray
def test_a_search_ranks_its_trials_and_its_best_trains(
    make_config: Callable[..., Config], tmp_path: Path, ray_cluster: None, capfd: pytest.CaptureFixture[str]
) -> None:
    config = make_config(
        {"cluster.backend": "ray", "search.space": SPACE, "search.num_trials": 5, "search.max_tokens": 9000,
         "train.evaluate_every_steps": 1000, "optimizer.name": "sgd", "optimizer.weight_decay": 0.001}
    )  # fmt: skip
    (tmp_path / "mine.yaml").write_text(configuration.to_yaml(config))
    run_job(job.main, ["--config", str(tmp_path / "mine.yaml"), "--json"])
    printed = capfd.readouterr()
    directory = Path(str(config.run.directory))
    with (directory / "leaderboard.csv").open() as stream:
        table = list(csv.DictReader(stream))
    assert len(table) == 5
    *whole, lost = table  # the lost one had a learning rate of 1e30
    figures = [float(line["perplexity"]) for line in whole]
    assert figures == sorted(figures)
    assert (lost["status"], lost["perplexity"], lost["optimizer.lr"]) == ("lost", "", "1e+30")
    assert lost["reason"].startswith("a loss or gradient was not finite")
    assert "NaN" not in printed.err
    # every trial was compared at the first rung; those that did not reach the end pause there or at the second
    for line in whole:
        records = read(directory / "trials" / line["trial"] / "metrics.jsonl")
        tokens = [record["tokens"] for record in records if record["kind"] == "valid"]
        assert 1000 <= tokens[0] < 1000 + 60
        assert tokens[-1] == int(line["tokens"])
        assert line["status"] == ("done" if tokens[-1] >= 9000 else "paused")
    assert whole[0]["status"] == "done"
    assert "paused" in [line["status"] for line in whole]
    # TensorBoard on all of it: each trial is one run, under a name that says its settings, with its figures
    folders = {path.parent for path in directory.rglob("*tfevents*")}
    of_trials = {directory / "trials" / line["trial"] / "tensorboard" for line in table}
    assert folders == {*of_trials, directory / "tensorboard"}  # the last has the pictures and columns of the search
    assert "## What mattered" in (directory / "report.md").read_text(encoding="utf-8")
    assert {line["trial"].partition("-")[2] for line in table} == {describe_short(line) for line in table}
    best = configuration.load(directory / "best.yaml")
    assert best.model.hidden_size == int(table[0]["model.hidden_size"])
    assert best.run.directory == str(directory / "best")
    assert best.run.sample_tokens == config.run.sample_tokens
    local = configuration.with_values(best, {"cluster.backend": "local"})
    assert launch.train(local, launch.in_process)["perplexity"] == figures[0]
    # the same command again has nothing left to do and says the same
    left = {name: (directory / name).read_bytes() for name in ("leaderboard.csv", "best.yaml", "search.jsonl")}
    run_job(job.main, ["--config", str(tmp_path / "mine.yaml"), "--json"])
    assert capfd.readouterr().out == printed.out
    assert {name: (directory / name).read_bytes() for name in left} == left
    with pytest.raises(UserError, match=r"^search\.seed: this search was started with 1 and cannot continue with 9"):
        search(configuration.with_values(config, {"search.seed": 9}))


def describe_short(line: dict[str, str]) -> str:
    return f"lr={float(line['optimizer.lr']):.3g},hidden_size={line['model.hidden_size']}"


@pytest.mark.ray
def test_an_interrupted_search_says_so_and_goes_on(
    make_config: Callable[..., Config], tmp_path: Path, ray_cluster: None, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    values = {"cluster.backend": "ray", "search.space": {"optimizer.lr": [0.01, 0.02, 0.03]}, "search.num_trials": 3,
              "search.max_concurrent": 1, "search.scheduler": "none", "search.max_tokens": 3000}  # fmt: skip
    config = make_config(values)
    (tmp_path / "mine.yaml").write_text(configuration.to_yaml(config))
    directory, before = Path(str(config.run.directory)), signal.getsignal(signal.SIGINT)
    interrupting(monkeypatch, signal.SIGINT, after=["end"])
    with pytest.raises(SystemExit) as left:
        run_job(job.main, ["--config", str(tmp_path / "mine.yaml")])
    assert left.value.code == 130
    printed = capsys.readouterr()
    assert "stopping (again to stop at once)" in printed.err.splitlines()
    assert printed.err.splitlines()[-2:] == [
        "stopped with 1 of 3 trials done; to continue:",
        f"  python -m jobs.search --config {tmp_path / 'mine.yaml'}",
    ]
    assert "train the best" not in printed.out
    assert not (directory / "best.yaml").exists()
    assert signal.getsignal(signal.SIGINT) == before
    run_job(job.main, ["--config", str(tmp_path / "mine.yaml"), "--json"])
    printed = capsys.readouterr()
    assert json.loads(printed.out.splitlines()[-1])["trials"] == 3
    assert f"continuing the search in {directory}: 1 of 3 trials are done" in printed.err.splitlines()
    # it continues to count, and runs no trial twice
    ended = [line for line in printed.err.splitlines() if "trials ended)" in line and "done after" in line]
    assert [line.partition(":")[0] for line in ended] == ["trial 2/3", "trial 3/3"]
    assert ended[-1].endswith("(3/3 trials ended)")
    with (directory / "leaderboard.csv").open() as stream:
        assert [int(line["tokens"]) >= 3000 for line in csv.DictReader(stream)] == [True] * 3


@pytest.mark.ray
def test_a_search_interrupted_while_its_last_trials_run_is_not_done(
    make_config: Callable[..., Config], tmp_path: Path, ray_cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"cluster.backend": "ray", "search.space": {"optimizer.lr": {"uniform": [0.01, 0.02]}},
              "search.num_trials": 2, "search.scheduler": "none", "search.max_tokens": 18_000,
              "search.grace_tokens": 1200, "search.reduction_factor": 30, "model.dropout": 0.1}  # fmt: skip
    config = make_config(values)
    (tmp_path / "mine.yaml").write_text(configuration.to_yaml(config))
    directory = Path(str(config.run.directory))
    interrupting(monkeypatch, signal.SIGTERM, after=["start", "start", "report"])
    with pytest.raises(SystemExit) as left:
        run_job(job.main, ["--config", str(tmp_path / "mine.yaml")])
    assert left.value.code == 143
    assert not (directory / "best.yaml").exists()
    with (directory / "leaderboard.csv").open() as stream:
        assert [line["status"] for line in csv.DictReader(stream)].count("done") < 2
    run_job(job.main, ["--config", str(tmp_path / "mine.yaml")])
    check_trials(directory, num_trials=2)


@pytest.mark.ray
def test_a_search_whose_trial_finds_no_room_says_so(
    make_config: Callable[..., Config], tmp_path: Path, holder: Any, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    values = {"cluster.backend": "ray", "cluster.cpus_per_worker": 2, "search.space": {"optimizer.lr": [0.01]},
              "search.num_trials": 1, "search.scheduler": "none", "search.max_tokens": 1200}  # fmt: skip
    (tmp_path / "mine.yaml").write_text(configuration.to_yaml(make_config(values)))
    monkeypatch.setattr(room, "FREED_SECONDS", 0.0)
    monkeypatch.setattr(tuning, "ROOM_SECONDS", 0.5)
    say, told = MovingLine.say, []

    def say_and_give_back(line: MovingLine, sentence: str) -> None:
        say(line, sentence)
        if "for room" in sentence:
            told.append(sentence)
            ray.kill(holder)

    monkeypatch.setattr(MovingLine, "say", say_and_give_back)
    sentence = "a worker of 2 CPUs waits for room on the cluster (free: 1 of 2 CPUs)"
    with pytest.warns(Notice, match=re.escape(f"cluster.num_workers: {sentence}")):
        run_job(job.main, ["--config", str(tmp_path / "mine.yaml"), "--json"])
    assert told == [sentence]
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["trials"] == 1


@pytest.mark.ray
def test_a_search_whose_trial_finds_no_room_can_be_stopped(
    make_config: Callable[..., Config], tmp_path: Path, holder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"cluster.backend": "ray", "cluster.cpus_per_worker": 2, "search.space": {"optimizer.lr": [0.01]},
              "search.num_trials": 1, "search.scheduler": "none", "search.max_tokens": 1200}  # fmt: skip
    config = make_config(values)
    (tmp_path / "mine.yaml").write_text(configuration.to_yaml(config))
    monkeypatch.setattr(room, "FREED_SECONDS", 0.0)
    monkeypatch.setattr(tuning, "ROOM_SECONDS", 0.5)
    interrupting(monkeypatch, signal.SIGINT, after=["room"])
    give_up = threading.Timer(120, ray.kill, [holder])
    give_up.start()
    with pytest.warns(Notice, match="waits for room"), pytest.raises(SystemExit) as left:
        run_job(job.main, ["--config", str(tmp_path / "mine.yaml")])
    give_up.cancel()
    assert left.value.code == 130
    directory = Path(str(config.run.directory))
    assert [record["kind"] for record in read_journal(directory)][-3:] == ["start", "room", "interrupted"]
    assert not (directory / "trials").exists()  # the trial has never begun


def check_trials(directory: Path, *, num_trials: int) -> None:
    """No trial is lost or there twice, and each has, to the bit, the figures of the same trial run alone."""
    with (directory / "leaderboard.csv").open() as stream:
        table = list(csv.DictReader(stream))
    assert sorted(int(line["trial"][:3]) for line in table) == list(range(1, num_trials + 1))
    assert sorted(path.name for path in (directory / "trials").iterdir()) == sorted(line["trial"] for line in table)
    for line in table:
        folder = directory / "trials" / line["trial"]
        figures = validations(folder)
        assert max(figures) == int(line["tokens"])
        assert min(figures.values()) == float(line["perplexity"])
        trial = configuration.load(folder / "config.yaml")
        alone = {"run.directory": str(directory / "alone" / line["trial"]), "cluster.backend": "local"}
        worker = resources.Worker(resources.resolve_device("cpu"), num_threads=1)
        run.train(configuration.with_values(trial, alone), worker, evaluate_at_tokens=list(figures))
        expected = validations(directory / "alone" / line["trial"])
        assert figures == {tokens: expected[tokens] for tokens in figures}


def validations(folder: Path) -> dict[int, float]:
    """Tokens → perplexity of a run."""
    return {r["tokens"]: r["perplexity"] for r in read(folder / "metrics.jsonl") if r["kind"] == "valid"}


@pytest.mark.ray
def test_tokenizers_are_searched_by_bits_per_byte(
    make_config: Callable[..., Config], tmp_path: Path, ray_cluster: None
) -> None:
    space = {"tokenizer.kind": ["char", "byte"]}
    values = {"cluster.backend": "ray", "search.space": space, "search.num_trials": 2, "search.scheduler": "none",
              "search.max_tokens": 1200, "search.max_concurrent": 1}  # fmt: skip
    config = make_config(values)
    rows = search(config)
    assert sorted(row.settings["tokenizer.kind"] for row in rows) == ["byte", "char"]
    with (Path(str(config.run.directory)) / "leaderboard.csv").open() as stream:
        table = list(csv.DictReader(stream))
    for line in table:
        assert line["status"] == "done"
        folder = Path(str(config.run.directory)) / "trials" / line["trial"]
        bits = [r["bits_per_byte"] for r in read(folder / "metrics.jsonl") if r["kind"] == "valid"]
        assert float(line["perplexity_per_byte"]) == pytest.approx(2 ** min(bits))
    best = configuration.load(Path(str(config.run.directory)) / "best.yaml")
    assert best.tokenizer.kind == table[0]["tokenizer.kind"]
    byte = of_trial(config, {"tokenizer.kind": "byte"})
    assert sorted(path.name for path in tmp_path.glob("data*")) == ["data", Path(str(byte.data.directory)).name]

"""What a dry run prints, by hand: parameters, tokens, steps, rungs. It writes nothing."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs import search, train
from jobs.shared.cli import run_job
from pipeline import config as configuration
from pipeline.cluster import rules
from pipeline.config import Config
from pipeline.dry_run import dry_run
from pipeline.search import preview
from tests.jobs.test_cli import refused


def test_dry_run_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("abcd" * 1000)
    run_job(
        train.main,
        ["corpus.train=text.txt", "corpus.valid_fraction=0", "tokenizer.kind=byte", "model.num_layers=1",
         "model.hidden_size=8", "train.bptt=9", "train.batch_size=10", "train.epochs=3", "--dry-run", "--json"],
    )  # fmt: skip
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    # embedding 256·8, LSTM 4·8·(8 + 8 + 2), head 256·8 + 256
    assert figures["parameters"] == 2048 + 576 + 2304
    assert figures["tokens"] == 4000
    assert figures["steps"] == 3 * -(-399 // 9)
    assert list(tmp_path.iterdir()) == [tmp_path / "text.txt"]


def write_splits(text: str) -> None:
    """A training and a validation text in the working directory."""
    for name in ("text.txt", "valid.txt"):
        Path(name).write_text(text)


def test_a_search_without_a_validation_split_is_refused_in_a_dry_run_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_splits("abcd" * 1000)
    for option in ([], ["--dry-run"]):
        settings = ["corpus.train=text.txt", "corpus.valid_fraction=0", "search.space={optimizer.lr: [0.1, 0.2]}"]
        sentence = refused(capsys, search.main, *settings, *option)
        assert sentence.startswith("corpus.valid: a search needs a validation split, but it is empty")
    assert {path.name for path in tmp_path.iterdir()} == {"text.txt", "valid.txt"}


def test_dry_run_of_a_search_shows_its_rungs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_splits("abcd" * 1000)
    settings = ["corpus.train=text.txt", "corpus.valid=valid.txt", "tokenizer.kind=byte", "train.batch_size=10",
                "model.num_layers=1",
                "search.space={optimizer.lr: {loguniform: [5e-4, 1e-2]}, model.hidden_size: [8, 16]}"]  # fmt: skip
    run_job(search.main, [*settings, "search.max_tokens=3600", "--dry-run", "--json"])
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    # a ninth of the budget, and three times as much; the budget itself is not a rung
    assert figures["rungs"] == [400, 1200]
    # 8 trials: 400 tokens each, 800 more for a third of them, 2,400 more for one
    assert figures["trials_at_rungs"] == {"400 tokens": 8, "1,200 tokens": 2.7, "3,600 tokens": 1}
    assert figures["total_tokens"] == round(8 * 400 + 8 / 3 * 800 + 2400)
    assert figures["space"]["optimizer.lr"] == "loguniform from 0.0005 to 0.01"
    assert figures["estimated_seconds"] > 0
    assert {path.name for path in tmp_path.iterdir()} == {"text.txt", "valid.txt"}


def test_dry_run_of_a_search_has_the_budget_of_its_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_splits(("abc\n" * 9 + "x" * 99 + "\n") * 10)
    settings = ["corpus.train=text.txt", "corpus.valid=valid.txt", "corpus.document=line", "tokenizer.kind=byte",
                "data.layout=documents", "train.batch_size=10", "train.bptt=20", "train.epochs=1", "model.num_layers=1",
                "search.space={model.hidden_size: [8, 16]}", "search.scheduler=none"]  # fmt: skip
    monkeypatch.setattr(preview, "estimated_speed", lambda *given, **how: 100.0)
    monkeypatch.setattr(rules, "room", lambda config: (None, 2))
    run_job(search.main, [*settings, "search.num_trials=2", "--dry-run", "--json"])
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    # each of ten times: nine lines of 3 characters and <eos>, and 20 tokens of the long one
    assert figures["tokens_per_epoch"] == 10 * (9 * 4 + 20) == 560
    assert figures["total_tokens"] == 2 * 560
    assert figures["estimated_seconds"] == 2 * 560 / 100 / 2
    # without a number of trials, as many as there is time for: 0.01 hours for 200 tokens a second
    run_job(search.main, [*settings, "search.max_hours=0.01", "--dry-run", "--json"])
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["trials"] == 36 * 200 // 560


def test_a_dry_run_shows_what_changes_and_how_many_updates_are_made(make_config: Callable[..., Config]) -> None:
    config = make_config({"train.max_tokens": 6000})
    changed = [{"tokens": 1800, "settings": {"train.bptt": 5}}, {"tokens": 2400, "settings": {"optimizer.lr": 0.5}}]
    figures = dry_run(configuration.with_values(config, {"train.changes": changed}))
    assert figures["steps"] == 30 + 140
    assert figures["changes"] == [
        "at 1,800 tokens: train.bptt 10 → 5",
        "at 2,400 tokens: optimizer.lr 0.01 → 0.5",
    ]
    assert "changes" not in dry_run(config)

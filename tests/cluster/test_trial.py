"""Trials, run here without Ray Tune: how they end, what they report; trials of a dead driver write nothing."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.cluster.leg import Leg
from pipeline.cluster.rules import with_budget
from pipeline.cluster.train import Plan
from pipeline.cluster.trial import Runner
from pipeline.config import Config
from pipeline.data.prepare import prepare_in_process
from pipeline.errors import UserError
from pipeline.search.adopted import records_of_trials
from pipeline.search.journal import begin_journal, read_journal
from pipeline.search.leaderboard import leaderboard
from pipeline.search.naming import name_of
from pipeline.search.standing import Standing, Trial
from pipeline.search.validations import figures_of, past_validations
from pipeline.training.directory import LostOwnershipError, RunDirectory
from pipeline.training.monitor import read

RUNGS = [600, 1800]
SPACE = {"optimizer.lr": [0.01, 0.02]}
OWN = {"train.max_tokens": 3000, "model.dropout": 0.2, "train.keep_checkpoints": 9}


def runner_of(config: Config) -> Runner:
    """A runner of trials; no process holds the search's directory yet."""
    prepare_in_process(config)
    return Runner(with_budget(config), RunDirectory(str(config.run.directory)), Plan(1, 1, False), RUNGS)


def trial_of(settings: dict[str, Any], number: int = 1) -> Trial:
    return Trial(name_of(number, settings), number, settings)


def run_whole(runner: Runner, trial: Trial) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run ``trial`` to its end; return how it ended, and its reports."""
    reports: list[dict[str, Any]] = []
    return runner.run(trial, reports.append), reports


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (
            {"optimizer.name": "sgd", "optimizer.lr": 1e30, "optimizer.weight_decay": 0.1},
            "a loss or gradient was not finite at or shortly before step",
        ),
        # the loss is finite, but its exponential is not
        ({"optimizer.name": "sgd", "optimizer.lr": 3e4}, "the validation perplexity is not finite after 600 tokens ("),
    ],
)
def test_a_trial_that_diverges_is_lost_with_the_reason(
    make_config: Callable[..., Config], settings: dict[str, Any], reason: str
) -> None:
    runner, trial = runner_of(make_config({"train.max_tokens": 3000, "train.log_every_steps": 10})), trial_of(settings)
    with runner.directory.locked():
        ended, reports = run_whole(runner, trial)
    assert ended["ended"] == "lost"
    assert ended["reason"].startswith(reason)
    assert "the last good checkpoint" not in ended["reason"]
    assert reports == []
    figures = figures_of(runner.directory.path / "trials" / trial.name)
    assert figures["perplexity"] is None
    assert figures["tokens"] <= 600
    records = read(runner.directory.path / "trials" / trial.name / "metrics.jsonl")
    assert not any(record.get("best") for record in records)


def test_an_error_that_ends_a_trial_is_kept_and_reported(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, trial = runner_of(make_config({"train.max_tokens": 3000})), trial_of({"train.batch_size": 100_000})
    with runner.directory.locked():
        ended, _ = run_whole(runner, trial)
        assert ended["ended"] == "failed"
        assert "train.batch_size" in ended["reason"]
        monkeypatch.setattr(Runner, "train", lambda *arguments, **more: {}["lr"])
        ended, _ = run_whole(runner, trial)
    kept = runner.directory.path / "trials" / trial.name / "error.txt"
    assert ended == {"ended": "failed", "reason": f"KeyError: 'lr' ({kept})", "tokens": 0}
    assert "Traceback" in kept.read_text()


def test_a_trial_of_a_dead_driver_stops_and_writes_nothing(make_config: Callable[..., Config]) -> None:
    runner, trial = runner_of(make_config({"train.max_tokens": 3000})), trial_of({"optimizer.lr": 0.01})
    folder = runner.directory.path / "trials" / trial.name

    def contents() -> dict[Path, bytes]:
        return {
            path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and "tensorboard" not in str(path)
        }

    left: list[dict[Path, bytes]] = []

    def report(figures: dict[str, Any]) -> None:
        # another driver takes over the search, as after a kill; it has written nothing in this trial's directory yet
        (runner.directory.path / "owner").write_text("another driver")
        left.append(contents())

    with runner.directory.locked(), pytest.raises(LostOwnershipError, match="another process has taken over"):
        runner.run(trial, report)
    assert len(left) == 1
    assert contents() == left[0]
    # nor does a trial that was only about to start write anything
    (runner.directory.path / "owner").write_text("yet another")
    with pytest.raises(LostOwnershipError):
        runner.run(trial, report)
    assert contents() == left[0]


def test_a_trial_stops_and_saves_when_its_search_is_asked_to(make_config: Callable[..., Config]) -> None:
    runner, trial = runner_of(make_config({"train.max_tokens": 3000})), trial_of({"optimizer.lr": 0.01})
    with runner.directory.locked():
        ended = runner.run(trial, lambda figures: runner.directory.request_stop())
        assert ended == {"ended": "interrupted", "reason": "", "tokens": 660}
    figures = figures_of(runner.directory.path / "trials" / trial.name)
    assert figures["tokens"] == 660  # the step after the one in which it was asked
    with runner.directory.locked():
        ended, reports = run_whole(runner, trial)
    assert ended["ended"] == "done"
    # reports that its driver may have missed are sent again
    assert [report["tokens"] for report in reports] == [600, 1800, 3000]


def test_a_validation_after_the_last_checkpoint_is_not_reported(make_config: Callable[..., Config]) -> None:
    runner, trial = runner_of(make_config({"train.max_tokens": 3000})), trial_of({"optimizer.lr": 0.01})
    folder = runner.directory.path / "trials" / trial.name
    with runner.directory.locked():
        _, reports = run_whole(runner, trial)
    shown = [{name: report[name] for name in ("tokens", "loss", "perplexity", "bits_per_byte")} for report in reports]
    assert past_validations(folder, after_tokens=0) == shown
    assert past_validations(folder, after_tokens=600) == shown[1:]
    for path in sorted((folder / "checkpoints").iterdir())[-1].iterdir():
        path.unlink()
    assert past_validations(folder, after_tokens=0) == shown[:-1]
    # a loss that was not finite is null in the record
    diverged = {"kind": "valid", "step": 1, "time": 1.0, "tokens": 60, "loss": None, "perplexity": None}
    (folder / "metrics.jsonl").write_text(json.dumps(diverged) + "\n")
    lost = {"tokens": 60, "loss": math.inf, "perplexity": math.inf, "bits_per_byte": None}
    assert past_validations(folder, after_tokens=0) == [lost]


def test_a_search_of_an_earlier_version_goes_on(make_config: Callable[..., Config]) -> None:
    """Its trials bear Ray Tune's names, its leaderboard calls stopped ones done, and there is no journal."""
    config = make_config({"train.max_tokens": 3000, "search.space": SPACE, "search.num_trials": 3})
    runner = runner_of(config)
    corpus = prepare_in_process(config)
    directory = runner.directory.path
    names = ["1a2b3_00000", "1a2b3_00001", "1a2b3_00002"]
    whole, stopped, cut_off = [
        Trial(name, number, {"optimizer.lr": 0.01}) for number, name in enumerate(names, start=1)
    ]
    with runner.directory.locked():
        assert runner.run(whole, lambda figures: None)["ended"] == "done"
        for trial in (stopped, cut_off):
            with pytest.raises(KeyboardInterrupt):
                runner.run(trial, interrupt)
        (directory / "trials" / "1a2b3_00003").mkdir()  # it was about to start
        records = records_of_trials(directory, config, corpus)
        assert [record["trial"] for record in records if record["kind"] == "start"] == names
        assert not any(record["kind"] == "end" for record in records)
        header = "rank,perplexity,optimizer.lr,tokens,seconds,status,trial\n"
        lines = [f"1,2.0,0.01,600,0.1,done,{name}\n" for name in names[:2]]
        (directory / "leaderboard.csv").write_text(header + "".join(lines))
        begin_journal(directory, records_of_trials(directory, config, corpus))
    standing = Standing.of(read_journal(directory))
    assert [trial.number for trial in standing.trials.values()] == [1, 2, 3]
    ends = [trial.end and (trial.end["status"], trial.end["tokens"]) for trial in standing.trials.values()]
    assert ends == [("done", 3000), ("stopped", 600), None]
    # settings are taken from checkpoints, which have checksums
    own = directory / "trials" / names[0] / "config.yaml"
    own.write_text(own.read_text().replace("lr: 0.01", "lr: 0.03"))
    assert records_of_trials(directory, config, corpus)[1]["settings"] == {"optimizer.lr": 0.01}
    # and figures from manifests that are intact
    last = sorted((directory / "trials" / names[0] / "checkpoints").iterdir())[-1] / "manifest.json"
    last.write_text(last.read_text().replace('"tokens": 3000', '"tokens": 2000'))
    assert [record["trial"] for record in records_of_trials(directory, config, corpus) if record["kind"] == "end"] == [
        names[1]
    ]
    (directory / "leaderboard.csv").write_bytes(b"\xff\x00 status\n")
    assert not any(record["kind"] == "end" for record in records_of_trials(directory, config, corpus))


def interrupt(figures: dict[str, Any]) -> None:
    raise KeyboardInterrupt


def test_the_leaderboard_puts_lost_trials_last() -> None:
    trials = [trial_of({"optimizer.lr": lr}, number) for number, lr in enumerate((1.0, 2.0, 3.0), start=1)]
    first, second, third = (trial.name for trial in trials)
    starts = [
        {"kind": "start", "trial": trial.name, "number": trial.number, "settings": trial.settings} for trial in trials
    ]
    ends = [
        {
            "kind": "end",
            "trial": name,
            "status": status,
            "reason": "",
            "perplexity": perplexity,
            "tokens": 9,
            "seconds": 0.1,
        }
        for name, status, perplexity in [(first, "lost", 2.0), (second, "done", 5.0), (third, "stopped", 4.0)]
    ]
    rows = leaderboard(Standing.of(starts + ends))
    assert [row.trial for row in rows] == [third, second, first]
    with pytest.raises(UserError, match=r"search: none of 1 trials ended well; 001-lr=1 lost after 9 tokens"):
        leaderboard(Standing.of([starts[0], ends[0]]))


def weights_of(folder: Path) -> dict[str, bytes]:
    """Checkpoint → its weights."""
    return {path.parent.name: path.read_bytes() for path in folder.glob("checkpoints/*/weights.safetensors")}


def test_a_leg_continues_where_the_last_one_ended(make_config: Callable[..., Config], tmp_path: Path) -> None:
    """In legs, and beside another trial in the same process, a trial gets the very bits of one that ran alone."""
    config = make_config(OWN)
    runner, alone = runner_of(config), runner_of(make_config({**OWN, "run.directory": str(tmp_path / "alone")}))
    trial, other = trial_of({"optimizer.lr": 0.01}), trial_of({"optimizer.lr": 0.02, "model.hidden_size": 9}, 2)
    with alone.directory.locked():
        _, expected = run_whole(alone, trial)
    assert [report["tokens"] for report in expected] == [600, 1800, 3000]
    found: list[dict[str, Any]] = []
    with runner.directory.locked():
        for after_tokens, each in [(0, trial), (0, other), (600, trial), (600, other), (1800, trial)]:
            leg = Leg(lambda report, each=each, after=after_tokens: runner.run(each, report, after_tokens=after))
            message = leg.step()
            found += [message] if each is trial else []
            leg.leave()
            assert not leg.thread.is_alive()
        last = Leg(lambda report: runner.run(trial, report, after_tokens=3000)).step()
    assert last == {"ended": "done", "reason": "", "tokens": 3000}
    names = ("tokens", "loss", "perplexity")
    assert [[r[n] for n in names] for r in found] == [[r[n] for n in names] for r in expected]
    folders = [each.directory.path / "trials" / trial.name for each in (runner, alone)]
    assert weights_of(folders[0]) == weights_of(folders[1])
    assert len(weights_of(folders[0])) == 3


def test_the_name_of_a_trial_says_its_settings() -> None:
    assert name_of(3, {"optimizer.lr": 0.00123456, "model.hidden_size": [8, 16]}) == "003-lr=0.00123,hidden_size=8-16"
    assert name_of(12, {"model.dropout": 0.5, "train.dropout": "a/b"}) == "012-model.dropout=0.5,train.dropout=a_b"
    assert len(name_of(1, {"optimizer.name": "x" * 300})) <= 120

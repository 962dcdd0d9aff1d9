"""The journal of a search: it reads as it was written, or is refused; and what it shows a person."""

import io
import os
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.variant_generator import generate_variants

from jobs.terminal.search import SearchProgress
from pipeline import config as configuration
from pipeline.cluster.continued import check_same_search
from pipeline.cluster.search import settings_of
from pipeline.config import SearchConfig
from pipeline.errors import UserError
from pipeline.search.journal import JOURNAL, Journal, begin_journal, read_journal
from pipeline.search.leaderboard import as_csv, leaderboard, save
from pipeline.search.samplers import sampler_of
from pipeline.search.schedulers.stopping import AshaStopping
from pipeline.search.space import check_space
from pipeline.search.standing import Standing, Trial
from pipeline.training.directory import LostOwnershipError, RunDirectory
from tests.test_damage import flip, many

START = {"kind": "start", "trial": "001-lr=0.1", "number": 1, "settings": {"optimizer.lr": 0.1}, "tokens": 0}
REPORT = {"kind": "report", "trial": "001-lr=0.1", "tokens": 100, "loss": 2.0, "perplexity": 7.39, "rung": 100}
END = {
    "kind": "end", "trial": "001-lr=0.1", "status": "stopped", "reason": "not among the best 1 in 3 at 100 tokens",
    "perplexity": 7.39, "tokens": 100, "seconds": 0.5,
}  # fmt: skip
OTHER = {**START, "trial": "002-lr=0.2", "number": 2, "settings": {"optimizer.lr": 0.2}}


def write_journal(directory: RunDirectory) -> Path:
    begin_journal(directory.path, [])
    journal = Journal(directory)
    journal.append(START)
    journal.append(REPORT, END)
    journal.append(OTHER)
    return directory.path / JOURNAL


def test_the_journal_is_read_as_it_was_written(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    assert read_journal(tmp_path) == []
    path = write_journal(directory)
    records = read_journal(tmp_path)
    assert [{**record, "time": 0} for record in records[1:]] == [{**r, "time": 0} for r in (START, REPORT, END, OTHER)]
    standing = Standing.of(records)
    assert [trial.settings for trial in standing.trials.values()] == [{"optimizer.lr": 0.1}, {"optimizer.lr": 0.2}]
    assert (standing.num_ended, standing.best_perplexity) == (1, 7.39)
    # after a kill in the middle of a line, the line counts as never begun
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    assert read_journal(tmp_path) == records[:-1]
    begin_journal(tmp_path, read_journal(tmp_path))
    Journal(directory).append(OTHER)
    assert [record["kind"] for record in read_journal(tmp_path)] == ["search", "start", "report", "end", "start"]
    path.write_bytes(b"".join(line for line in whole.splitlines(keepends=True) if b'"start"' not in line))
    with pytest.raises(UserError, match=r"line 2 is about 001-lr=0\.1, but the line that starts it was taken out$"):
        read_journal(tmp_path)
    # a trial that failed and is tried again has not ended
    standing.apply({**START})
    assert (standing.num_ended, standing.trials["001-lr=0.1"].tokens) == (0, 100)


def test_a_flipped_bit_of_a_journal_is_refused_or_without_effect(tmp_path: Path) -> None:
    path = write_journal(RunDirectory(tmp_path))
    whole, records = path.read_bytes(), read_journal(tmp_path)
    source, refused = random.Random(1), 0
    positions = [*range(0, len(whole), 3), len(whole) - 1]
    for position in positions:
        damaged = bytearray(whole)
        damaged[position] ^= 1 << source.randrange(8)
        path.write_bytes(damaged)
        try:
            found = read_journal(tmp_path)
        except UserError as error:
            assert f"{path}: line " in str(error)  # noqa: PT017
            refused += 1
        else:
            assert found == records  # white space between two values
    assert refused > 0.95 * len(positions) > 200


@many(100, 2_000)
def test_a_flipped_bit_in_any_file_of_a_search_is_refused_or_without_effect(tmp_path: Path, number: int) -> None:
    directory = RunDirectory(tmp_path)
    write_journal(directory)
    config = configuration.load(None, [f"run.directory={tmp_path}", f"data.directory={tmp_path / 'data'}"])
    directory.config.write_text(settings_of(config))
    save(tmp_path, leaderboard(Standing.of(read_journal(tmp_path))), config, sample_tokens=0)

    def numbers() -> str:
        check_same_search(directory, config)
        return as_csv(leaderboard(Standing.of(read_journal(tmp_path))))

    assert {path.name for path in tmp_path.iterdir()} == {
        "best.yaml", "config.yaml", "leaderboard.csv", "search.jsonl",
    }  # fmt: skip
    outcomes = flip(tmp_path, number, numbers)
    assert outcomes["refused by name"] > 0.3 * number


def test_a_journal_is_written_only_by_its_owner_and_only_in_whole_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = RunDirectory(tmp_path / "search")
    with directory.locked():
        path = write_journal(directory)
        before, write = path.read_bytes(), os.write

        def half(descriptor: int, data: bytes) -> int:
            if len(data) < 40:
                raise OSError(28, "No space left on device")
            return write(descriptor, data[: len(data) // 2])

        journal = Journal(directory)
        monkeypatch.setattr("os.write", half)
        journal.append(END)
        assert journal.failure == "No space left on device"
        assert path.read_bytes() == before
        monkeypatch.setattr("os.write", write)
        path.write_bytes(before + b'{"kind": "st')  # from a writer that was killed
        journal.append(REPORT)  # there is space again
        assert not journal.failure
        assert [record["kind"] for record in read_journal(directory.path)[-2:]] == ["end", "report"]
        (directory.path / "owner").write_text("another driver")
        with pytest.raises(LostOwnershipError):
            journal.append(OTHER)


def test_a_damaged_or_foreign_directory_is_one_sentence(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    config = configuration.load(None, [f"run.directory={tmp_path}", f"data.directory={tmp_path / 'data'}"])
    check_same_search(directory, config)
    directory.config.write_text(configuration.to_yaml(config, without=["cluster"]))
    check_same_search(
        directory, configuration.with_values(config, {"cluster.num_workers": 2, "search.max_concurrent": 1})
    )
    other = configuration.with_values(config, {"search.seed": 9, "model.num_layers": 3})
    with pytest.raises(UserError) as refused:
        check_same_search(directory, other)
    assert str(refused.value).splitlines() == [
        "model.num_layers: this search was started with 2 and cannot continue with 3",
        "search.seed: this search was started with 1 and cannot continue with 9",
        f"({directory.config} says so; another run.directory starts a separate search)",
    ]
    for garbled in (b"model: {hidden", b"\xff\xfe", b"- 1", b"model: {bptt: 3}"):
        directory.config.write_bytes(garbled)
        with pytest.raises(UserError, match=r"config\.yaml is not a whole configuration") as refused:
            check_same_search(directory, config)
        assert len(str(refused.value).splitlines()) == 1
    directory.metrics.touch()
    with pytest.raises(UserError, match="holds a run, not a search"):
        check_same_search(directory, config)


def test_trials_are_stopped_as_ray_s_asha_stops_them() -> None:
    source = random.Random(1)
    for reduction_factor in (2, 3, 4):
        milestones = [100 * reduction_factor**power for power in range(3)]
        ours = AshaStopping(SearchConfig(reduction_factor=reduction_factor), milestones, 10**6)
        theirs = ASHAScheduler(
            "tokens", "loss", "min", max_t=10**6, grace_period=100, reduction_factor=reduction_factor,
            stop_last_trials=False,
        )  # fmt: skip
        theirs._brackets[0]._rungs = [(rung, {}) for rung in reversed(milestones)]
        running = [SimpleNamespace(trial_id=f"t{n}", known=Trial(f"t{n}", n, {})) for n in range(40)]
        for trial in running:
            theirs.on_trial_add(None, trial)  # type: ignore[arg-type]
        tokens = dict.fromkeys((trial.trial_id for trial in running), 0)
        stopped = 0
        while running:
            trial = source.choice(running)
            before = tokens[trial.trial_id]
            tokens[trial.trial_id] += source.randint(20, 150)
            result = {"tokens": tokens[trial.trial_id], "loss": source.choice([source.uniform(1, 5), 3.0])}
            rung = max((rung for rung in milestones if before < rung <= result["tokens"]), default=None)
            ours.apply({"kind": "report", "rung": rung, **result}, trial.known)
            decision = ours.at_rung(trial.known, rung).kind if rung else "continue"
            assert decision.upper() == theirs.on_trial_result(None, trial, result)  # type: ignore[arg-type]
            stopped += decision == "stop"
            if decision == "stop" or result["tokens"] > 2000:
                running.remove(trial)
        assert 15 < stopped < 40


def test_trials_are_drawn_as_ray_tune_draws_them() -> None:
    space: dict[str, Any] = {
        "optimizer.lr": {"loguniform": [1e-4, 1e-1]}, "model.hidden_size": [8, [8, 16], 32],
        "model.dropout": {"uniform": [0.0, 0.5]}, "train.bptt": {"randint": [4, 40]},
    }  # fmt: skip
    config = configuration.with_values(
        configuration.load(), {"search.space": space, "search.seed": 7, "model.num_layers": 2}
    )
    draws = sampler_of(config.search, check_space(config)).draws(Standing(), number=1, num_before=0)
    drawn = [next(draws) for _ in range(20)]
    domains = {
        "optimizer.lr": tune.loguniform(1e-4, 1e-1), "model.hidden_size": tune.choice([8, [8, 16], 32]),
        "model.dropout": tune.uniform(0.0, 0.5), "train.bptt": tune.randint(4, 40),
    }  # fmt: skip
    source = np.random.default_rng(7)
    tunes = [
        next(iter(generate_variants({"config": dict(domains)}, random_state=source)))[1]["config"] for _ in range(20)
    ]
    assert drawn == tunes
    later = sampler_of(config.search, check_space(config)).draws(Standing(), number=6, num_before=5)
    assert [next(later) for _ in range(15)] == drawn[5:]
    for settings in drawn:
        configuration.with_values(configuration.load(), settings)
        assert all(type(value) in (int, float, list) for value in settings.values())


def test_a_search_in_a_pipe_says_each_change_in_a_line() -> None:
    stream = io.StringIO()
    progress, standing = SearchProgress(8, stream=stream), Standing()
    between = {**REPORT, "tokens": 130, "perplexity": 7.5, "rung": None}
    later = {**REPORT, "trial": "002-lr=0.2", "perplexity": 8.0}
    done = {**END, "trial": "002-lr=0.2", "status": "done", "reason": "", "tokens": 900, "perplexity": 5.0}
    lost = {**END, "trial": "003-lr=9", "status": "lost", "reason": "the loss rose", "perplexity": None}
    third = {**START, "trial": "003-lr=9", "number": 3, "settings": {"optimizer.lr": 9.0}, "num_refused": 2}
    again = {**OTHER, "tokens": 100}
    for record in (START, REPORT, between, END, OTHER, OTHER, later, again, done, third, lost, {"kind": "interrupted"}):
        standing.apply(record)
        progress.show(record, standing)
    assert stream.getvalue().splitlines() == [
        "trial 1/8: optimizer.lr=0.1: starts",
        "trial 1/8: optimizer.lr=0.1: perplexity 7.39 (best so far) after 100 tokens",
        "  0%                      1 of 8 trials: 1 running  best perplexity 7.39 (trial 1)  130 tokens",
        "trial 1/8: optimizer.lr=0.1: stopped after 100 tokens with perplexity 7.39 (best so far), "
        "not among the best 1 in 3 at 100 tokens (1/8 trials ended)",
        "trial 2/8: optimizer.lr=0.2: starts",
        "trial 2/8: optimizer.lr=0.2: continues, before its first validation",
        "trial 2/8: optimizer.lr=0.2: perplexity 8.00 after 100 tokens",
        "trial 2/8: optimizer.lr=0.2: continues after 100 tokens",
        "trial 2/8: optimizer.lr=0.2: done after 900 tokens with perplexity 5.00 (best so far) (2/8 trials ended)",
        "trial 3/8: optimizer.lr=9: starts, after 2 draws that were refused",
        "trial 3/8: optimizer.lr=9: lost after 100 tokens, the loss rose (3/8 trials ended)",
    ]

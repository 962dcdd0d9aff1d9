"""A search whose files were damaged while it was stopped: refused by name, or it ends with the same numbers."""

import json
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline import config as configuration
from pipeline.cluster.continued import check_same_corpus, check_same_search
from pipeline.cluster.leg import Leg
from pipeline.cluster.rules import Rules, with_budget
from pipeline.cluster.search import settings_of
from pipeline.cluster.train import Plan
from pipeline.cluster.trial import Runner
from pipeline.cluster.tuning import LEG, Conductor
from pipeline.config import Config
from pipeline.data.prepare import prepare_in_process
from pipeline.errors import UserError
from pipeline.search.journal import JOURNAL, Journal, begin_journal, read_journal
from pipeline.search.leaderboard import leaderboard, save
from pipeline.search.space import check_space
from pipeline.search.standing import Standing, Trial
from pipeline.training.directory import RunDirectory
from pipeline.training.monitor import read
from tests.cluster.test_trial import runner_of
from tests.damage import flipped
from tests.test_damage import NO_EFFECT, REFUSED, SET_ASIDE, files_of, many

SEARCH = {
    "search.space": {"optimizer.lr": [0.01, 0.02]},
    "search.algorithm": "grid",
    "search.scheduler": "none",
    "train.max_tokens": 1200,
    "train.checkpoint_every_steps": 4,
    "train.evaluate_every_steps": 10,
    "model.num_layers": 1,
}


def run_legs(runner: Runner, config: Config) -> None:
    """Run the trials of a search one after another, as Ray Tune does, until all have ended or a stop is asked for."""
    rules = Rules(runner.config, check_space(config), 1200, [], runner.plan)
    conductor = Conductor(
        lambda journal: rules.engine(runner.directory, journal.append),
        Journal(runner.directory),
        most_at_once=lambda: 1,
        max_failures=0,
    )
    for number in range(9):
        found = conductor.next_leg(str(number))
        if not isinstance(found, dict):
            return
        values = json.loads(found[LEG])
        after = values.pop("tokens")
        trial = Trial(**values)
        leg = Leg(lambda report, trial=trial, after=after: runner.run(trial, report, after_tokens=after))
        while conductor.result(str(number), leg.step()):
            pass
        leg.leave()


def go_on(runner: Runner, config: Config) -> list[tuple[Any, ...]]:
    """Train the trials that have not ended, as a search does, and write its results; return the leaderboard."""
    directory = runner.directory
    with directory.locked():
        check_same_search(directory, config)
        begin_journal(directory.path, read_journal(directory.path))
        run_legs(runner, config)
        rows = leaderboard(Standing.of(read_journal(directory.path)))
        save(directory.path, rows, with_budget(config), sample_tokens=0)
    return [(row.trial, row.perplexity, row.tokens, row.status, *row.settings.items()) for row in rows]


def begin_and_stop(runner: Runner, config: Config) -> str:
    """Run a search, and stop it in its second trial; return that trial's name."""
    done = runner.run

    def stop_in_the_second(runner: Runner, trial: Trial, report: Any, **how: Any) -> dict[str, Any]:
        def report_and_stop(figures: dict[str, Any]) -> None:
            report(figures)
            if trial.number == 2:
                runner.directory.request_stop()

        return done(trial, report_and_stop, **how)

    with runner.directory.locked(), pytest.MonkeyPatch.context() as patch:
        runner.directory.config.write_text(settings_of(config))
        begin_journal(runner.directory.path, [])
        patch.setattr(Runner, "run", stop_in_the_second)
        run_legs(runner, config)
    standing = Standing.of(read_journal(runner.directory.path))
    assert [trial.status for trial in standing.drawn] == ["done", "waiting"]
    return list(standing.trials)[1]


def test_a_search_that_was_moved_goes_on(make_config: Callable[..., Config], tmp_path: Path) -> None:
    config = make_config(SEARCH)
    runner = runner_of(config)
    begin_and_stop(runner, config)
    there = tmp_path / "another" / "place"
    there.mkdir(parents=True)
    for name in ("run", "data"):
        shutil.move(tmp_path / name, there / name)
    moved = make_config({**SEARCH, "run.directory": str(there / "run"), "data.directory": str(there / "data")})
    assert [row[3] for row in go_on(runner_of(moved), moved)] == ["done", "done"]
    assert not (tmp_path / "run").exists()
    other = configuration.with_values(moved, {"model.dropout": 0.3, "search.num_trials": 9, "search.max_hours": 3})
    with pytest.raises(UserError, match=r"^model\.dropout: .* cannot continue with 0\.3\n"):
        check_same_search(RunDirectory(there / "run"), other)


def test_a_search_continues_only_on_the_corpus_of_its_trials(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    config = make_config()
    corpus = prepare_in_process(config)
    check_same_corpus([], corpus)
    begin_journal(tmp_path, [{"kind": "search", "format": 2}])
    check_same_corpus(read_journal(tmp_path), corpus)  # of an earlier version, which did not say
    begin_journal(tmp_path, read_journal(tmp_path), corpus=corpus.fingerprint)
    check_same_corpus(read_journal(tmp_path), corpus)
    text = tmp_path / "other.txt"
    text.write_text(Path(config.corpus.train[0]).read_text().swapcase())
    changes = {"corpus.train": [str(text)], "data.directory": str(tmp_path / "other")}
    other = prepare_in_process(configuration.with_values(config, changes))
    begin_journal(tmp_path, read_journal(tmp_path), corpus=other.fingerprint)
    with pytest.raises(
        UserError, match=r"^data\.directory: \S+other holds another corpus than the one that the trials"
    ):
        check_same_corpus(read_journal(tmp_path), other)


def test_settings_to_try_first_that_no_trial_can_have_are_named(make_config: Callable[..., Config]) -> None:
    config = make_config({"search.space": {"model.hidden_size": [8, 512]}, "search.max_parameters": 9_000})
    prepare_in_process(config)
    first = [{"model.hidden_size": 8}, {"model.hidden_size": 512}]
    rules = Rules(with_budget(config), check_space(config), 1200, first, Plan(1, 1, False))
    (sentence,) = rules.not_tried_first()
    assert sentence.startswith("search.try_first: model.hidden_size=512 is left out: a model of ")
    assert rules.engine(RunDirectory(config.run.directory)).candidates.first == first[:1]


@many(6, 300)
def test_a_damaged_search_ends_the_same_or_is_refused(
    make_config: Callable[..., Config], tmp_path: Path, number: int
) -> None:
    config = make_config(SEARCH)
    runner = runner_of(config)
    search, copy, source = runner.directory.path, tmp_path / "copy", random.Random(number)
    stopped = begin_and_stop(runner, config)
    shutil.copytree(search, copy)
    expected = go_on(runner, config)
    assert [row[3] for row in expected] == ["done", "done"]
    best = (search / "best.yaml").read_bytes()
    files = [path.relative_to(copy) for path in files_of(copy)]
    files.sort(key=lambda name: name.name != JOURNAL)  # damage the journal first
    outcomes = Counter[str]()
    for index in range(number):
        shutil.rmtree(search)
        shutil.copytree(copy, search)
        name = files[index * 11 % len(files)]
        data = (copy / name).read_bytes()
        (search / name).write_bytes(flipped(data, source.randrange(8 * len(data))))
        try:
            assert go_on(runner, config) == expected, name
        except UserError as error:
            assert name.name in str(error), name  # noqa: PT017
            outcomes[REFUSED] += 1
            continue
        assert (search / "best.yaml").read_bytes() == best
        told = [r for r in read(search / "trials" / stopped / "metrics.jsonl") if r["kind"] == "warning"]
        outcomes[SET_ASIDE if told else NO_EFFECT] += 1
    print(f"\n{number:,} bits of {len(files)} files: {dict(outcomes)}")
    assert outcomes[REFUSED]
    assert outcomes[SET_ASIDE]

"""Hyperparameter search with Ray Tune: draw settings, train each as a run of its own, keep the best.

search.space → trials (each ``pipeline.run.train`` in its own folder) → perplexity at rungs → who stays → leaderboard

    <run.directory>/config.yaml       the settings of the search
    <run.directory>/search.jsonl      its journal: what was drawn, reported and decided, and how each trial ended
    <run.directory>/trials/<name>/    a run directory like any other
    <run.directory>/leaderboard.csv   trials by validation perplexity, always up to date
    <run.directory>/report.md         what was found, with pictures (see ``pipeline.search.report``)
    <run.directory>/best.yaml         the best trial's whole configuration, as ``jobs.train`` takes it

``pipeline.search`` says what is to run; each start makes a new ``Tuner`` that asks it (see ``tuning``), and nothing is
read from what Tune itself writes.
"""

from __future__ import annotations

import logging
import shutil
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pipeline import config as configuration
from pipeline.cluster.continued import check_same_corpus, check_same_search
from pipeline.cluster.prepare import prepare
from pipeline.cluster.room import check_capacity
from pipeline.cluster.rules import Rules, budget, plan_trials, with_budget, with_equal_tokens
from pipeline.cluster.session import ray_session
from pipeline.cluster.train import Plan, in_background
from pipeline.cluster.trial import Runner
from pipeline.cluster.tuning import Conductor, conduct
from pipeline.config import Config
from pipeline.data.prepare import OnShard
from pipeline.data.shards import PreparedCorpus
from pipeline.files import UnwritableError, write_file
from pipeline.launch import stopping_on_signals
from pipeline.search.adopted import records_of_trials
from pipeline.search.checks import first_settings
from pipeline.search.corpora import check_budget, check_comparable, has_other_tokens
from pipeline.search.exploits import Exploits
from pipeline.search.journal import JOURNAL, Journal, JournalTail, begin_journal, read_journal
from pipeline.search.keeping import Keeper
from pipeline.search.leaderboard import LEADERBOARD, Row, as_csv, leaderboard, rows_of, save
from pipeline.search.lives import exploits_of
from pipeline.search.paths import absolute_with_space
from pipeline.search.plan import SearchPlan, plan_of
from pipeline.search.population import check_interval, check_population
from pipeline.search.report import REPORT, Findings, write_report
from pipeline.search.schedulers import milestones_of
from pipeline.search.space import Space, check_space, check_validation
from pipeline.search.standing import Standing
from pipeline.status import check_scored
from pipeline.training.directory import RunDirectory
from pipeline.training.monitor import Record

SCRATCH = "ray"  # what Ray Tune writes for itself


class InterruptedSearchError(Exception):
    """A search was asked to stop before all its trials had ended; ``signum`` is the signal that asked."""

    def __init__(self, signum: int, num_ended: int, num_trials: int) -> None:
        super().__init__(f"stopped with {num_ended} of {num_trials} trials done")
        self.signum = signum


def search(
    config: Config,
    *,
    verbose: bool = False,
    say: Callable[[str], None] = lambda sentence: None,
    on_record: Callable[[Record, Standing], None] = lambda record, standing: None,
    on_shard: OnShard = lambda entry, total: None,
    on_plan: Callable[[SearchPlan], None] = lambda plan: None,
) -> list[Row]:
    """Run the trials of ``config.search``, continuing where a stopped search left off; return rows, the best first.

    Args:
        say: called with a sentence about what was found or done.
        on_record: called with each new record of the journal, and where the search stands with it.
        on_plan: called with what is expected of the search.

    Raises:
        UserError: a space that does not fit the settings, a directory that holds something else, or no trial that got
            as far as a perplexity.
        InterruptedSearchError: asked to stop by Ctrl-C or SIGTERM; trials can continue from their last checkpoints.
    """
    config = absolute_with_space(config)
    space = check_space(config)
    check_population(config)
    check_validation(config)
    if has_other_tokens(space):
        check_budget(with_budget(config))
    first = first_settings(config, space)
    directory = RunDirectory(str(config.run.directory))
    with directory.locked():
        check_same_search(directory, config)
        records = read_journal(directory.path)
        with ray_session(config.cluster, verbose=verbose):
            if not verbose:  # it reports failed trials and state that it cannot save; the journal says what matters
                logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
            plan = plan_trials(config)
            check_capacity(plan.num_workers, plan.resources)
            corpus = prepare(config, on_shard=on_shard, say=say)
            check_same_corpus(records, corpus)
            rules = rules_of(config, space, first, plan, corpus)
            write_file(directory.config, settings_of(config))
            adopted = records or records_of_trials(directory.path, config, corpus)
            begin_journal(directory.path, adopted, corpus=corpus.fingerprint)
            for sentence in () if records else [*rules.not_compared(), *rules.not_tried_first()]:
                say(sentence)
            on_plan(plan_of(config.search, space, rules.budget_tokens))
            try:
                run_trials(rules, directory, say=say, on_record=on_record)
            except InterruptedSearchError:
                with suppress(UnwritableError):  # the report is written again at the end
                    report(rules, directory, config, is_over=False, say=say)
                raise
        rows = leaderboard(Standing.of(read_journal(directory.path)))
        save(directory.path, rows, rules.config, sample_tokens=config.run.sample_tokens, pins=rules.pins())
        report(rules, directory, config, is_over=True, say=say)
    return rows


def rules_of(config: Config, space: Space, first: list[dict[str, Any]], plan: Plan, corpus: PreparedCorpus) -> Rules:
    """The rules of the search of ``config`` on ``corpus``. Raises ``UserError`` like ``search``."""
    check_scored("valid", len(corpus.splits["valid"]))
    trial_config = with_budget(config)
    if has_other_tokens(space):
        check_comparable(trial_config, corpus)
    tokens = budget(trial_config, corpus)
    rules = Rules(with_equal_tokens(trial_config, space, tokens, corpus), space, tokens, first, plan)
    check_interval(config, rules.budget_tokens)
    return rules


def report(rules: Rules, directory: RunDirectory, config: Config, *, is_over: bool, say: Callable[[str], None]) -> None:
    """Write what the search has found so far; say what is missing in it. Raises ``UnwritableError``."""
    records = read_journal(directory.path)
    milestones = milestones_of(config.search, rules.budget_tokens)
    findings = Findings(
        config, rules.space, milestones, rules.budget_tokens, Standing.of(records), exploits_of(records), is_over
    )
    for sentence in write_report(directory.path, findings):
        say(f"{directory.path / REPORT} has {sentence}")


def settings_of(config: Config) -> str:
    """The configuration as saved with a search."""
    return configuration.to_yaml(config, without=["cluster"])


def num_planned(config: Config, standing: Standing) -> int:
    """How many trials there will be, as far as that is known."""
    return max(config.search.num_trials or 0, len(standing.trials))


def run_trials(
    rules: Rules,
    directory: RunDirectory,
    *,
    say: Callable[[str], None],
    on_record: Callable[[Record, Standing], None],
) -> None:
    """Run trials until the engine says that nothing is left to do; say why, if more could have been done.

    Raises:
        InterruptedSearchError: something is left, because the search was asked to stop.
        UnwritableError: something may be left, because what has happened could not be written to the journal.
    """
    shutil.rmtree(directory.path / SCRATCH, ignore_errors=True)
    if is_over(rules, directory, say=say):
        return
    standing = Standing.of(read_journal(directory.path))
    if standing.trials:
        planned = num_planned(rules.config, standing)
        say(f"continuing the {rules.what} in {directory.path}: {standing.num_ended} of {planned} trials are done")
    standing.begin_sitting()
    tail = JournalTail(directory.path)

    def show(has_ended: bool) -> None:
        records = tail.records()
        for record in records:
            standing.apply(record)
            on_record(record, standing)
        if records:
            with suppress(UnwritableError):  # it is written again with the next record
                write_file(directory.path / LEADERBOARD, as_csv(rows_of(standing)))

    with stopping_on_signals(directory.request_stop, lambda: say("stopping (again to stop at once)")) as received:
        in_background(lambda: tune_trials(rules, directory), meanwhile=show)
    if is_over(rules, directory, say=say, retries_failed=False):
        return
    if received or directory.stop_requested():
        planned = num_planned(rules.config, standing)
        raise InterruptedSearchError(received[0] if received else signal.SIGTERM, standing.num_ended, planned)
    raise UnwritableError(
        f"{directory.path / JOURNAL} could not be written when trials ended: {why_unwritable(directory)}; what the "
        "trials saved is kept, the same command continues"
    )


def is_over(rules: Rules, directory: RunDirectory, *, say: Callable[[str], None], retries_failed: bool = True) -> bool:
    """Whether nothing is left to do; if more could have been done, say why it is not."""
    end = rules.end(directory, retries_failed=retries_failed)
    if end is not None and end.reason:
        say(f"the {rules.what} ends here: {end.reason}")
    return end is not None


def why_unwritable(directory: RunDirectory) -> str:
    """What the storage of a search answers to a write now, or a general reason if the write succeeds again."""
    journal = Journal(directory)
    journal.append({"kind": "unwritten"})
    return journal.failure or "its storage was full or away"


def tune_trials(rules: Rules, directory: RunDirectory) -> None:
    """Run what the engine says with Ray Tune, until nothing is left to run or a stop is requested."""
    plan = rules.plan
    milestones = rules.milestones(directory)
    runner = Runner(rules.config, directory, plan, milestones)
    keeper = Keeper(directory.path, rules.config.search)
    conductor = Conductor(
        lambda journal: rules.engine(directory, journal.append),
        Journal(directory),
        most_at_once=rules.most_at_once,
        most_waiting=rules.most_waiting,
        max_failures=rules.config.cluster.max_failures,
        before_leg=Exploits(directory, rules.config).settle,
        after_leg=keeper.clear,
    )
    scratch = directory.path / SCRATCH
    # the ranks of one leg must be gone, with what they hold, before another begins
    conduct(conductor, runner, runner.resources, scratch, reuse_actors=plan.num_workers == 1)
    shutil.rmtree(scratch, ignore_errors=True)

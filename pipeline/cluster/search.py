"""Hyperparameter search with Ray Tune: sample settings, train each as a run of its own, keep the best.

search.space → trials (each ``pipeline.run.train`` in its own folder) → perplexity at the rungs → ASHA → leaderboard

    <run.directory>/config.yaml       the settings of the search
    <run.directory>/search.jsonl      its journal: what was drawn, reported and decided, and how each trial ended
    <run.directory>/trials/<name>/    a run directory like any other
    <run.directory>/leaderboard.csv   trials by validation perplexity
    <run.directory>/best.yaml         the best trial's whole configuration, as ``jobs.train`` takes it

Each start makes a new ``Tuner`` of the trials that have not ended; nothing is read from what Tune itself writes.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import BasicVariantGenerator

from pipeline import config as configuration
from pipeline import run
from pipeline.cluster.adopted import records_of_trials
from pipeline.cluster.journal import FAILED, JOURNAL, Journal, JournalTail, Standing, Trial, begin_journal, read_journal
from pipeline.cluster.leaderboard import Row, leaderboard, save
from pipeline.cluster.prepare import prepare
from pipeline.cluster.recorder import Recorder
from pipeline.cluster.rungs import Halving, StopsWorse, rungs
from pipeline.cluster.session import check_capacity, ray_session
from pipeline.cluster.space import draw, parse_space
from pipeline.cluster.train import Plan, in_background, plan_workers
from pipeline.cluster.trial import Runner, name_of
from pipeline.config import Config
from pipeline.data.prepare import OnShard
from pipeline.data.shards import PreparedCorpus
from pipeline.errors import UserError
from pipeline.files import UnwritableError, write_file
from pipeline.launch import stopping_on_signals
from pipeline.paths import absolute
from pipeline.training.directory import RunDirectory
from pipeline.training.monitor import Record

SCRATCH = "ray"  # what Ray Tune writes for itself
# what may differ between two starts of one search; anything else would make its trials incomparable
MAY_DIFFER = ("cluster.", "run.", "data.directory", "search.max_concurrent")
TUNE_SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # a second copy of each trial for TensorBoard
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",  # a state that is never read
}


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
) -> list[Row]:
    """Run the trials of ``config.search``, going on where a stopped search left off; rows, the best first.

    Args:
        say: told in a sentence what was found and done.
        on_record: told of each new record of the journal, and where the search stands with it.

    Raises:
        UserError: a space that does not fit the settings, a directory that holds something else, or no trial that came
            to a perplexity.
        InterruptedSearchError: asked to stop by Ctrl-C or SIGTERM; trials go on from their last checkpoints.
    """
    config = absolute(config)
    space = parse_space(config)
    directory = RunDirectory(str(config.run.directory))
    with directory.locked():
        check_same_search(directory, config)
        records = read_journal(directory.path)
        with ray_session(config.cluster, verbose=verbose):
            if not verbose:  # trials that fail, and its own state that it cannot save: the journal says what matters
                logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
            plan = plan_trials(config)
            check_capacity(num_workers=plan.num_workers, cpus_per_worker=plan.cpus_per_worker, use_gpu=plan.use_gpu)
            corpus = prepare(config, on_shard=on_shard, say=say)
            if "valid" not in corpus.splits:
                raise UserError("corpus.valid: a search needs a validation split to compare trials by")
            write_file(directory.config, settings_of(config))
            begin_journal(directory.path, records or records_of_trials(directory.path, config, corpus))
            run_trials(config, space, plan, corpus, directory, say=say, on_record=on_record)
        rows = leaderboard(Standing.of(read_journal(directory.path)))
        save(directory.path, rows, with_budget(config), sample_tokens=config.run.sample_tokens)
    return rows


def settings_of(config: Config) -> str:
    """The configuration as saved with a search."""
    return configuration.to_yaml(config, without=["cluster"])


def check_same_search(directory: RunDirectory, config: Config) -> None:
    """Raise ``UserError`` if the directory holds another search, naming the settings, or something else."""
    if directory.metrics.exists() or directory.checkpoints.exists():
        raise UserError(f"run.directory: {directory.path} holds a run, not a search; name another directory")
    if not directory.config.exists():
        return
    try:
        old = configuration.dump(configuration.load(directory.config))
    except UserError as error:
        raise UserError(
            f"run.directory: {directory.config} is not a whole configuration ({' '.join(str(error).split())}); without "
            "this file the search goes on with the settings that it is given"
        ) from None
    different = [
        f"{section}.{name}: this search was started with {old[section].get(name)!r} and cannot go on with {value!r}"
        for section, values in configuration.dump(config).items()
        for name, value in values.items()
        if old[section].get(name) != value and not f"{section}.{name}".startswith(MAY_DIFFER)
    ]
    if different:
        beside = f"(so {directory.config} says; another run.directory starts a search beside it)"
        raise UserError("\n".join([*different, beside]))


def plan_trials(config: Config) -> Plan:
    """A trial's workers. A CPU trial has one thread unless set: trials side by side use the cores best."""
    plan = plan_workers(config.cluster)
    if config.cluster.cpus_per_worker == "auto" and not plan.use_gpu:
        plan = replace(plan, cpus_per_worker=1)
    return replace(plan, num_workers=1) if config.cluster.num_workers == "auto" else plan


def with_budget(config: Config) -> Config:
    """The configuration of a trial before its sample: the budget of a trial becomes its horizon."""
    changes = {"run.sample_tokens": 0}
    if config.search.max_tokens is not None:
        changes["train.max_tokens"] = config.search.max_tokens
    return configuration.with_values(config, changes)


def budget(config: Config, corpus: PreparedCorpus) -> int:
    """Tokens that a trial trains on if nothing stops it."""
    data = run.training_data(config, corpus, rank=0, world_size=1)
    epochs = config.train.epochs * data.tokens_per_epoch
    return min(epochs, config.train.max_tokens or epochs)


def planned(config: Config, space: Mapping[str, Any], standing: Standing) -> dict[str, Trial]:
    """All trials of the search by name: those that were begun, and those still to be drawn."""
    begun = {trial.number: trial for trial in standing.trials.values()}
    drawn = draw(space, seed=config.search.seed, num_trials=config.search.num_trials)
    trials = [begun.get(n) or Trial(name_of(n, settings), n, settings) for n, settings in enumerate(drawn, start=1)]
    return {trial.name: trial for trial in trials}


def run_trials(
    config: Config,
    space: Mapping[str, Any],
    plan: Plan,
    corpus: PreparedCorpus,
    directory: RunDirectory,
    *,
    say: Callable[[str], None],
    on_record: Callable[[Record, Standing], None],
) -> None:
    """Run each trial that has not ended to its end.

    Raises:
        InterruptedSearchError: some have not ended, for the search was asked to stop.
        UnwritableError: some may have ended, but the journal could not take it down.
    """
    standing = Standing.of(read_journal(directory.path))
    trials = planned(config, space, standing)
    pending = [name for name, trial in trials.items() if trial.end is None or trial.end["status"] == FAILED]
    shutil.rmtree(directory.path / SCRATCH, ignore_errors=True)
    if not pending:
        return
    standing.begin_sitting()
    if standing.trials:
        say(f"continuing the search in {directory.path}: {len(trials) - len(pending)} of {len(trials)} trials are done")
    trial_config = with_budget(config)
    milestones = rungs(config.search, budget(trial_config, corpus))
    runner = Runner(trial_config, directory, plan, milestones, trials)
    tail = JournalTail(directory.path)
    ended = set(trials) - set(pending)

    def show(has_ended: bool) -> None:
        for record in tail.records():
            standing.apply(record)
            if record["kind"] == "end":
                ended.add(record["trial"])
            on_record(record, standing)

    with stopping_on_signals(directory.request_stop, lambda: say("stopping (again to stop at once)")) as received:
        in_background(lambda: tune_trials(runner, pending, standing), meanwhile=show)
    if len(ended) < len(trials):
        if received or directory.stop_requested():
            raise InterruptedSearchError(received[0] if received else signal.SIGTERM, len(ended), len(trials))
        raise UnwritableError(
            f"{directory.path / JOURNAL} could not be written when trials ended: {why_unwritable(directory)}; what the "
            "trials saved is kept, the same command goes on"
        )


def why_unwritable(directory: RunDirectory) -> str:
    """What the storage of a search answers now, which may be nothing any more."""
    journal = Journal(directory)
    journal.append({"kind": "unwritten"})
    return journal.failure or "its storage was full or away"


def tune_trials(runner: Runner, pending: Sequence[str], standing: Standing) -> None:
    """Run the ``pending`` trials with Ray Tune, going by what is reported so far; returns early at a stop request."""
    settings, directory = runner.config.search, runner.directory
    scheduler: Any = FIFOScheduler()
    if settings.scheduler == "asha" and runner.milestones:
        halving = Halving(runner.milestones, settings.reduction_factor)
        halving.replay(standing)
        scheduler = StopsWorse(halving)
    recorder = Recorder(directory, runner.trials, runner.milestones, settings.reduction_factor)
    scratch = directory.path / SCRATCH
    os.environ.update(TUNE_SETTINGS)
    tuner = tune.Tuner(
        runner.trainable(),
        param_space={"trial": tune.grid_search(list(pending))},
        tune_config=tune.TuneConfig(
            scheduler=scheduler,
            search_alg=BasicVariantGenerator(max_concurrent=settings.max_concurrent or max_concurrent(runner.plan)),
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(scratch),
            stop=StopsAtRequest(directory),
            verbose=0,
            callbacks=[recorder],
        ),
    )
    tuner.fit()
    shutil.rmtree(scratch, ignore_errors=True)


class StopsAtRequest(tune.Stopper):
    """Ends the search for now when its directory is asked to stop. Its trials see that too, and save."""

    def __init__(self, directory: RunDirectory) -> None:
        self.directory = directory

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self.directory.stop_requested()


def max_concurrent(plan: Plan) -> int:
    """Trials that fit on the cluster at once."""
    total = ray.cluster_resources()
    fit = int(total.get("CPU", 1) // (plan.num_workers * plan.cpus_per_worker))
    if plan.use_gpu:
        fit = min(fit, int(total.get("GPU", 0) // plan.num_workers))
    return max(1, fit)

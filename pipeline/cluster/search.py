"""Hyperparameter search with Ray Tune: sample settings, train each as a run of its own, keep the best.

search.space → trials (each ``pipeline.run.train`` in its own folder) → perplexity at the rungs → ASHA → leaderboard

    <run.directory>/trials/<id>/      a run directory like any other
    <run.directory>/leaderboard.csv   trials by validation perplexity
    <run.directory>/best.yaml         the best trial's whole configuration, as ``jobs.train`` takes it
"""

from __future__ import annotations

import csv
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.integration.ray_train import TuneReportCallback
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import BasicVariantGenerator

from pipeline import config as configuration
from pipeline import run
from pipeline.cluster.prepare import prepare
from pipeline.cluster.session import check_capacity, ray_session
from pipeline.cluster.space import parse_space
from pipeline.cluster.train import OnRay, Plan, plan_workers
from pipeline.config import Config, SearchConfig
from pipeline.data.prepare import OnShard
from pipeline.data.shards import PreparedCorpus
from pipeline.errors import UserError
from pipeline.launch import stopping_on_signals
from pipeline.paths import absolute
from pipeline.training import checkpoint
from pipeline.training.directory import RunDirectory
from pipeline.training.monitor import write_hparams

EXPERIMENT = "tune"


class InterruptedSearchError(Exception):
    """A search was asked to stop before all its trials were done; ``signum`` is the signal that asked."""

    def __init__(self, signum: int, num_done: int, num_trials: int) -> None:
        super().__init__(f"stopped with {num_done} of {num_trials} trials done")
        self.signum = signum


@dataclass(frozen=True)
class Row:
    """One trial on the leaderboard; ``perplexity`` is None where it failed before its first validation."""

    trial: str
    settings: dict[str, Any]
    perplexity: float | None
    tokens: int
    seconds: float
    status: str


def search(
    config: Config,
    *,
    verbose: bool = False,
    say: Callable[[str], None] = lambda sentence: None,
    on_shard: OnShard = lambda entry, total: None,
) -> list[Row]:
    """Run the trials of ``config.search``, going on where a stopped search left off; rows, the best first.

    Raises:
        UserError: a space that does not fit the settings, or no trial that came to a validation.
        InterruptedSearchError: asked to stop by Ctrl-C or SIGTERM; trials go on from their last checkpoints.
    """
    config = absolute(config)
    space = parse_space(config)
    directory = RunDirectory(str(config.run.directory))
    with directory.locked(), ray_session(config.cluster, verbose=verbose):
        plan = plan_trials(config)
        check_capacity(num_workers=plan.num_workers, cpus_per_worker=plan.cpus_per_worker, use_gpu=plan.use_gpu)
        corpus = prepare(config, on_shard=on_shard, say=say)
        if "valid" not in corpus.splits:
            raise UserError("corpus.valid: a search needs a validation split to compare trials by")
        trial_config = with_budget(config)
        directory.config.write_text(check_same_search(directory, config), encoding="utf-8")
        tuner = make_tuner(trial_config, space, plan, budget(trial_config, corpus), say)
        with stopping_tune_on_signals(say) as received:
            results = tuner.fit()
        num_done = results.num_terminated + results.num_errors
        if received and num_done < config.search.num_trials:
            raise InterruptedSearchError(received[0], num_done, config.search.num_trials)
        rows = leaderboard(directory.path, results, space)
    if not rows or rows[0].perplexity is None:
        raise UserError(f"search: no trial came to a validation; what each says is below {directory.path / 'trials'}")
    save(directory.path, rows)
    return rows


@contextmanager
def stopping_tune_on_signals(say: Callable[[str], None]) -> Iterator[list[int]]:
    """Within: the first SIGINT or SIGTERM lets Tune save the search and return; a second acts as usual.

    Yields the list of signals received.
    """
    former = signal.getsignal(signal.SIGUSR1)

    def request_stop() -> None:
        listening: Any = signal.getsignal(signal.SIGUSR1)
        if listening == former:  # Tune has not come to its trials yet
            raise KeyboardInterrupt
        listening(signal.SIGUSR1, None)

    # Tune listens to SIGINT and SIGUSR1; the first would never come here, and nothing tells afterwards that it came
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    try:
        with stopping_on_signals(request_stop, lambda: say("stopping (again to stop at once)")) as received:
            yield received
    finally:
        signal.signal(signal.SIGUSR1, former)


def check_same_search(directory: RunDirectory, config: Config) -> str:
    """The configuration as saved with a search. Raises ``UserError`` if the directory holds a different one."""
    text = configuration.to_yaml(config, without=["cluster"])
    if directory.config.exists() and directory.config.read_text(encoding="utf-8") != text:
        raise UserError(f"run.directory: {directory.path} holds a search with other settings; name another directory")
    return text


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


def rungs(settings: SearchConfig, budget_tokens: int) -> list[int]:
    """Tokens at which trials are compared: grace, grace × factor, … below the budget."""
    rung = settings.grace_tokens or max(1, budget_tokens // settings.reduction_factor**2)
    result = []
    while rung < budget_tokens:
        result.append(rung)
        rung *= settings.reduction_factor
    return result


def make_tuner(
    config: Config, space: dict[str, Any], plan: Plan, budget_tokens: int, say: Callable[[str], None]
) -> tune.Tuner:
    """The tuner of a new search, or the restored one of a search that was stopped."""
    settings, directory = config.search, Path(str(config.run.directory))
    milestones = rungs(settings, budget_tokens)
    trainable = make_trial(config, plan, milestones)
    storage = directory / "ray"
    if tune.Tuner.can_restore(str(storage / EXPERIMENT)):
        say(f"continuing the search in {directory}")
        return tune.Tuner.restore(
            str(storage / EXPERIMENT), trainable=trainable, resume_unfinished=True, resume_errored=True
        )
    scheduler = None
    if settings.scheduler == "asha" and milestones:
        scheduler = ASHAScheduler(
            time_attr="tokens",
            max_t=budget_tokens,
            grace_period=milestones[0],
            reduction_factor=settings.reduction_factor,
        )
    concurrent = settings.max_concurrent or max_concurrent(plan)
    return tune.Tuner(
        trainable,
        param_space=space,
        tune_config=tune.TuneConfig(
            metric="perplexity",
            mode="min",
            num_samples=settings.num_trials,
            scheduler=scheduler,
            search_alg=BasicVariantGenerator(random_state=settings.seed, max_concurrent=concurrent),
        ),
        run_config=tune.RunConfig(
            name=EXPERIMENT, storage_path=str(storage), verbose=0, callbacks=[Announcer(say, settings.num_trials)]
        ),
    )


def max_concurrent(plan: Plan) -> int:
    """Trials that fit on the cluster at once."""
    total = ray.cluster_resources()
    fit = int(total.get("CPU", 1) // (plan.num_workers * plan.cpus_per_worker))
    if plan.use_gpu:
        fit = min(fit, int(total.get("GPU", 0) // plan.num_workers))
    return max(1, fit)


def make_trial(config: Config, plan: Plan, milestones: Sequence[int]) -> Any:
    """The function of one trial, with the resources that it holds."""

    def trial(sample: dict[str, Any]) -> None:
        folder = Path(str(config.run.directory)) / "trials" / str(tune.get_context().get_trial_id())
        trial_config = configuration.with_values(config, {**sample, "run.directory": str(folder)})
        if plan.num_workers > 1:
            # the drivers hold no CPU, else they would hold what their workers wait for
            ranks = OnRay(plan, config.cluster.max_failures, evaluate_at_tokens=milestones)
            folder.mkdir(parents=True, exist_ok=True)
            ranks.trainer(trial_config, owner="", callbacks=[TuneReportCallback()]).fit()
            return
        worker = run.Worker(run.resolve_device("cuda" if plan.use_gpu else "cpu"), plan.cpus_per_worker)
        run.train(trial_config, worker, report=tune.report, evaluate_at_tokens=milestones)

    if plan.num_workers > 1:
        return tune.with_resources(trial, {"memory": 64 << 20})
    return tune.with_resources(trial, {"CPU": plan.cpus_per_worker, "GPU": int(plan.use_gpu)})


class Announcer(tune.Callback):
    """Says a sentence for each trial that ends."""

    def __init__(self, say: Callable[[str], None], num_trials: int) -> None:
        self.say = say
        self.num_trials = num_trials
        self.num_done = 0

    def __getstate__(self) -> dict[str, Any]:
        # Tune saves its callbacks with the experiment; where to print is this process's affair
        return {**self.__dict__, "say": print}

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.num_done += 1
        last = trial.last_result
        reached = f"perplexity {last['perplexity']:,.2f} after {last['tokens']:,} tokens" if last else "nothing"
        self.say(f"trial {self.num_done}/{self.num_trials}: {describe(trial.config)}: {reached}")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.num_done += 1
        self.say(f"trial {self.num_done}/{self.num_trials}: {describe(trial.config)}: failed")


def describe(settings: Mapping[str, Any]) -> str:
    """``optimizer.lr=0.0012 model.hidden_size=128``."""
    shown = (f"{value:.3g}" if isinstance(value, float) else str(value) for value in settings.values())
    return " ".join(f"{path}={value}" for path, value in zip(settings, shown, strict=True))


def leaderboard(directory: Path, results: Any, space: Mapping[str, Any]) -> list[Row]:
    """A row for each trial from its own checkpoints, the lowest perplexity first, failed ones last."""
    rows = []
    for result in results:
        trial = result.metrics["trial_id"] if result.metrics else Path(result.path).name
        sample = {path: result.config[path] for path in space}
        found = checkpoint.manifests(directory / "trials" / trial)
        best = min((m["best_perplexity"] for _, m in found if m["best_perplexity"] is not None), default=None)
        last: Mapping[str, Any] = found[-1][1] if found else {"tokens": 0, "seconds": 0.0}
        rows.append(
            Row(
                trial=trial,
                settings=sample,
                perplexity=best,
                tokens=last["tokens"],
                seconds=round(last["seconds"], 1),
                status="failed" if result.error else "done",
            )
        )
    return sorted(rows, key=lambda row: (row.perplexity is None, row.perplexity or 0.0))


def save(directory: Path, rows: Sequence[Row]) -> None:
    """Write the leaderboard, the best trial's configuration, and each trial's figures for TensorBoard's HPARAMS."""
    paths = list(rows[0].settings)
    with (directory / "leaderboard.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["rank", "perplexity", *paths, "tokens", "seconds", "status", "trial"])
        for rank, row in enumerate(rows, start=1):
            settings = [row.settings[path] for path in paths]
            table.writerow([rank, row.perplexity, *settings, row.tokens, row.seconds, row.status, row.trial])
    best = configuration.load(directory / "trials" / rows[0].trial / "config.yaml")
    samples = configuration.load(directory / "config.yaml").run.sample_tokens
    best = configuration.with_values(best, {"run.directory": str(directory / "best"), "run.sample_tokens": samples})
    (directory / "best.yaml").write_text(configuration.to_yaml(best, without=["search"]), encoding="utf-8")
    for row in rows:
        if row.perplexity is not None:
            write_hparams(RunDirectory(directory / "trials" / row.trial), row.settings, perplexity=row.perplexity)

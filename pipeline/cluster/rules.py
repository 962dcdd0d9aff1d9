"""The workers and the budget of a search's trials on this cluster, and the engine that decides about them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch

from pipeline import config as configuration
from pipeline import resources, run
from pipeline.cluster.address import address_of
from pipeline.cluster.growth import has_unknown_limits
from pipeline.cluster.room import check_capacity, most_places, nodes_to_come, places
from pipeline.cluster.session import ray_session
from pipeline.cluster.train import Plan, plan_workers
from pipeline.config import Config
from pipeline.config.word_numbers import BABYLM
from pipeline.data.shards import PreparedCorpus, open_prepared
from pipeline.search.actions import End
from pipeline.search.candidates import Candidates
from pipeline.search.checks import why_not
from pipeline.search.corpora import has_other_tokens
from pipeline.search.engine import Engine
from pipeline.search.journal import read_journal
from pipeline.search.naming import describe
from pipeline.search.schedulers import milestones_of
from pipeline.search.space import Space
from pipeline.training.directory import RunDirectory
from pipeline.training.horizon import total_tokens

# the settings that say how many tokens a window has
WINDOWS = {"train.bptt", "train.batch_size"}


def plan_trials(config: Config) -> Plan:
    """Plan a trial's workers. A CPU trial has one thread unless set: trials side by side use the cores best."""
    plan = plan_workers(config.cluster)
    if config.cluster.cpus_per_worker == "auto" and not plan.use_gpu:
        plan = replace(plan, cpus_per_worker=1)
    return replace(plan, num_workers=1) if config.cluster.num_workers == "auto" else plan


def with_budget(config: Config) -> Config:
    """The configuration of a trial before its drawn settings: the budget of a trial becomes its horizon."""
    changes = {"run.sample_tokens": 0}
    if config.search.max_tokens is not None:
        changes["train.max_tokens"] = config.search.max_tokens
    return configuration.with_values(config, changes)


def budget(config: Config, corpus: PreparedCorpus) -> int:
    """Tokens that a trial trains on if nothing stops it."""
    return total_tokens(config.train, run.training_data(config, corpus, rank=0, world_size=1))


def with_equal_tokens(config: Config, space: Space, budget_tokens: int, corpus: PreparedCorpus) -> Config:
    """``config`` of a trial, so that each trains on ``budget_tokens``, whatever windows it draws.

    ``train.max_steps`` is more tokens in larger windows, ``train.bptt`` cuts off what is longer of a document, and an
    epoch, or a number of words, has as many tokens as the tokenizer makes of it.
    """
    changes: dict[str, Any] = {}
    if config.train.max_steps is not None and WINDOWS & space.keys():
        changes = {"train.max_steps": None, "train.max_tokens": budget_tokens}
    is_cut = "train.bptt" in space and config.data.layout == "documents"
    if is_cut or has_other_tokens(space):
        if has_other_tokens(space):
            changes |= {"train.max_steps": None, "train.max_words": None}
            least = least_of_an_epoch(config, space)
        else:
            cut = configuration.with_values(config, {"train.bptt": smallest(config, space, "train.bptt")})
            least = run.training_data(cut, corpus, rank=0, world_size=1).tokens_per_epoch
        changes |= {"train.max_tokens": budget_tokens}
        if config.train.checkpoint_at_words != BABYLM:  # whose text may be read only so often
            changes |= {"train.epochs": max(config.train.epochs, -(-budget_tokens // least))}
    return configuration.with_values(config, changes)


def least_of_an_epoch(config: Config, space: Space) -> int:
    """A number of tokens that an epoch of no trial goes below, whatever its tokenizer: those of a window that it needs.

    A document has one token at least.
    """
    rows = smallest(config, space, "train.batch_size")
    return rows if config.data.layout == "documents" else rows * smallest(config, space, "train.bptt")


def smallest(config: Config, space: Space, path: str) -> Any:
    """The lowest value that the setting at ``path`` has in any trial."""
    domain = space.get(path)
    if domain is None:
        return configuration.get(config, path)
    return min(configuration.get(config, path), *domain.ends()) if domain.when else min(domain.ends())


@dataclass(frozen=True)
class Rules:
    """Builds the engine of a search from its journal; it is sent to where Tune runs."""

    config: Config  # of a trial before its drawn settings
    space: Space
    budget_tokens: int
    first: list[dict[str, Any]]
    plan: Plan

    what: ClassVar[str] = "search"

    def milestones(self, directory: RunDirectory) -> list[int]:
        """Numbers of tokens at which every trial validates, in addition to its own schedule."""
        return self.engine(directory).milestones

    def engine(
        self,
        directory: RunDirectory,
        write: Callable[..., None] = lambda *records: None,
        *,
        retries_failed: bool = True,
    ) -> Engine:
        """The engine that continues from the journal in ``directory``."""
        corpus = open_prepared(self.config.data.directory)
        refuses = why_not(self.config, corpus, num_workers=self.plan.num_workers)
        return Engine(
            self.config.search,
            self.space,
            self.budget_tokens,
            records=read_journal(directory.path),
            write=write,
            candidates=Candidates(refuses, [settings for settings in self.first if not refuses(settings)]),
            retries_failed=retries_failed,
        )

    def pins(self) -> dict[str, Any]:
        """What one run needs to repeat a trial: all its validations, as each may be its best, lower its rate or end it.

        A model of a population has a whole life, which is repeated exactly: with the same workers and threads, too.
        """
        pins: dict[str, Any] = {"train.evaluate_at_tokens": milestones_of(self.config.search, self.budget_tokens)}
        if self.config.search.scheduler != "pbt":
            return pins
        plan = self.plan
        return pins | {
            "cluster.num_workers": plan.num_workers,
            "cluster.cpus_per_worker": plan.cpus_per_worker,
            "cluster.device": "cuda" if plan.use_gpu else "cpu",
        }

    def not_compared(self) -> list[str]:
        """A sentence if the scheduler has no rung, so that it does nothing."""
        settings = self.config.search
        if settings.scheduler == "none" or milestones_of(settings, self.budget_tokens):
            return []
        return [
            f"search.grace_tokens: no rung is far enough below the {self.budget_tokens:,} tokens that a trial trains "
            f"on, so {settings.scheduler} compares none and all are trained to their end"
        ]

    def not_tried_first(self) -> list[str]:
        """A sentence for each of the settings to try first that no trial can have."""
        refuses = why_not(self.config, open_prepared(self.config.data.directory), num_workers=self.plan.num_workers)
        return [
            f"search.try_first: {describe(settings)} is left out: {reason}"
            for settings in self.first
            if (reason := refuses(settings))
        ]

    def end(self, directory: RunDirectory, *, retries_failed: bool = True) -> End | None:
        """The end, with its reason, if nothing is left to do. Raises ``UserError`` like ``Engine.next_action``."""
        action = self.engine(directory, retries_failed=retries_failed).next_action(1)
        return action if isinstance(action, End) else None

    def most_at_once(self) -> int:
        """How many trials fit on the cluster at once, at the largest size that it may grow to.

        Where that size is unknown, as many as ``search.max_concurrent`` says: each that waits asks for a node.
        """
        plan = self.plan
        most = self.config.search.max_concurrent
        if most is not None and has_unknown_limits():
            return most
        fit = max(1, most_places(plan.resources) // plan.num_workers)
        return fit if most is None else min(most, fit)

    def most_waiting(self) -> int:
        """How many trials may wait for room at once: as many as fit on nodes to come, of which each asks for its own.

        Where none come, or none more, it is one: a later draw knows more results.
        """
        plan = self.plan
        if has_unknown_limits():
            return self.config.search.max_concurrent or 1
        return max(1, places(nodes_to_come(plan.resources), plan.resources) // plan.num_workers)


def room(config: Config) -> tuple[resources.Worker, int]:
    """What a worker of a trial would have here, and how many trials would run at once on the cluster.

    Raises:
        UserError: no cluster answers at the address that is set, it can never hold the workers of a trial, or a GPU is
            asked for and there is none.
    """
    cluster = config.cluster
    if address_of(cluster):
        with ray_session(cluster):
            plan = plan_trials(config)
            check_capacity(plan.num_workers, plan.resources)
            at_once = Rules(config, Space({}), 0, [], plan).most_at_once()
        device = resources.resolve_device("auto" if plan.use_gpu else "cpu")
        return resources.Worker(device, num_threads=plan.cpus_per_worker), at_once
    device = resources.check_here(cluster)
    num_gpus = torch.cuda.device_count() if device.type == "cuda" else 0
    threads = cluster.cpus_per_worker if cluster.cpus_per_worker != "auto" else 1
    here = {"CPU": float(resources.available_cpus()), "GPU": float(num_gpus)}
    plan = Plan(1, threads, bool(num_gpus), gpus_per_worker=cluster.gpus_per_worker)
    fit = places([here], plan.resources)
    fit = max(1, fit // (1 if cluster.num_workers == "auto" else cluster.num_workers))
    return resources.Worker(device, num_threads=threads), min(fit, config.search.max_concurrent or fit)

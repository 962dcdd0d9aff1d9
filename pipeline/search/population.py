"""What population-based training needs before it starts; neither torch nor Ray is loaded to say what is missing."""

from __future__ import annotations

from pipeline.config import Config, changes
from pipeline.errors import UserError
from pipeline.search.rungs import intervals

NEEDS = "search.scheduler=pbt"


def check_population(config: Config) -> None:
    """Refuse what a population cannot be trained with, before anything starts; other schedulers allow all.

    Raises:
        UserError: naming each searched setting that cannot change in a running model, and what else is wrong.
    """
    if config.search.scheduler != "pbt":
        return
    problems = []
    for path, spec in config.search.space.items():
        if reason := changes.why_fixed(config, path):
            problems.append(f"search.space.{path}: {NEEDS} changes what it searches, and {path} {reason}")
        elif isinstance(spec, dict) and "when" in spec:
            problems.append(f"search.space.{path}: a condition needs settings that stay; {NEEDS} changes them all")
    search = config.search
    if (number := search.num_trials) is not None and number < 2:
        problems.append(f"search.num_trials: {NEEDS} needs a population of at least 2, not {number}")
    if number is None and search.algorithm != "grid" and (search.max_total_tokens or search.max_hours):
        limit = "max_total_tokens" if search.max_total_tokens else "max_hours"
        problems.append(f"search.num_trials: {NEEDS} needs the size of its population, which search.{limit} alone does "
                        "not say")  # fmt: skip
    budget = config.search.max_tokens or config.train.max_tokens
    if budget is not None:
        problems += interval_problems(config, budget)
    if config.train.changes:
        problems.append(f"train.changes: {NEEDS} makes them itself; leave them out")
    if problems:
        raise UserError("\n".join(problems))


def check_interval(config: Config, budget_tokens: int) -> None:
    """Raise ``UserError`` if a population would never be compared, or more often than it is updated."""
    if config.search.scheduler == "pbt" and (problems := interval_problems(config, budget_tokens)):
        raise UserError("\n".join(problems))


def interval_problems(config: Config, budget_tokens: int) -> list[str]:
    """What is wrong with the interval in a search whose trials train on ``budget_tokens`` at most."""
    interval = config.search.perturbation_interval_tokens
    if interval is None:
        return []
    name = "search.perturbation_interval_tokens"
    if interval >= budget_tokens:
        return [f"{name}: {interval:,} is not below the {budget_tokens:,} tokens that a trial trains on"]
    if not intervals(config.search, budget_tokens):
        return [
            f"{name}: {interval:,} leaves less than half an interval of the {budget_tokens:,} tokens that a trial "
            "trains on, so no trial would ever take the checkpoint of another"
        ]
    window = config.train.batch_size * config.train.bptt
    return [f"{name}: {interval:,} is less than the {window:,} tokens of one update"] * (interval < window)

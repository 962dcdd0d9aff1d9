"""What a search would be, without starting it: space, trials, rungs, tokens, and the time that these take."""

from __future__ import annotations

from typing import Any

from pipeline import resources
from pipeline.config import Config
from pipeline.search.estimate import estimated_speed
from pipeline.search.plan import plan_of
from pipeline.search.report import condition, drawn_from
from pipeline.search.space import Space


def preview(
    config: Config, space: Space, *, vocab_size: int, budget_tokens: int, num_concurrent: int, worker: resources.Worker
) -> dict[str, Any]:
    """Figures of the search of ``config`` by name.

    Args:
        budget_tokens: that a trial trains on if nothing stops it.
        num_concurrent: trials that run at once on the cluster.
        worker: what one of them has on this machine, where its speed is measured.

    Raises:
        UserError: a grid over a range without steps, or no draw that can be a trial.
    """
    speed = estimated_speed(config, space, vocab_size=vocab_size, worker=worker)
    plan = plan_of(config.search, space, budget_tokens)
    if plan.hours is not None:
        in_time = max(1, round(plan.hours * 3600 * speed * num_concurrent))
        plan = plan_of(config.search.model_copy(update={"max_total_tokens": in_time}), space, budget_tokens)
    *rungs, _ = plan.levels
    return {
        "space": {
            path: drawn_from(domain) + (f" where {condition(domain).replace('`', '')}" if domain.when else "")
            for path, domain in space.items()
        },
        "trials": plan.num_trials,
        "rungs": [tokens for tokens, _ in rungs],
        "trials_at_rungs": {f"{tokens:,} tokens": round(number, 1) for tokens, number in plan.levels},
        "total_tokens": plan.total_tokens,
        "trials_at_once": num_concurrent,
        "tokens_per_second": round(speed),
        "estimated_seconds": round(plan.total_tokens / speed / num_concurrent, 3),
    }

"""What to expect of a search: how many trials reach each rung, and the tokens of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.config import SearchConfig
from pipeline.search.candidates import DEFAULT_TRIALS
from pipeline.search.confirm import wanted
from pipeline.search.schedulers import scheduler_of
from pipeline.search.schedulers.asha import Hyperband
from pipeline.search.space import Space
from pipeline.search.standing import ENDED, RUNNING, WAITING, Standing


@dataclass(frozen=True)
class SearchPlan:
    """``levels``: (tokens, number of trials that are expected to reach them), the last being the budget of a trial."""

    num_trials: int
    levels: tuple[tuple[int, float], ...]
    total_tokens: int  # including trials that confirm the best
    confirming_tokens: int
    all_go_to_the_end: bool = False  # no trial is left paused
    hours: float | None = None  # that the search lasts, if nothing else says how many trials there are

    def tokens_left(self, standing: Standing) -> int:
        """Tokens that the search will still take: running trials go to their next level, the others as planned."""
        if self.hours is not None:
            return 0  # not known
        budget = self.levels[-1][0]
        confirming = sum(trial.tokens for trial in standing.trials.values() if trial.confirms is not None)
        unbegun = max(0, self.num_trials - len(standing.drawn))
        left = unbegun / self.num_trials * (self.total_tokens - self.confirming_tokens)
        left += max(0, self.confirming_tokens - confirming)
        for trial in standing.drawn:
            if self.all_go_to_the_end and trial.state != ENDED:
                left += max(0, budget - trial.tokens)
            elif trial.state in (RUNNING, WAITING):
                left += next((level for level, _ in self.levels if level > trial.tokens), trial.tokens) - trial.tokens
        return round(left)

    def hours_left(self, standing: Standing, now: float) -> float | None:
        """The part of ``hours`` that is left ``now``, in seconds since 1970; None if the search is not bound by it."""
        if self.hours is None:
            return None
        began = now if standing.sitting_began is None else standing.sitting_began
        return max(0.0, self.hours - (standing.seconds_before + now - began) / 3600)

    def __str__(self) -> str:
        return "; ".join(f"{number:,.0f} at {tokens:,} tokens" for tokens, number in self.levels)


def plan_of(settings: SearchConfig, space: Space, budget_tokens: int) -> SearchPlan:
    """What is expected of a search whose trials train on ``budget_tokens`` if nothing stops them.

    With asha and hyperband one trial in ``reduction_factor`` continues at each rung, with median one in two, with none
    and pbt all. Without ``search.num_trials`` there are as many trials as ``search.max_total_tokens`` has room for, or
    as the grid has points; with only ``search.max_hours``, as many as these allow, of which the plan counts one.
    """
    top, seeds = wanted(settings)
    confirming = top * seeds * budget_tokens
    number = settings.num_trials
    if settings.algorithm == "grid":
        number = min(grid_size(space), number or grid_size(space))
    hours = settings.max_hours if number is None and settings.max_total_tokens is None else None
    if number is None and settings.max_total_tokens is None:
        number = DEFAULT_TRIALS if hours is None else 1
    if number is None or settings.max_total_tokens is not None:
        most = max(0, (settings.max_total_tokens or 0) - confirming)
        number = fitting(settings, budget_tokens, most, at_most=number)
    levels = levels_of(settings, budget_tokens, number)
    to_the_end = settings.scheduler in ("none", "pbt")
    return SearchPlan(number, tuple(levels), tokens_of(levels) + confirming, confirming, to_the_end, hours)


def grid_size(space: Space) -> int:
    """How many points a grid has. Raises ``UserError`` as ``Space.grid``."""
    return sum(1 for _ in space.grid())


def fitting(settings: SearchConfig, budget_tokens: int, most_tokens: int, *, at_most: int | None) -> int:
    """The largest number of trials whose tokens are at most ``most_tokens``; one at least."""
    low, high = 1, at_most or 100_000
    while low < high:
        middle = (low + high + 1) // 2
        if tokens_of(levels_of(settings, budget_tokens, middle)) <= most_tokens:
            low = middle
        else:
            high = middle - 1
    return low


def levels_of(settings: SearchConfig, budget_tokens: int, num_trials: int) -> list[tuple[int, float]]:
    """The rungs and the budget, each with how many of ``num_trials`` trials reach it."""
    scheduler = scheduler_of(settings, budget_tokens)
    levels = [*scheduler.milestones, budget_tokens]
    if settings.scheduler in ("none", "pbt"):
        shares = [1.0] * len(levels)
    elif isinstance(scheduler, Hyperband):
        shares = hyperband_shares(scheduler, settings.reduction_factor, len(levels))
    else:
        factor = 2 if settings.scheduler == "median" else settings.reduction_factor
        shares = [float(factor) ** -place for place in range(len(levels))]
    return [(level, max(1.0, num_trials * share)) for level, share in zip(levels, shares, strict=True)]


def hyperband_shares(scheduler: Hyperband, factor: int, num_levels: int) -> list[float]:
    """The share of all trials that reaches each level: in each bracket, one in ``factor`` from its first rung on."""
    shares = [0.0] * num_levels
    for bracket in scheduler.cycle:
        for level in range(num_levels):
            shares[level] += float(factor) ** -max(0, level - bracket) / len(scheduler.cycle)
    return shares


def tokens_of(levels: Sequence[tuple[int, float]]) -> int:
    """The tokens of all trials that reach these levels."""
    before, total = 0, 0.0
    for tokens, number in levels:
        total += (tokens - before) * number
        before = tokens
    return round(total)

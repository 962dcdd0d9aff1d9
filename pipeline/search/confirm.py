"""Is the winner really the best? ``search.confirm: {top: 3, seeds: 3}`` trains the best few to the end with new seeds.

The trial that is confirmed was chosen for its figure, which is partly luck; the runs with other seeds were not, so
their mean is what such a model can be expected to reach.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf

from pipeline.config import SearchConfig
from pipeline.means import exp, mean_interval
from pipeline.search.standing import DONE, ENDED, LOST, WAITING, Standing, Trial

CONFIRMS = "confirms"


@dataclass(frozen=True)
class Confirmed:
    """The perplexity of one trial's settings over other seeds, and the 95 % interval of the mean (None: one seed).

    It is that of the ``num_seeds`` with which they were trained to the end, infinite without any; with ``num_lost``
    others the run was lost.
    """

    perplexity: float
    num_seeds: int
    low: float | None
    high: float | None
    num_lost: int = 0


def best_first(trials: Iterable[Trial]) -> list[Trial]:
    """The trials that can be the best, by their best loss; of equal ones the earlier first."""
    whole = [trial for trial in trials if trial.is_whole and trial.best_loss < inf]
    return sorted(whole, key=lambda trial: (trial.best_loss, trial.number))


def wanted(settings: SearchConfig) -> tuple[int, int]:
    """How many of the best are confirmed, and with how many seeds each."""
    return (settings.confirm["top"], settings.confirm["seeds"]) if settings.confirm else (0, 0)


def next_trial(settings: SearchConfig, standing: Standing) -> Trial | None:
    """The next trial with another seed: one that was cut off, or else has not begun yet; None if there is none."""
    cut_off = [trial for trial in standing.in_state(WAITING) if trial.confirms is not None]
    if cut_off:
        return min(cut_off, key=lambda trial: (trial.seed_offset, trial.number))
    top, seeds = wanted(settings)
    best = best_first(standing.drawn)[:top]
    for offset in range(1, seeds + 1):
        for trial in best:
            name = f"{trial.number:03d}-seed+{offset}"
            if name not in standing.trials:
                return Trial(
                    name,
                    trial.number,
                    trial.settings,
                    origin=CONFIRMS,
                    confirms=trial.name,
                    seed_offset=offset,
                    details=trial.details,
                )
    return None


def reserved_tokens(settings: SearchConfig, standing: Standing, budget_tokens: int) -> int:
    """Tokens of the confirming trials that have not begun yet, and what is left of those that wait to continue."""
    top, seeds = wanted(settings)
    begun = [trial for trial in standing.trials.values() if trial.confirms is not None]
    left = sum(max(0, budget_tokens - trial.tokens) for trial in begun if trial.state == WAITING)
    return max(0, top * seeds - len(begun)) * budget_tokens + left


def is_left(settings: SearchConfig, standing: Standing) -> bool:
    """Whether the best may still be trained with other seeds, so that their order is not known yet."""
    confirming = [trial for trial in standing.trials.values() if trial.confirms is not None]
    return next_trial(settings, standing) is not None or any(trial.state != ENDED for trial in confirming)


def confirmed(standing: Standing) -> dict[str, Confirmed]:
    """Trial → the figures of its settings with other seeds, if a run with at least one of these is done or lost."""
    losses: dict[str, list[float]] = {}
    for trial in standing.trials.values():
        if trial.confirms is not None and trial.status in (DONE, LOST):
            losses.setdefault(trial.confirms, []).append(trial.best_loss if trial.status == DONE else inf)
    return {name: summary(found) for name, found in losses.items()}


def summary(losses: list[float]) -> Confirmed:
    """The mean of ``losses`` and its interval, as perplexities: they are averaged in nats per token.

    Those that are infinite are of runs that were lost.
    """
    finite = [loss for loss in losses if loss < inf]
    num_lost = len(losses) - len(finite)
    if not finite:
        return Confirmed(inf, 0, None, None, num_lost)
    mean, low, high = mean_interval(finite)
    ends = [None if end is None else exp(end) for end in (low, high)]
    return Confirmed(exp(mean), len(finite), low=ends[0], high=ends[1], num_lost=num_lost)

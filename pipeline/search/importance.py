"""How much each searched setting mattered, by the evaluators of Optuna, with the number of trials that this rests on.

Trials are compared at the highest rung that ``ENOUGH`` of them reached, or else at the lowest. fANOVA (Hutter, Hoos &
Leyton-Brown 2014) and PED-ANOVA (Watanabe, Bansal & Hutter 2023) answer two questions, and may say opposite things
about one search.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.search.parameters import distribution_of, import_optuna, parameter_of
from pipeline.search.space import Space
from pipeline.search.standing import Standing, Trial

FANOVA, PED_ANOVA = "fANOVA", "PED-ANOVA"
LEAST, ENOUGH = 4, 20  # trials that importance needs at all, and for it to be trusted
LEAST_AMONG_BEST, BEST_SHARE = 5, 0.1  # trials that PED-ANOVA calls the best


@dataclass(frozen=True)
class Share:
    """The importance of one setting (all add up to 1), and how many trials have the setting."""

    path: str
    share: float
    num_trials: int


@dataclass(frozen=True)
class Importance:
    """What an evaluator says; ``warning`` says why it is not to be trusted, or why there are no shares."""

    evaluator: str
    meaning: str
    tokens: int  # at which the trials were compared
    num_trials: int
    shares: tuple[Share, ...] = ()  # the most important first
    warning: str = ""


def loss_at(reports: Sequence[Mapping[str, Any]], tokens: int) -> float | None:
    """The best loss of a trial's ``reports`` up to its first at ``tokens`` or later; None if it has none."""
    best = math.inf
    for report in reports:
        best = min(best, report["loss"])
        if report["tokens"] >= tokens:
            return best if math.isfinite(best) else None
    return None


def losses_at(trials: Sequence[Trial], tokens: int) -> dict[str, float]:
    """Trial → its loss at ``tokens``; trials that were lost before that have the worst loss of all.

    Of a population, only what a trial reached with its own settings counts, before it took another's checkpoint.
    """
    losses = {trial.name: loss for trial in trials if (loss := loss_at(trial.by_itself.reports, tokens)) is not None}
    if losses:
        worst = max(losses.values())
        losses |= {trial.name: worst for trial in trials if trial.by_itself.is_lost and trial.name not in losses}
    return losses


def where_compared(trials: Sequence[Trial], levels: Sequence[int]) -> int:
    """The highest of the ``levels`` that ``ENOUGH`` trials reached, else the lowest."""
    for level in sorted(levels, reverse=True):
        if len(losses_at(trials, level)) >= ENOUGH:
            return level
    return min(levels)


def importances(standing: Standing, space: Space, levels: Sequence[int]) -> list[Importance]:
    """What both evaluators say about the trials so far.

    Args:
        levels: the rungs and the budget, in tokens.

    Raises:
        UserError: Optuna is not installed.
    """
    trials = [trial for trial in standing.trials.values() if trial.confirms is None and space.contains(trial.settings)]
    tokens = where_compared(trials, levels)
    losses = losses_at(trials, tokens)
    compared = [(trial.settings, losses[trial.name]) for trial in trials if trial.name in losses]
    best_share = min(0.5, max(BEST_SHARE, LEAST_AMONG_BEST / max(1, len(compared))))
    meanings = {
        FANOVA: "the share of the differences in loss, over the whole space, that the setting explains by itself",
        PED_ANOVA: f"how far the setting decides whether a trial is among the best {best_share:.0%}",
    }
    return [
        importance(evaluator, meaning, space, compared, tokens, best_share) for evaluator, meaning in meanings.items()
    ]


def importance(
    evaluator: str,
    meaning: str,
    space: Space,
    compared: Sequence[tuple[Mapping[str, Any], float]],
    tokens: int,
    best_share: float,
) -> Importance:
    """What ``evaluator`` says about the settings and losses ``compared``. Raises ``UserError`` as ``importances``."""
    number = len(compared)
    if number < LEAST:
        warning = f"it cannot say yet: {number} trials reached {tokens:,} tokens, at least {LEAST} are needed"
        return Importance(evaluator, meaning, tokens, number, warning=warning)
    if min(loss for _, loss in compared) == max(loss for _, loss in compared):
        return Importance(evaluator, meaning, tokens, number, warning="it cannot say: all trials have the same loss")
    shares = evaluate(evaluator, space, compared, best_share)
    few = (
        f"it rests on only {number} trials, and a few more may change the order; {ENOUGH} would be enough"
        if number < ENOUGH
        else ""
    )
    return Importance(evaluator, meaning, tokens, number, tuple(shares), few)


def evaluate(
    evaluator: str, space: Space, compared: Sequence[tuple[Mapping[str, Any], float]], best_share: float
) -> list[Share]:
    """The shares of all settings, the greatest first.

    A conditional setting that the evaluator leaves out is evaluated among the trials that have it.
    """
    found = {
        path: (share, len(compared)) for path, share in optuna_says(evaluator, space, compared, best_share).items()
    }
    for path in space:
        having = [(settings, loss) for settings, loss in compared if path in settings]
        if path not in found and len(having) >= LEAST:
            found[path] = optuna_says(evaluator, space, having, best_share).get(path, 0.0), len(having)
        elif path in found:
            found[path] = found[path][0], len(having)
    shares = [Share(path, *found[path]) for path in space if path in found]
    return sorted(shares, key=lambda share: -share.share)


def optuna_says(
    evaluator: str, space: Space, compared: Sequence[tuple[Mapping[str, Any], float]], best_share: float
) -> dict[str, float]:
    """Setting → importance, adding up to 1; settings that some trials lack may be left out. Raises ``UserError``."""
    optuna = import_optuna()
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for settings, loss in compared:
        parameters = {path: parameter_of(space[path], value) for path, value in settings.items()}
        distributions = {path: distribution_of(space[path]) for path in settings}
        study.add_trial(optuna.trial.create_trial(params=parameters, distributions=distributions, value=loss))
    if evaluator == FANOVA:
        how = optuna.importance.FanovaImportanceEvaluator(seed=0)
    else:
        how = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=best_share)
    found = optuna.importance.get_param_importances(study, evaluator=how)
    return {path: float(share) for path, share in found.items()}

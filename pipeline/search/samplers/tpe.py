"""The tree-structured Parzen estimator of Optuna (Bergstra et al. 2011; Watanabe 2023), by ask and tell.

The study is rebuilt for each draw from the journal, so a draw is a function of the seed, its number and the journal:

    done                          complete, with the best loss of the trial
    paused, stopped, or promoted  pruned at its highest rung, the step being tokens and the value nats per token
    lost                          pruned, with the worst loss of all, at step 0: behind every other
    running below its first rung  running, which the constant liar counts as bad, so that the next goes elsewhere
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator
from typing import Any

from pipeline.config import SearchConfig
from pipeline.errors import UserError
from pipeline.search.parameters import distribution_of, parameter_of, value_of
from pipeline.search.samplers.base import Sampler
from pipeline.search.space import Space, holds
from pipeline.search.standing import DONE, FAILED, LOST, RUNNING, Standing, Trial
from pipeline.seeds import mix

try:
    import optuna
except ImportError:
    raise UserError(
        "search.algorithm: tpe needs Optuna, which is not installed; install recurray[search], or choose random"
    ) from None

# candidates that are drawn where good trials are dense; the most promising is taken. If it is refused, mostly as a
# repetition, it would come again: so each attempt has fewer candidates; in the end settings are drawn at random
NUM_CANDIDATES = (24, 8, 4, 2, 1, 1, 1, 1)
# share of all trials that counts as good: about as many as get beyond the first rung. With Optuna's own tenth, a search
# of a few dozen trials would rely on one or two of them
GOOD_SHARE = 0.25


class Known(optuna.trial.FrozenTrial):
    """A trial that never changes again, so a storage that copies it need not copy its contents.

    That copying would take four fifths of a draw.
    """

    def __deepcopy__(self, memo: dict[int, Any]) -> Known:
        return copy.copy(self)


def known_trial(
    state: optuna.trial.TrialState, value: float | None = None, *, at_steps: dict[int, float] | None = None, **how: Any
) -> Known:
    """What ``optuna.trial.create_trial`` makes, as ``Known``; ``how``: its params and distributions."""
    made = optuna.trial.create_trial(state=state, value=value, intermediate_values=at_steps or {}, **how)
    return Known(
        number=made.number, trial_id=made.number, state=state, value=value, datetime_start=made.datetime_start,
        datetime_complete=made.datetime_complete, intermediate_values=made.intermediate_values,
        user_attrs={}, system_attrs={}, **how,
    )  # fmt: skip


class Tpe(Sampler):
    """``search.startup_trials`` at random, then where the good trials are denser than the bad ones."""

    def __init__(self, settings: SearchConfig, space: Space) -> None:
        super().__init__(settings, space)
        self.distributions = {path: distribution_of(domain) for path, domain in space.items()}
        self.frozen: dict[str, tuple[Any, optuna.trial.FrozenTrial]] = {}  # what was computed, by the trial's name
        optuna.logging.set_verbosity(optuna.logging.WARNING)

    def draws(self, standing: Standing, *, number: int, num_before: int) -> Iterator[dict[str, Any]]:
        import numpy as np

        study = self.study(standing)
        for attempt, num_candidates in enumerate(NUM_CANDIDATES):
            study.sampler = self.estimator(mix(self.settings.seed, number, attempt), num_candidates)
            trial = study.ask()
            yield self.settings_of(trial)
            study.tell(trial, state=optuna.trial.TrialState.FAIL)  # it was refused, which says nothing about its loss
        source = np.random.default_rng([self.settings.seed, number])
        while True:
            yield self.space.draw(source)

    def estimator(self, seed: int, num_candidates: int) -> optuna.samplers.TPESampler:
        """Optuna's estimator for one draw."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            warnings.simplefilter("ignore", FutureWarning)  # gamma leaves with Optuna 6, which pyproject.toml excludes
            return optuna.samplers.TPESampler(
                seed=seed % 2**32,
                n_startup_trials=self.settings.startup_trials,
                n_ei_candidates=num_candidates,
                gamma=num_good,
                multivariate=True,
                group=True,
                constant_liar=True,
            )

    def study(self, standing: Standing) -> optuna.Study:
        """A study of all that is known, for one draw."""
        study = optuna.create_study(direction="minimize")
        drawn = standing.drawn
        worst = max((trial.best_loss for trial in drawn if math.isfinite(trial.best_loss)), default=math.inf)
        for trial in drawn:
            if (known := self.known(trial, worst)) is not None:
                study.add_trial(known)
        return study

    def known(self, trial: Trial, worst: float) -> optuna.trial.FrozenTrial | None:
        """``trial`` as Optuna represents it; None if it says nothing."""
        rung = max((report["rung"] or 0 for report in trial.reports), default=0)
        key = (trial.status, rung, trial.best_loss, worst if trial.status == LOST else None)
        if trial.name not in self.frozen or self.frozen[trial.name][0] != key:
            made = self.freeze(trial, rung, worst)
            if made is None:
                return None
            self.frozen[trial.name] = (key, made)
        return self.frozen[trial.name][1]

    def freeze(self, trial: Trial, rung: int, worst: float) -> optuna.trial.FrozenTrial | None:
        states = optuna.trial.TrialState
        parameters = {
            path: internal
            for path, value in trial.settings.items()
            if path in self.space and (internal := parameter_of(self.space[path], value)) is not None
        }
        how: dict[str, Any] = {
            "params": parameters,
            "distributions": {path: self.distributions[path] for path in parameters},
        }
        if trial.status == FAILED:
            return None
        if trial.status == LOST:
            if not math.isfinite(worst):  # nothing is known that it could be worse than
                return None
            return known_trial(states.PRUNED, worst, at_steps={0: worst}, **how)
        if trial.status == DONE:
            return known_trial(states.COMPLETE, trial.best_loss, **how)
        if not math.isfinite(trial.best_loss) or (trial.status == RUNNING and not rung):
            return known_trial(states.RUNNING, **how) if trial.status == RUNNING else None
        loss = at_rung(trial, rung)
        return known_trial(states.PRUNED, loss, at_steps={rung or trial.tokens: loss}, **how)

    def settings_of(self, trial: optuna.Trial) -> dict[str, Any]:
        """What Optuna suggests, as settings."""
        found: dict[str, Any] = {}
        for path in self.space.parents_first:
            domain = self.space[path]
            if holds(domain.when, found):
                found[path] = value_of(domain, suggested(trial, path, self.distributions[path]))
        return {path: found[path] for path in self.space if path in found}


def num_good(number: int) -> int:
    """How many of ``number`` trials count as good."""
    return math.ceil(GOOD_SHARE * number)


def at_rung(trial: Trial, rung: int) -> float:
    """The best loss of ``trial`` up to its first report at ``rung`` (0: of all its reports)."""
    best = math.inf
    for report in trial.reports:
        best = min(best, report["loss"])
        if rung and report["rung"] == rung:
            break
    return best


def suggested(trial: optuna.Trial, path: str, distribution: Any) -> Any:
    if isinstance(distribution, optuna.distributions.CategoricalDistribution):
        return trial.suggest_categorical(path, distribution.choices)
    how = {"step": distribution.step, "log": distribution.log}
    if isinstance(distribution, optuna.distributions.IntDistribution):
        return trial.suggest_int(path, distribution.low, distribution.high, **how)
    return trial.suggest_float(path, distribution.low, distribution.high, **how)

"""The searches that ``search.py`` replays: ours, and its peers, each asked for trials and told of their losses."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np
from search_grid import BUDGET, POINTS, SPACE

from pipeline import config as configuration
from pipeline.config import SearchConfig
from pipeline.search.actions import Run
from pipeline.search.candidates import Candidates
from pipeline.search.engine import Engine
from pipeline.search.space import Space, check_space

PATHS = list(SPACE)
NUM_TRIALS = int(np.prod([len(values) for values in SPACE.values()]))


class Side(Protocol):
    """A search that is asked for trials and told their losses."""

    def begin(self, free_slots: int) -> tuple[str, tuple[Any, ...], int] | None:
        """The next trial to run: its name, its settings, and how many of ``POINTS`` it has passed; None: wait."""

    def report(self, name: str, tokens: int, loss: float) -> bool:
        """Whether the trial continues after this validation."""

    def end(self, name: str, *, lost: bool) -> None:
        """Note that the trial has reached its end, or a loss that is not finite."""


def grace(factor: int) -> int:
    return BUDGET // factor**2


def space() -> Space:
    if not hasattr(space, "found"):
        config = configuration.with_values(configuration.load(), {"search.space": SPACE})
        space.found = check_space(config)  # type: ignore[attr-defined]
    return space.found  # type: ignore[attr-defined,no-any-return]


class Ours:
    """The engine of ``jobs.search``."""

    def __init__(self, seed: int, factor: int, **settings: Any) -> None:
        how = {"algorithm": "tpe", "scheduler": "asha", "num_trials": NUM_TRIALS, "reduction_factor": factor}
        self.engine = Engine(
            SearchConfig(**{**how, **settings}, seed=seed), space(), BUDGET, candidates=Candidates(), clock=lambda: 0.0
        )

    def begin(self, free_slots: int) -> tuple[str, tuple[Any, ...], int] | None:
        action = self.engine.next_action(free_slots)
        if not isinstance(action, Run):
            return None
        trial = action.trial
        point = sum(point <= trial.tokens for point in POINTS)
        return trial.name, tuple(trial.settings[path] for path in PATHS), point

    def report(self, name: str, tokens: int, loss: float) -> bool:
        decision = self.engine.report(name, tokens=tokens, loss=loss, perplexity=float(np.exp(loss)))
        return decision.kind == "continue"

    def end(self, name: str, *, lost: bool) -> None:
        self.engine.ended(name, "lost" if lost else "done")


class AtRandom:
    """Settings at random, as Ray Tune draws them: repeats are possible."""

    def __init__(self, seed: int) -> None:
        self.source = np.random.default_rng(seed)
        self.number = 0

    def draw(self) -> tuple[str, tuple[Any, ...], int]:
        self.number += 1
        return str(self.number), tuple(space().draw(self.source).values()), 0

    def begin(self, free_slots: int) -> tuple[str, tuple[Any, ...], int] | None:
        return self.draw()

    def report(self, name: str, tokens: int, loss: float) -> bool:
        return True

    def end(self, name: str, *, lost: bool) -> None:
        pass


class RayAsha(AtRandom):
    """Ray's own scheduler."""

    def __init__(self, seed: int, factor: int) -> None:
        from ray.tune.schedulers import ASHAScheduler

        super().__init__(seed)
        self.scheduler = ASHAScheduler(
            time_attr="tokens", metric="loss", mode="min", max_t=BUDGET, grace_period=grace(factor),
            reduction_factor=factor,
        )  # fmt: skip
        self.trials: dict[str, SimpleNamespace] = {}
        self.last: dict[str, dict[str, Any]] = {}

    def begin(self, free_slots: int) -> tuple[str, tuple[Any, ...], int] | None:
        began = self.draw()
        self.trials[began[0]] = SimpleNamespace(trial_id=began[0])
        self.scheduler.on_trial_add(None, self.trials[began[0]])
        return began

    def report(self, name: str, tokens: int, loss: float) -> bool:
        self.last[name] = {"tokens": tokens, "loss": loss}
        action = self.scheduler.on_trial_result(None, self.trials[name], self.last[name])
        if action == self.scheduler.STOP and tokens < BUDGET:
            self.end(name, lost=False)
        return action == self.scheduler.CONTINUE

    def end(self, name: str, *, lost: bool) -> None:
        trial = self.trials.pop(name)
        if lost:
            self.scheduler.on_trial_error(None, trial)
        else:
            self.scheduler.on_trial_complete(None, trial, self.last[name])


class PlainOptuna:
    """Optuna through ask and tell."""

    def __init__(self, seed: int, factor: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.states = optuna.trial.TrialState
        pruner = optuna.pruners.HyperbandPruner(grace(factor), BUDGET, factor)
        sampler = optuna.samplers.TPESampler(seed=seed)
        self.study = optuna.create_study(study_name=str(seed), sampler=sampler, pruner=pruner)
        self.trials: dict[str, Any] = {}
        self.last: dict[str, float] = {}

    def begin(self, free_slots: int) -> tuple[str, tuple[Any, ...], int] | None:
        trial = self.study.ask()
        settings = tuple(trial.suggest_categorical(path, values) for path, values in SPACE.items())
        self.trials[str(trial.number)] = trial
        return str(trial.number), settings, 0

    def report(self, name: str, tokens: int, loss: float) -> bool:
        trial = self.trials[name]
        trial.report(loss, tokens)
        self.last[name] = loss
        if tokens < BUDGET and trial.should_prune():
            self.study.tell(trial, state=self.states.PRUNED)
            return False
        return True

    def end(self, name: str, *, lost: bool) -> None:
        if lost:
            self.study.tell(self.trials[name], state=self.states.FAIL)
        else:
            self.study.tell(self.trials[name], self.last[name])


SIDES: dict[str, Callable[[int, int], Side]] = {
    "ours": lambda seed, factor: Ours(seed, factor),
    "ours-random": lambda seed, factor: Ours(seed, factor, algorithm="random"),
    "ray-asha": RayAsha,
    "optuna": PlainOptuna,
    "random": lambda seed, factor: AtRandom(seed),
}

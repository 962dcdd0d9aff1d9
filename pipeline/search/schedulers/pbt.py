"""Population-based training (Jaderberg et al. 2017): the worse take the models of the better, and settings near theirs.

All trials train side by side and pause at each multiple of ``search.perturbation_interval_tokens`` until every one has
got there. Then each of the worst ``quantile_fraction`` takes the whole checkpoint of one of the best, and continues
with its settings perturbed. So a generation is decided by the results of all at the same tokens, whatever the machine:
it is a function of ``search.seed`` and the journal. One record for each generation says who took what from whom, and
who continues; a trial that was lost is among the worst, and so comes to life again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeline.search.lives import Life
from pipeline.search.perturbation import perturbed_settings
from pipeline.search.schedulers.base import PAUSE, Decision, Scheduler
from pipeline.search.space import Space
from pipeline.search.standing import GENERATION, LOST, PAUSED, Standing, Trial
from pipeline.seeds import mix
from pipeline.training.monitor import Record

EXPLORES = 17  # keeps these draws apart from others of the same seed
# attempts to find settings near a donor's that are allowed, before the donor's own are kept
MOST_PERTURBATIONS = 100


class Pbt(Scheduler):
    """Every trial pauses at each milestone; ``generation`` lets them continue."""

    def at_rung(self, trial: Trial, rung: int) -> Decision:
        return PAUSE

    def generation(
        self, standing: Standing, space: Space, why_not: Callable[[Mapping[str, Any]], str]
    ) -> Record | None:
        """What becomes of all paused trials, now that nothing runs and nothing is left to draw; None: none is paused.

        Args:
            why_not: settings of a trial → why they are not allowed; empty if they are.
        """
        paused = [trial for trial in standing.in_state(PAUSED) if trial.paused_at is not None]
        rung = min((trial.paused_at for trial in paused if trial.paused_at is not None), default=None)
        if rung is None:
            return None
        lost = [trial for trial in standing.drawn if trial.status == LOST]
        ranked = sorted(
            [*(trial for trial in paused if trial.paused_at == rung), *lost],
            key=lambda trial: (loss_of(trial), trial.number),
        )
        exploits = [self.exploit(trial, donor, rung, space, why_not) for trial, donor in self.pairs(ranked, rung)]
        going_on = [trial for trial in ranked if trial.status != LOST] + [
            trial for trial in lost if any(exploit["trial"] == trial.name for exploit in exploits)
        ]
        return {
            "kind": GENERATION,
            "rung": rung,
            "exploits": exploits,
            "promoted": [trial.name for trial in sorted(going_on, key=lambda trial: trial.number)],
        }

    def pairs(self, ranked: Sequence[Trial], rung: int) -> list[tuple[Trial, Trial]]:
        """Who takes from whom: each of the worst from one of the best, drawn at random."""
        number = min(len(ranked) // 2, math.ceil(len(ranked) * self.settings.quantile_fraction))
        best = [trial for trial in ranked[:number] if trial.status != LOST]
        pairs = []
        for trial in ranked[len(ranked) - number :] if best else ():
            donor = best[int(self.source(trial, rung).integers(len(best)))]
            if loss_of(donor) < loss_of(trial):
                pairs.append((trial, donor))
        return pairs

    def source(self, trial: Trial, rung: int, place: int = 0) -> Any:
        """A trial's own random numbers at ``rung``."""
        import numpy as np

        return np.random.default_rng(mix(self.settings.seed, EXPLORES, rung, trial.number, place))

    def exploit(
        self, trial: Trial, donor: Trial, rung: int, space: Space, why_not: Callable[[Mapping[str, Any]], str]
    ) -> Record:
        """The record that ``trial`` continues as ``donor``, with settings near the donor's."""
        now = Life.of(donor).now
        settings = dict(now)
        for attempt in range(1, MOST_PERTURBATIONS + 1):
            source = self.source(trial, rung, attempt)
            near = perturbed_settings(space, now, source, resample_probability=self.settings.resample_probability)
            if not why_not(near):
                settings = near
                break
        losses = {"loss": None if trial.status == LOST else loss_of(trial), "donor_loss": loss_of(donor)}
        return {"trial": trial.name, "donor": donor.name, "tokens": donor.tokens, "settings": settings, **losses}


def loss_of(trial: Trial) -> float:
    """What ``trial`` is compared by: its last validation, which is that at its milestone."""
    return math.inf if trial.status == LOST else trial.reports[-1]["loss"]

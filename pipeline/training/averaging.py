"""Averages of the trained weights, which are scored, sampled and saved in place of these.

exponential (Polyak & Juditsky 1992, as a moving average), tail (the uniform mean from a given epoch on), nonmonotonic
(the same from the first validation that shows no progress: NT-ASGD, Merity et al. 2018, whose updates stay SGD's).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from pipeline.config import OptimizerConfig
from pipeline.model import foreach


class Averaging:
    """Keeps the running mean of ``parameters`` over the updates since it began; ``applied`` puts it into the model."""

    def __init__(self, config: OptimizerConfig, parameters: Iterable[Tensor]) -> None:
        self.config = config
        self.parameters = [parameter.detach() for parameter in parameters]
        self.means: list[Tensor] = []  # empty: not begun
        self.num_updates = 0  # that went into the mean
        self.losses: list[float] = []  # of all validations before the mean began
        self.epoch_ended(0)

    @property
    def begun(self) -> bool:
        return bool(self.means)

    def updated(self) -> None:
        """Add the weights that an update has just made to the mean."""
        self.num_updates += self.begun
        if self.config.average == "exponential":
            # the first few count more, else the initial weights would stay in the mean for long
            decay = min(self.config.average_decay, self.num_updates / (self.num_updates + 9))
            foreach.lerp_(self.means, self.parameters, 1 - decay)
        elif self.begun:
            foreach.lerp_(self.means, self.parameters, 1 / self.num_updates)

    def epoch_ended(self, num_epochs: int) -> None:
        """Begin the mean if it is due after ``num_epochs``: at the start, or where the tail of the run begins."""
        is_due = {"exponential": num_epochs == 0, "tail": num_epochs >= self.config.average_after_epochs}
        if is_due.get(self.config.average, False):
            self._begin()

    def validated(self, loss: float) -> None:
        """Begin the mean if ``loss`` is above the best of all but the last ``average_patience`` validations."""
        if self.config.average != "nonmonotonic" or self.begun:
            return
        earlier = self.losses[: -self.config.average_patience]
        if earlier and loss > min(earlier):
            self._begin()
        self.losses.append(loss)

    def _begin(self) -> None:
        if not self.begun:
            self.means = [parameter.clone() for parameter in self.parameters]
            self.num_updates = 0

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Give the model the averaged weights, if there are any, for as long as the context lasts."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        if not self.begun:
            return
        with torch.no_grad():
            for parameter, mean in zip(self.parameters, self.means, strict=True):
                kept = parameter.clone()
                parameter.copy_(mean)
                mean.copy_(kept)

    def state_dict(self) -> dict[str, Any]:
        return {"means": self.means, "num_updates": self.num_updates, "losses": self.losses}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what ``state_dict`` returned; the model must already have the trained weights of that state.

        If an update is undone, validations and epochs that have ended since are not: losses that were noted stay, and
        a mean that has begun since begins again, with the model's weights.
        """
        means = state["means"] or (self.parameters if self.begun else [])
        self.means, self.num_updates = [mean.clone() for mean in means], state["num_updates"]
        self.losses = max(list(state["losses"]), self.losses, key=len)

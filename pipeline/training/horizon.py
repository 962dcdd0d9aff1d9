"""How long a run is: its settings and what its data holds → the step after which it ends, if not before."""

from __future__ import annotations

import numpy as np

from pipeline.config import TrainConfig
from pipeline.data.windows import TrainingData

# windows of random lengths are counted epoch by epoch up to here; beyond, an epoch counts as the mean of those
COUNTED_EPOCHS = 10_000


def steps_of(epochs: int, data: TrainingData, *, at_most: int | None = None) -> int:
    """Steps of the first ``epochs``, or ``at_most`` where that is less; as quick for a million epochs as for one.

    Where epochs differ in the number of their windows, those after the first ``COUNTED_EPOCHS`` are estimated.
    """
    if not data.epochs_differ:
        steps = epochs * data.num_windows()
        return steps if at_most is None else min(steps, at_most)
    steps, counted = 0, min(epochs, COUNTED_EPOCHS)
    for epoch in range(counted):
        steps += data.num_windows(epoch)
        if at_most is not None and steps >= at_most:
            return at_most
    steps += (epochs - counted) * steps // max(1, counted)
    return steps if at_most is None else min(steps, at_most)


def step_reaching(tokens: int, data: TrainingData, *, at_most: int | None = None) -> int:
    """The first step after which at least ``tokens`` were trained on, or ``at_most`` where that comes before."""
    epochs, rest = divmod(tokens, data.tokens_per_epoch)
    before = steps_of(epochs, data, at_most=at_most)
    if not rest or before == at_most:
        return before
    within = int(np.searchsorted(data.tokens_reached(epochs), rest)) + 1
    return before + within if at_most is None else min(before + within, at_most)


def total_steps(train: TrainConfig, data: TrainingData) -> int:
    """The run's length, and its schedule's horizon: the first of epochs, max_steps and max_tokens."""
    limit = train.max_steps
    if train.max_tokens is not None:
        limit = step_reaching(train.max_tokens, data, at_most=limit)
    return steps_of(train.epochs, data, at_most=limit)


def out_of_patience(train: TrainConfig, num_worse: int) -> bool:
    """Whether a run ends early, after ``num_worse`` validations since its best."""
    return train.patience is not None and num_worse >= train.patience

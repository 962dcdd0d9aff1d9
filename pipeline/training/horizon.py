"""How long a run is: its settings and what its data holds → the step after which it ends, if not before."""

from __future__ import annotations

import numpy as np

from pipeline.config import TrainConfig
from pipeline.data.windows import TrainingData


def step_reaching(tokens: int, data: TrainingData) -> int:
    """The first step after which at least ``tokens`` were trained on; windows may differ in size."""
    epochs, rest = divmod(tokens, data.tokens_per_epoch)
    within = int(np.searchsorted(data.tokens_reached(epochs), rest)) + 1 if rest else 0
    return sum(map(data.num_windows, range(epochs))) + within


def total_steps(train: TrainConfig, data: TrainingData) -> int:
    """The run's length, and its schedule's horizon: the first of epochs, max_steps and max_tokens."""
    limits = [sum(map(data.num_windows, range(train.epochs)))]
    if train.max_steps is not None:
        limits.append(train.max_steps)
    if train.max_tokens is not None:
        limits.append(step_reaching(train.max_tokens, data))
    return min(limits)


def out_of_patience(train: TrainConfig, num_worse: int) -> bool:
    """Whether a run ends early, after ``num_worse`` validations since its best."""
    return train.patience is not None and num_worse >= train.patience

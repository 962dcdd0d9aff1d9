"""How long a run is: its settings and what its data holds → the step after which it ends, if not before.

The settings that a run begins with decide its length in tokens and what the schedule of the learning rate counts. If
``train.changes`` gives it windows of another length, it makes more or fewer updates than the schedule counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from pipeline.config import Config, TrainConfig, changes
from pipeline.data.tokenizer import Ids
from pipeline.data.windows import TrainingData
from pipeline.errors import UserError

# windows of random lengths are counted epoch by epoch up to here; beyond that, an epoch counts as their mean
COUNTED_EPOCHS = 10_000


def steps_of(epochs: int, data: TrainingData, *, at_most: int | None = None) -> int:
    """Steps of the first ``epochs``, or ``at_most`` if that is less; quick even for a million epochs.

    If epochs differ in the number of their windows, those after the first ``COUNTED_EPOCHS`` are estimated.
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
    """The first step after which at least ``tokens`` were trained on, or ``at_most`` if that comes first."""
    epochs, rest = divmod(tokens, data.tokens_per_epoch)
    before = steps_of(epochs, data, at_most=at_most)
    if not rest or before == at_most:
        return before
    within = int(np.searchsorted(data.tokens_reached(epochs), rest)) + 1
    return before + within if at_most is None else min(before + within, at_most)


def steps_within(tokens: int, data: TrainingData) -> int:
    """Whole windows of ``data`` within the first ``tokens``."""
    epochs, rest = divmod(tokens, data.tokens_per_epoch)
    return steps_of(epochs, data) + int(np.searchsorted(data.tokens_reached(epochs), rest, side="right"))


def place_after(step: int, data: TrainingData) -> tuple[int, int]:
    """The epoch after ``step`` windows of ``data``, and how many of its own windows are among them."""
    low, high = 0, 1  # in epochs: the number of whole ones lies between these
    while steps_of(high, data) <= step:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if steps_of(middle, data) <= step else (low, middle)
    return low, step - steps_of(low, data)


def tokens_after(step: int, data: TrainingData) -> int:
    """Tokens trained on after ``step`` windows of ``data``."""
    epoch, windows = place_after(step, data)
    if not windows:
        return epoch * data.tokens_per_epoch
    reached = data.tokens_reached(epoch)
    return epoch * data.tokens_per_epoch + int(reached[min(windows, len(reached)) - 1])


def words_after(step: int, data: TrainingData) -> int:
    """Words read after ``step`` windows of ``data``."""
    assert data.words is not None
    epoch, windows = place_after(step, data)
    ends = data.ends(epoch)
    return data.words.after(epoch, int(ends[min(windows, len(ends)) - 1]) if windows else 0)


def steps_within_words(words: int, data: TrainingData, *, epochs: int) -> int | None:
    """Whole windows within the first ``words``, counted anew in every epoch; None if all ``epochs`` have no more words.

    Raises:
        UserError: not even the first window is within them.
    """
    assert data.words is not None
    per_epoch = data.words.per_epoch
    if words >= epochs * per_epoch:
        return None
    whole, rest = divmod(words, per_epoch)
    at_ends = data.words.reached(whole)[data.ends(whole)]
    steps = steps_of(whole, data) + int(np.searchsorted(at_ends, rest, side="right"))
    if not steps:
        raise UserError(f"train.max_words: {words:,} words are fewer than the {at_ends[0]:,} of the first window")
    return steps


def total_steps(train: TrainConfig, data: TrainingData) -> int:
    """The run's length, and its schedule's horizon: the first of epochs, max_steps, max_tokens and max_words."""
    limit = train.max_steps
    if train.max_words is not None and data.words is not None:
        within = steps_within_words(train.max_words, data, epochs=train.epochs)
        limit = min(filter(None, (limit, within)), default=None)
    if train.max_tokens is not None:
        limit = step_reaching(train.max_tokens, data, at_most=limit)
    return steps_of(train.epochs, data, at_most=limit)


def total_tokens(train: TrainConfig, data: TrainingData) -> int:
    """Tokens of a whole run; of ``max_tokens``, the number itself and not the end of the window that reaches it."""
    tokens = train.epochs * data.tokens_per_epoch
    if train.max_steps is not None or train.max_words is not None:
        tokens = tokens_after(total_steps(train, data), data)
    return min(tokens, train.max_tokens or tokens)


def out_of_patience(train: TrainConfig, num_worse: int) -> bool:
    """Return whether a run ends early, after ``num_worse`` validations since its best."""
    return train.patience is not None and num_worse >= train.patience


@dataclass
class Horizon:
    """How long a run is, and where on its way it is.

    ``total_steps`` updates are made in all; the schedule counts ``schedule_steps`` of the windows of ``first``, the
    data as it is cut before any change of settings.
    """

    total_steps: int
    schedule_steps: int
    first: TrainingData
    counts_updates: bool  # whether the schedule's steps are the updates: no change of window length
    epoch: tuple[int, int, Ids] | None = field(default=None, init=False)  # the last one used: windows before it, tokens

    @classmethod
    def of(cls, config: Config, data_of: Callable[[Config], TrainingData]) -> Horizon:
        """The horizon of a run of ``config``; ``data_of`` returns its data under the settings in force."""
        parts = list(changes.stretches(config))
        first = data_of(parts[0][1])
        schedule_steps = total_steps(config.train, first)
        if len({part.train.bptt for _, part in parts}) == 1:
            return cls(schedule_steps, schedule_steps, first, counts_updates=True)
        tokens, steps, end = 0, 0, tokens_after(schedule_steps, first)
        for index, (_, part) in enumerate(parts):
            until = min(end, parts[index + 1][0]) if index + 1 < len(parts) else end
            if until > tokens:
                data = data_of(part)
                last = step_reaching(until, data)
                steps += last - steps_within(tokens, data)
                tokens = tokens_after(last, data)
        return cls(steps, schedule_steps, first, counts_updates=False)

    def schedule_step(self, *, step: int, tokens: int) -> int:
        """Where the schedule stands after ``step`` updates on ``tokens``."""
        if self.counts_updates:
            return step
        epochs, rest = divmod(tokens, self.first.tokens_per_epoch)
        if self.epoch is None or self.epoch[0] != epochs:
            self.epoch = epochs, steps_of(epochs, self.first), self.first.tokens_reached(epochs)
        _, before, reached = self.epoch
        return before + int(np.searchsorted(reached, rest, side="right"))

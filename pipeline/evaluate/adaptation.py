"""Surprisal before and after a model learns from each sentence (van Schijndel & Linzen 2018, "A Neural Model of
Adaptation in Reading").

Each sentence, or document, is scored, then the weights take one step of dynamic evaluation (``dynamic``) against the
gradient of its mean loss, then it is scored again. What was learnt stays: each sentence is scored by a model that has
learnt from all sentences before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise, tee

import torch
from torch import Tensor

from pipeline.evaluate.dynamic import Learner
from pipeline.evaluate.reading import Reading, Unit
from pipeline.evaluate.type_classes import groups_of_types
from pipeline.evaluate.words import Row, WordBoundary
from pipeline.model.evaluating import evaluating
from pipeline.model.language_model import LanguageModel
from pipeline.model.state import State
from pipeline.options import DynamicSettings
from pipeline.scoring import Scored, score, scored_windows

BEFORE, AFTER = "nats_before_learning", "nats_after_learning"


def adapted_rows(
    model: LanguageModel,
    reading: Reading,
    settings: DynamicSettings,
    rms: list[Tensor] | None = None,
    *,
    unit: Unit = "sentence",
    word_boundary: WordBoundary = "corrected",
) -> tuple[Iterator[Row], Iterator[Row]]:
    """Return the rows of ``Reading.rows`` before and after the model learns from each row's unit; read both in turns.

    Args:
        settings: rate and rule; ``settings.segment`` is not used.
        rms: from ``gradient_rms``, for the rule ``rms``.
        unit: the weights take a step after each of these.
    """
    before, after = tee(_scored_twice(Learner(model, settings, rms), reading, unit))
    return (
        reading.rows((pair[0] for pair in before), word_boundary),
        reading.rows((pair[1] for pair in after), word_boundary),
    )


def _scored_twice(learner: Learner, reading: Reading, unit: Unit) -> Iterator[tuple[Scored, Scored]]:
    """Yield the windows of each unit, scored before and after the weights learn from it."""
    model = learner.model
    groups = groups_of_types(reading.tokenizer, model)
    state: State | None = None
    for start, stop in pairwise(reading.units(unit).tolist()):
        windows = list(reading.windows(start, stop))
        first, before, total, num_tokens = state, [], None, 0
        for window in windows:
            hidden, targets, state, gradients = learner.read(window, state)
            with evaluating(model):
                before.append(score(model, window, hidden, targets, groups))
            number = int((window.targets >= 0).sum())
            weighted = gradients if len(windows) == 1 else [part * number for part in gradients]
            total = weighted if total is None else [a.add_(b) for a, b in zip(total, weighted, strict=True)]
            num_tokens += number
        assert total is not None
        with torch.no_grad():
            if num_tokens:
                learner.learn(total if len(windows) == 1 else [part / num_tokens for part in total])
        yield from zip(before, scored_windows(model, windows, state=first, groups=groups), strict=True)


def with_adaptation(rows: Iterable[Row], before: Iterable[Row], after: Iterable[Row]) -> Iterator[Row]:
    """Yield ``rows`` of a model that does not learn, with the nats of ``adapted_rows`` added to them."""
    for row, one, other in zip(rows, before, after, strict=True):
        row.values |= {BEFORE: one.nats, AFTER: other.nats}
        yield row

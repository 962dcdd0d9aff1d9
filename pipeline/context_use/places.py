"""Which tokens are predicted, and from which rows all of their contexts can be read.

A row is read from a zero state and yields the loss of one token after another, each with a longer context. So
consecutive targets share a row for as long as their contexts have nearly the same length. Letters: N targets, P pairs
of a start and a target.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.data.tokenizer import Ids
from pipeline.errors import UserError

# consecutive targets in each of the stretches, which are spread over the text
STRETCH = 30


@dataclass(frozen=True)
class Pairs:
    """P predictions: each of token ``targets`` after reading the tokens from ``starts`` up to it."""

    starts: Ids  # (P,)
    targets: Ids  # (P,)

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class Targets:
    """Places of predicted tokens, ascending; ``stretch`` is the place of the first target in the same stretch."""

    places: Ids  # (N,)
    stretch: Ids  # (N,)

    def __len__(self) -> int:
        return len(self.places)


def usual_contexts(longest: int) -> list[int]:
    """Return 1, 2, 3, 5, 10, 20, … up to ``longest``, and that itself; from 100 on, also 150, 1,500, …"""
    found = {longest}
    for power in range(len(str(longest))):
        found |= {mantissa * 10**power for mantissa in (1, 2, 3, 5)}
        found |= {15 * 10 ** (power - 1)} if power >= 2 else set()
    return sorted(context for context in found if context <= longest)


def choose_targets(num_tokens: int, number: int, *, before: int) -> Targets:
    """Spread ``number`` targets in stretches over a text of ``num_tokens``, or fewer if it has no more.

    Args:
        before: tokens wanted before each target.

    Raises:
        UserError: the text is not longer than what comes before a target.
    """
    room = num_tokens - before
    if room < 1:
        raise UserError(
            f"{before:,} tokens before a target need a longer text than the {num_tokens:,} tokens there are; ask for "
            "fewer",
            argument="contexts",
        )
    number = min(number, room)
    num_stretches = -(-number // STRETCH)
    bounds = np.arange(num_stretches + 1) * number // num_stretches
    # each stretch begins an equal share of the room, or where the one before ends: both are rounded
    between = np.maximum.accumulate(np.arange(num_stretches) * room // num_stretches - bounds[:-1])
    stretch = np.repeat(before + bounds[:-1] + between, np.diff(bounds))
    return Targets(stretch + np.arange(number) - np.repeat(bounds[:-1], np.diff(bounds)), stretch)


def all_targets(num_tokens: int) -> Targets:
    """Return every token but the first. Raises ``UserError`` if there is no other."""
    if num_tokens < 2:
        raise UserError(f"a text of {num_tokens} tokens has nothing to score; at least 2 are needed")
    places = np.arange(1, num_tokens)
    return Targets(places, (places - 1) // STRETCH * STRETCH + 1)


def after_contexts(targets: Targets, contexts: Sequence[int], *, within: float) -> Pairs:
    """Return every target after each of the contexts, one context after another; none reaches back before the text.

    Args:
        within: a context may be longer by this share, so that targets share rows; 0: each is exact.
    """
    starts = []
    for context in contexts:
        width = 1 + math.floor(within * context)  # targets of one row
        first = targets.places - (targets.places - targets.stretch) % width
        starts.append(np.maximum(0, first - context))
    return Pairs(np.concatenate(starts), np.tile(targets.places, len(contexts)))


def whole_contexts(targets: Targets, *, history: int | None) -> Pairs:
    """Return every target after at least the ``history`` tokens before it; None: after the text from its beginning."""
    starts = np.zeros_like(targets.places) if history is None else np.maximum(0, targets.stretch - history)
    return Pairs(starts, targets.places)

"""Means and intervals of the loss by context, the effective context, and the window length that follows from it.

Letters: N targets, G groups of targets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.data.tokenizer import Ids
from pipeline.means import student_point

Numbers = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Mean:
    """A mean of ``number`` values with its 95 % interval.

    Values of one group follow one another in a text and are not independent, so the interval is computed from sums over
    groups (Liang & Zeger 1986): the variance is G ÷ (G−1) · Σ (sum of a group's values less the mean)² ÷ N², and the
    ends are those of Student's t with G−1 degrees of freedom, since of few groups the variance is hardly known.
    """

    value: float
    low: float
    high: float
    number: int

    @classmethod
    def of(cls, values: Numbers, groups: Ids) -> Mean:
        """Return the mean of (N,) ``values`` in (N,) ``groups``."""
        value = float(values.mean())
        _, index = np.unique(groups, return_inverse=True)
        sums = np.bincount(index, weights=values - value)  # (G,)
        half = math.inf
        if len(sums) > 1:
            error = math.sqrt(len(sums) / (len(sums) - 1) * float((sums**2).sum())) / len(values)
            half = student_point(len(sums) - 1) * error
        return cls(value, value - half, value + half, len(values))


@dataclass(frozen=True)
class Point:
    """The loss with ``context`` tokens of context, in nats, and how much higher it is than with the whole context.

    ``increase`` is the mean of differences, each between both contexts of one target, so its interval is much
    narrower.
    """

    context: int
    nats: Mean
    increase: Mean

    @classmethod
    def of(cls, context: int, nats: Numbers, whole: Numbers, groups: Ids) -> Point:
        """Return the point for (N,) nats with ``context`` tokens and with the whole context."""
        return cls(context, Mean.of(nats, groups), Mean.of(nats - whole, groups))

    def to_json(self) -> dict[str, Any]:
        return {
            "context": self.context,
            "nats": self.nats.value,
            "low": self.nats.low,
            "high": self.nats.high,
            "increase": self.increase.value,
            "increase_low": self.increase.low,
            "increase_high": self.increase.high,
            "targets": self.nats.number,
        }


@dataclass(frozen=True)
class Curve:
    """Points in ascending order of context."""

    points: Sequence[Point]

    def effective(self, share: float, *, bound: str = "value") -> int | None:
        """Return the smallest context from which on perplexity is less than ``share`` above that of the whole one.

        None if the longest context that was measured is too short.

        Args:
            bound: ``value`` of the increase, or ``low`` or ``high``, the ends of its interval.
        """
        most = math.log1p(share)
        found = None
        for point in reversed(self.points):
            if not getattr(point.increase, bound) < most:
                break
            found = point.context
        return found

    def before(self, context: int) -> int:
        """Return the longest measured context below ``context``; 0 if there is none."""
        return max((point.context for point in self.points if point.context < context), default=0)


def recommended_bptt(effective: int | None, horizon: int | None, *, longest: int) -> int:
    """Return the window that the model can use: as far as both context and gradient reach, rounded up.

    Args:
        effective: the effective context; None: more than was measured.
        horizon: the number of steps back at which gradients have vanished; None: not even at the last step, or not
            measured.
        longest: the longest context that was measured.
    """
    reach = min(longest if value is None else value for value in (effective, horizon))
    unit = 1 if reach < 20 else 5 if reach < 100 else 10
    return -(-reach // unit) * unit

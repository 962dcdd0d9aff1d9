"""Is one variant better than another? Questions about each pair, and one answer with Holm's correction.

**Other text**: the two variants' nats of each stretch of the held-out text, averaged over seeds, are exchanged at
random (a paired permutation test, ``pipeline.evaluate.statistics.compare``). **Other seeds**: Student's t of the two
means over seeds, once with the variance of a seed's loss pooled over all variants, once with each one's own (Welch
1947); the larger p-value counts, as variants may scatter unequally. **Both at once**: Student's t of the two errors
added in squares (Satterthwaite 1946), which also gives the interval. The largest p-value counts; a question without
figures is not asked: with a single seed each, only that of the text is. Holm (1979) corrects for the number of pairs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import fmean, variance

import numpy as np

from pipeline.evaluate.breakdown import Numbers
from pipeline.evaluate.statistics import DEVIATIONS, NUM_SAMPLES, compare, holm
from pipeline.means import student_p_value, student_point

LEVEL = 0.05
# each pair gets this many random exchanges times the number of pairs: no p-value is below 1 ÷ these, and Holm's
# correction multiplies it by the number of pairs
EXCHANGES_A_PAIR = 500


@dataclass(frozen=True)
class Sample:
    """The losses of one variant, nats per token by seed, and its mean nats over seeds of each stretch of the text."""

    losses: Sequence[float]
    unit_nats: Numbers | None = None  # (U,); None: there is only the loss
    unit_tokens: Numbers | None = None

    @property
    def loss(self) -> float:
        return fmean(self.losses)


@dataclass(frozen=True)
class Difference:
    """How many nats per token ``second`` needs more than ``first``, which is the better one, and how sure that is."""

    first: str
    second: str
    nats: float
    low: float | None  # of 95 %, for other text and other seeds; None: nothing is known of either
    high: float | None
    p_text: float | None  # None: there was nothing to test
    p_seeds: float | None
    p_both: float | None
    p_value: float
    p_holm: float = 1.0

    @property
    def is_tested(self) -> bool:
        return self.p_text is not None or self.p_seeds is not None

    @property
    def is_significant(self) -> bool:
        return self.p_holm < LEVEL


@dataclass(frozen=True)
class Error:
    """The standard error of a difference, and its degrees of freedom."""

    size: float
    freedom: float

    def and_of(self, other: Error) -> Error:
        """The error of the sum of two independent errors (Satterthwaite 1946)."""
        square, other_square = self.size**2, other.size**2
        freedom = (square + other_square) ** 2 / (square**2 / self.freedom + other_square**2 / other.freedom)
        return Error(math.sqrt(square + other_square), freedom)

    def p_value(self, difference: float) -> float:
        """Student's, two-sided."""
        return student_p_value(difference / self.size, self.freedom)

    @property
    def half(self) -> float:
        """Half of the 95 % interval."""
        return student_point(self.freedom) * self.size


def differences(samples: Mapping[str, Sample]) -> list[Difference]:
    """Every pair of variants, corrected for their number; those with the largest difference first."""
    pairs = list(combinations(samples, 2))
    num_samples = max(NUM_SAMPLES, EXCHANGES_A_PAIR * len(pairs))
    found = [difference(samples, first, second, num_samples=num_samples) for first, second in pairs]
    adjusted = holm([one.p_value for one in found])
    whole = [replace(one, p_holm=p) for one, p in zip(found, adjusted, strict=True)]
    return sorted(whole, key=lambda one: -one.nats)


def difference(samples: Mapping[str, Sample], first: str, second: str, *, num_samples: int = NUM_SAMPLES) -> Difference:
    """One pair, before any correction; the better one first, of equal ones the earlier."""
    if samples[second].loss < samples[first].loss:
        first, second = second, first
    better, worse = samples[first], samples[second]
    nats = worse.loss - better.loss
    of_seeds = errors_of_seeds(samples, better, worse)
    of_both: list[Error] = []
    low = high = p_text = None
    if better.unit_nats is not None and worse.unit_nats is not None and better.unit_tokens is not None:
        found = compare(better.unit_nats, worse.unit_nats, better.unit_tokens, num_samples=num_samples)
        low, high, p_text = found.low, found.high, found.p_value
        of_text = Error((high - low) / (2 * DEVIATIONS), max(1, len(better.unit_tokens) - 1))
        of_both = [of_text.and_of(error) for error in of_seeds]
    if of_seeds:
        half = max(error.half for error in of_both or of_seeds)
        low, high = nats - half, nats + half
    p_seeds = max((error.p_value(nats) for error in of_seeds), default=None)
    p_both = max((error.p_value(nats) for error in of_both), default=None)
    known = [p for p in (p_text, p_seeds, p_both) if p is not None]
    return Difference(first, second, nats, low, high, p_text, p_seeds, p_both, max(known, default=1.0))


def errors_of_seeds(samples: Mapping[str, Sample], better: Sample, worse: Sample) -> list[Error]:
    """The errors of the difference of two means over seeds: with the variance of all variants, and with their own.

    With a single variance for the two, one that scatters ten times as much as the other would be found different from
    an equal one twice as often as it should at a level of 5 %, and four times as often at 1 % (three seeds each). That
    is still done if one of them has a single seed. An error is left out if no losses differ between seeds.
    """
    pair = [better.losses, worse.losses]
    found = [pooled_error([sample.losses for sample in samples.values()], pair)]
    if min(map(len, pair)) > 1:
        one, other = (pooled_error([losses], [losses]) for losses in pair)
        found.append(one.and_of(other) if one and other else one or other)
    else:
        found.append(pooled_error(pair, pair))
    return [error for error in found if error is not None]


def pooled_error(several: Sequence[Sequence[float]], means: Sequence[Sequence[float]]) -> Error | None:
    """The error of a difference (or sum) of ``means`` with the variance within ``several``; None if that is 0."""
    spread, freedom = pooled(several), sum(len(losses) - 1 for losses in several)
    return Error(math.sqrt(spread * sum(1 / len(losses) for losses in means)), freedom) if spread > 0 else None


def pooled(several: Sequence[Sequence[float]]) -> float:
    """The variance within samples, each weighted by its degrees of freedom; 0 where there are none."""
    freedom = sum(len(losses) - 1 for losses in several)
    squares = sum((len(losses) - 1) * variance(losses) for losses in several if len(losses) > 1)
    return squares / freedom if freedom else 0.0


def mean_over_seeds(unit_nats: Sequence[Sequence[float]]) -> Numbers:
    """(U,) nats of each stretch, averaged over seeds."""
    return np.mean(np.array(unit_nats, dtype=np.float64), axis=0)

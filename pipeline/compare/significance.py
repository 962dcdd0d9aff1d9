"""Is one variant better than another? Two questions about each pair, and one answer with Holm's correction.

**Other text**: the two variants' nats of each stretch of the held-out text, averaged over seeds, are exchanged at
random (a paired permutation test, ``pipeline.evaluate.statistics.compare``). **Other seeds**: Student's t of the two
means over seeds, with the variance of a seed's loss pooled over all variants, or the pair's own where that is larger.
The p-value of a pair is the larger of the two, for a difference has to hold for other text and for other seeds; with a
single seed only the first is asked. Holm (1979) corrects for the number of pairs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import fmean, variance

import numpy as np

from pipeline.evaluate.breakdown import Numbers
from pipeline.evaluate.statistics import compare, holm, student_p_value, student_point

LEVEL = 0.05


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
    low: float  # of 95 %: text and seeds, added in squares
    high: float
    p_text: float | None  # None: there was nothing to ask it of
    p_seeds: float | None
    p_value: float
    p_holm: float = 1.0

    @property
    def is_significant(self) -> bool:
        return self.p_holm < LEVEL


def differences(samples: Mapping[str, Sample]) -> list[Difference]:
    """Every pair of variants, corrected for their number; those with the largest difference first."""
    found = [difference(samples, first, second) for first, second in combinations(samples, 2)]
    adjusted = holm([one.p_value for one in found])
    whole = [replace(one, p_holm=p) for one, p in zip(found, adjusted, strict=True)]
    return sorted(whole, key=lambda one: -one.nats)


def difference(samples: Mapping[str, Sample], first: str, second: str) -> Difference:
    """One pair, before any correction; the better one first, of equal ones the earlier."""
    if samples[second].loss < samples[first].loss:
        first, second = second, first
    better, worse = samples[first], samples[second]
    nats = worse.loss - better.loss
    half_seeds, p_seeds = over_seeds(samples, better, worse)
    low, high, p_text = nats, nats, None
    if better.unit_nats is not None and worse.unit_nats is not None and better.unit_tokens is not None:
        found = compare(better.unit_nats, worse.unit_nats, better.unit_tokens)
        low, high, p_text = found.low, found.high, found.p_value
    known = [p for p in (p_text, p_seeds) if p is not None]
    return Difference(
        first,
        second,
        nats,
        nats - math.hypot(nats - low, half_seeds),
        nats + math.hypot(high - nats, half_seeds),
        p_text,
        p_seeds,
        max(known, default=1.0),
    )


def over_seeds(samples: Mapping[str, Sample], better: Sample, worse: Sample) -> tuple[float, float | None]:
    """Half of the 95 % interval of the difference of two means over seeds, and its p-value; 0 and None: of one seed."""
    pair = [better.losses, worse.losses]
    everyone = [sample.losses for sample in samples.values()]
    freedom = sum(len(losses) - 1 for losses in everyone)
    if freedom < 1 or any(len(losses) < 2 for losses in pair):
        return 0.0, None
    error = math.sqrt(max(pooled(everyone), pooled(pair)) * sum(1 / len(losses) for losses in pair))
    if error == 0:
        return 0.0, None  # of equal runs nothing is known
    return student_point(freedom) * error, student_p_value((worse.loss - better.loss) / error, freedom)


def pooled(several: Sequence[Sequence[float]]) -> float:
    """The variance within samples, each weighted by its degrees of freedom."""
    freedom = sum(len(losses) - 1 for losses in several)
    return sum((len(losses) - 1) * variance(losses) for losses in several if len(losses) > 1) / freedom


def mean_over_seeds(unit_nats: Sequence[Sequence[float]]) -> Numbers:
    """(U,) nats of each stretch, averaged over seeds."""
    return np.mean(np.array(unit_nats, dtype=np.float64), axis=0)

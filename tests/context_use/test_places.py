"""Targets, contexts and shared rows; means and intervals by hand."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.context_use import Curve, Point, recommended_bptt
from pipeline.context_use.curve import Mean
from pipeline.context_use.measure import next_context
from pipeline.context_use.places import after_contexts, choose_targets, usual_contexts
from pipeline.context_use.rows import Rows


def test_usual_contexts() -> None:
    assert usual_contexts(300) == [1, 2, 3, 5, 10, 20, 30, 50, 100, 150, 200, 300]
    assert usual_contexts(1) == [1]
    assert usual_contexts(17) == [1, 2, 3, 5, 10, 17]
    assert usual_contexts(2000)[-4:] == [500, 1000, 1500, 2000]


@example(124, 122, 1)
@given(st.integers(2, 5000), st.integers(1, 1200), st.integers(1, 90))
def test_targets_lie_within_the_text_each_once(num_tokens: int, number: int, before: int) -> None:
    if before >= num_tokens:
        return
    targets = choose_targets(num_tokens, number, before=before)
    assert len(targets) == min(number, num_tokens - before)
    assert (np.diff(targets.places) > 0).all()
    assert targets.places[0] == before
    assert targets.places[-1] < num_tokens
    assert (targets.places - targets.stretch < 30).all()


def test_contexts_share_rows() -> None:
    contexts = usual_contexts(300)
    targets = choose_targets(80_000, 1000, before=300)
    assert len(set(targets.stretch)) == 34
    assert targets.places[-1] > 77_000
    pairs = after_contexts(targets, contexts, within=0.1)
    rows = Rows.of(pairs)
    assert len(pairs) == 12_000
    assert rows.num_tokens < sum(contexts) * 1000 / 8
    assert (rows.starts[rows.row] + rows.step == pairs.targets).all()
    assert (rows.step <= rows.lengths[rows.row]).all()
    assert (np.diff(rows.lengths) <= 0).all()
    exact = after_contexts(targets, contexts, within=0)
    assert (exact.targets - exact.starts == np.repeat(contexts, 1000)).all()


def test_intervals_by_hand() -> None:
    alone = Mean.of(np.array([1.0, 2.0, 6.0]), np.arange(3))
    assert alone.value == 3
    # each is its own group: the variance is (4 + 1 + 9) / 2 = 7; of 2 degrees of freedom, 95 % lie within ±4.303
    half = 4.302652729749464 * math.sqrt(7 / 3)
    assert (alone.low, alone.high) == pytest.approx((3 - half, 3 + half))
    together = Mean.of(np.array([1.0, 2.0, 6.0, 3.0]), np.array([4, 4, 9, 9]))
    # sums of differences from the mean, 3: −2 − 1 and 3 + 0, so the variance of the mean is 2 · (9 + 9) / 16
    assert together.high - 3 == pytest.approx(12.706204736174694 * math.sqrt(36 / 16))
    point = Point.of(8, np.array([1.0, 2.0, 6.0]), np.array([0.5, 1.5, 5.0]), np.arange(3))
    assert point.increase.value == pytest.approx(2 / 3)
    assert point.increase.high - point.increase.value == pytest.approx(4.302652729749464 * math.sqrt(1 / 12 / 3))
    assert point.nats.value == 3
    assert Mean.of(np.array([2.0, 3.0]), np.array([7, 7])).high == math.inf


def curve(**increases: float) -> Curve:
    points = []
    for name, value in increases.items():
        points.append(Point(int(name[1:]), Mean(0, 0, 0, 9), Mean(value, value - 0.03, value + 0.003, 9)))
    return Curve(points)


def test_the_effective_context_is_the_first_from_which_the_increase_stays_below_the_share() -> None:
    found = curve(k1=1.0, k5=0.0099, k10=0.02, k20=0.0099, k40=0.001)  # ln 1.01 is 0.00995
    assert found.effective(0.01) == 20
    assert found.effective(0.01, bound="high") == 40
    assert found.effective(0.01, bound="low") == 5
    assert found.effective(0.03) == 5
    assert found.effective(0.0001) is None
    assert found.before(20) == 10
    assert found.before(1) == 0


def test_the_next_context_halves_the_range_of_the_effective_context() -> None:
    assert next_context(curve(k4=1.0, k40=0.0), 0.01) == 13  # √160 is 12.6
    assert next_context(curve(k4=1.0, k13=0.5, k40=0.0), 0.01) == 23
    assert next_context(curve(k4=1.0, k13=0.5, k23=0.0, k40=0.0), 0.01) == 17
    assert next_context(curve(k20=1.0, k23=0.0, k40=0.0), 0.01) == 21
    assert next_context(curve(k20=1.0, k22=0.0, k40=0.0), 0.01) is None  # 10 % apart
    assert next_context(curve(k1=1.0, k2=0.0), 0.01) is None
    assert next_context(curve(k1=0.0, k2=0.0), 0.01) is None
    assert next_context(curve(k1=1.0, k2=1.0), 0.01) is None


def test_the_recommended_window() -> None:
    assert recommended_bptt(62, 46, longest=300) == 50
    assert recommended_bptt(62, None, longest=300) == 65
    assert recommended_bptt(None, 201, longest=300) == 210
    assert recommended_bptt(None, None, longest=300) == 300
    assert recommended_bptt(7, 46, longest=300) == 7

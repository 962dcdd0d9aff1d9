"""Tests of pairs: Holm and Student by hand, and differences that were put there."""

import numpy as np
import pytest

from pipeline.compare.significance import Sample, difference, differences
from pipeline.evaluate.statistics import holm, student_p_value, student_point
from tests.compare.figures import findings, three_rows


def test_holm_by_hand() -> None:
    # sorted: 0.01 · 4, 0.02 · 3, 0.03 · 2, 0.04 · 1, none below the one before it
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.6]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


@pytest.mark.parametrize(
    ("t", "freedom", "p_value"),
    # of tables; with 1 degree of freedom 1 − 2/π · arctan t, with 2 1 − t/√(t² + 2)
    [(12.7062, 1, 0.05), (4.30265, 2, 0.05), (2.77645, 4, 0.05), (2.14479, 14, 0.05), (63.6567, 1, 0.01),
     (1.0, 1, 0.5), (0.0, 3, 1.0), (2.0, 2, 1 - 2 / 6**0.5), (-2.0, 2, 1 - 2 / 6**0.5), (1.962339, 1_000, 0.05)],
)  # fmt: skip
def test_students_t_is_that_of_the_tables(t: float, freedom: int, p_value: float) -> None:
    assert student_p_value(t, freedom) == pytest.approx(p_value, abs=2e-6)


def test_the_point_is_the_one_of_the_tables() -> None:
    assert [student_point(freedom) for freedom in (1, 2, 6)] == pytest.approx([12.7062, 4.30265, 2.44691], abs=1e-4)


def sample(loss: float, spread: float, *, seed: int = 1) -> Sample:
    source = np.random.default_rng(seed)
    tokens = np.full(40, 50.0)
    losses = [loss - spread, loss, loss + spread]
    return Sample(losses, loss * tokens + source.normal(0, 1, 40), tokens)


def test_a_difference_of_seeds_by_hand() -> None:
    """Two pairs of means over three seeds: t = 0.1 / √(s² · 2/3), s² the pooled variance of all variants."""
    samples = {"a": Sample([1.0, 1.1, 1.2]), "b": Sample([1.1, 1.2, 1.3]), "c": Sample([2.0, 2.3, 2.6])}
    found = difference(samples, "b", "a")
    pooled = (0.01 + 0.01 + 0.09) / 3
    assert (found.first, found.second, found.p_text) == ("a", "b", None)
    assert found.nats == pytest.approx(0.1)
    assert found.p_value == pytest.approx(student_p_value(0.1 / (pooled * 2 / 3) ** 0.5, 6))
    # of a pair that scatters more than the others do, its own variance counts
    found = difference({"a": Sample([1.0, 1.0, 1.0001]), "b": Sample([1.0, 1.0001, 1.0]), "c": samples["c"]}, "a", "c")
    assert found.p_value == pytest.approx(student_p_value(found.nats / (0.045 * 2 / 3) ** 0.5, 6), rel=1e-3)


def test_both_other_text_and_other_seeds_are_asked() -> None:
    sure, unsure_seed = sample(1.0, 0.001), sample(1.05, 0.2)
    found = difference({"a": sure, "b": unsure_seed}, "a", "b")
    assert found.p_text is not None
    assert found.p_text < 0.01 < 0.2 < found.p_value
    assert found.low < 0 < found.high
    found = difference({"a": sure, "b": sample(1.05, 0.001)}, "a", "b")
    assert found.p_value < 0.01
    assert 0 < found.low < found.nats < found.high
    # the text says nothing where half of it goes the other way
    half = Sample(sure.losses, sure.unit_nats, sure.unit_tokens)
    assert half.unit_nats is not None
    moved = half.unit_nats + np.where(np.arange(40) % 2, 5.0, -4.9)
    found = difference(
        {"a": sure, "b": Sample([loss + 0.01 for loss in sure.losses], moved, sure.unit_tokens)}, "a", "b"
    )
    assert found.p_text is not None
    assert found.p_value == found.p_text > 0.5


def test_a_single_seed_leaves_the_text() -> None:
    one, other = sample(1.0, 0.0), sample(1.05, 0.0)
    found = difference(
        {"a": Sample([1.0], one.unit_nats, one.unit_tokens), "b": Sample([1.05], other.unit_nats, one.unit_tokens)},
        "a", "b",
    )  # fmt: skip
    assert found.p_seeds is None
    assert found.p_value == found.p_text


def test_all_pairs_are_corrected() -> None:
    samples = {"a": sample(1.0, 0.002), "b": sample(1.0003, 0.002, seed=2), "c": sample(1.2, 0.002, seed=3)}
    found = {(one.first, one.second): one for one in differences(samples)}
    assert list(found) == [("a", "c"), ("b", "c"), ("a", "b")]
    assert [one.is_significant for one in found.values()] == [True, True, False]
    assert found["a", "c"].p_holm == pytest.approx(3 * min(one.p_value for one in found.values()), rel=1e-9)
    assert found["a", "b"].p_holm >= found["a", "b"].p_value


def test_planted_rows_are_tested_as_they_are() -> None:
    main = findings(three_rows()).main
    assert [row.name for row in main.rows] == ["lstm", "gru", "attends"]
    assert {(pair.first, pair.second): pair.is_significant for pair in main.pairs} == {
        ("lstm", "attends"): True, ("gru", "attends"): True, ("lstm", "gru"): False,
    }  # fmt: skip
    # the quickest, the GRU, takes 50 s; the others are then at half of their tokens, 0.2 nats above their end
    assert main.seconds == pytest.approx(50)
    assert main.at_time == pytest.approx({"lstm": 1.7, "gru": 1.5005, "attends": 1.8})

"""Tests of pairs: Holm and Student by hand, and planted differences."""

import numpy as np
import pytest

from pipeline.compare.significance import Sample, difference, differences
from pipeline.evaluate.statistics import holm
from pipeline.means import student_p_value
from tests.compare.figures import findings, three_rows


def test_holm_by_hand() -> None:
    # sorted: 0.01 · 4, 0.02 · 3, 0.03 · 2, 0.04 · 1, but none below the previous one
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.6]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def sample(loss: float, spread: float, *, seed: int = 1) -> Sample:
    source = np.random.default_rng(seed)
    tokens = np.full(40, 50.0)
    losses = [loss - spread, loss, loss + spread]
    return Sample(losses, loss * tokens + source.normal(0, 1, 40), tokens)


def test_a_difference_of_seeds_by_hand() -> None:
    """Means over three seeds: t = 0.1 ÷ √(s² · 2/3), with s² from all variants (0.11 ÷ 3) or from the pair (0.01)."""
    samples = {"a": Sample([1.0, 1.1, 1.2]), "b": Sample([1.1, 1.2, 1.3]), "c": Sample([2.0, 2.3, 2.6])}
    found = difference(samples, "b", "a")
    pooled = (0.01 + 0.01 + 0.09) / 3
    assert (found.first, found.second, found.p_text, found.p_both) == ("a", "b", None, None)
    assert found.nats == pytest.approx(0.1)
    of_all, of_pair = (0.1 / (variance * 2 / 3) ** 0.5 for variance in (pooled, 0.01))
    assert student_p_value(of_all, 6) > student_p_value(of_pair, 4)
    assert found.p_value == found.p_seeds == pytest.approx(student_p_value(of_all, 6))
    assert found.high is not None
    assert found.high - 0.1 == pytest.approx(2.44691 * (pooled * 2 / 3) ** 0.5, rel=1e-5)


def test_a_pair_that_scatters_more_than_others_has_its_own_variance() -> None:
    """Its variances are 0 and 0.04, with two degrees of freedom; that of all seven variants would be too small."""
    quiet = {name: Sample([5.0, 5.0, 5.0 + 1e-9]) for name in "cdefg"}
    found = difference({"a": Sample([1.0, 1.0, 1.0]), "b": Sample([1.2, 1.4, 1.6]), **quiet}, "a", "b")
    error = (0.04 / 3) ** 0.5
    assert found.p_value == pytest.approx(student_p_value(0.4 / error, 2), rel=1e-5)
    assert found.low is not None
    assert found.low == pytest.approx(0.4 - 4.302653 * error, rel=1e-5)
    assert 0.05 < found.p_value < 0.1  # with 4 degrees of freedom it would be 0.026, with 14 0.0036


def test_two_variants_that_scatter_unequally_have_the_p_value_of_welch() -> None:
    """An example of Welch's test: scipy.stats.ttest_ind(..., equal_var=False) of scipy 1.17.1 says the same."""
    first, second = [1.0, 1.02, 0.99], [1.3, 1.1, 1.5, 1.2]
    found = difference({"a": Sample(first), "b": Sample(second)}, "a", "b")
    assert found.p_seeds == pytest.approx(0.049247123717, rel=1e-6)


def test_a_variant_of_one_seed_is_tested_with_the_variance_of_the_others() -> None:
    """If a variant's other seeds were lost, its error is √(s² · (1 + 1/3)), with s² from the variants with several."""
    samples = {"a": Sample([1.0, 1.1, 1.2]), "b": Sample([1.4]), "c": Sample([2.0, 2.1, 2.2])}
    found = difference(samples, "a", "b")
    assert found.p_seeds == pytest.approx(student_p_value(0.3 / (0.01 * 4 / 3) ** 0.5, 2))
    assert not difference({"a": Sample([1.0]), "b": Sample([1.4])}, "a", "b").is_tested


def test_a_difference_has_to_hold_for_text_and_seeds_at_once() -> None:
    """The two errors are added in squares, for the interval and for its p-value, so that they agree."""
    tokens, noise = np.full(400, 100.0), np.random.default_rng(1).normal(0, 10, 400)
    first = Sample([1.0, 1.02, 0.98, 1.03, 0.97], 100 + np.zeros(400), tokens)
    second = Sample([loss + 0.03 for loss in first.losses], 103 + 3 * noise - 3 * noise.mean(), tokens)
    found = difference({"a": first, "b": second}, "a", "b")
    assert found.nats == pytest.approx(0.03)
    assert found.p_text is not None
    assert found.p_seeds is not None
    assert found.low is not None
    of_text, of_seeds = 0.03 * noise.std() / 400**0.5, (0.00065 * 2 / 5) ** 0.5
    both = (of_text**2 + of_seeds**2) ** 0.5
    freedom = both**4 / (of_text**4 / 399 + of_seeds**4 / 8)
    assert found.p_both == pytest.approx(student_p_value(0.03 / both, freedom), rel=0.1)
    assert found.p_value == found.p_both > max(found.p_text, found.p_seeds)
    assert (found.low > 0) == (found.p_both < 0.05)


def test_many_pairs_can_be_significant() -> None:
    """With 105 pairs, 2,000 exchanges give no p-value below 105 ÷ 2,001; 500 per pair suffice for any number."""
    samples = {f"v{number}": sample(1.0 + number, 0.001, seed=number) for number in range(15)}
    found = differences(samples)
    assert [one.p_text for one in found] == [pytest.approx(1 / (500 * 105 + 1))] * 105
    assert all(one.is_significant for one in found)


def test_a_difference_must_hold_for_other_text_and_for_other_seeds() -> None:
    sure, unsure_seed = sample(1.0, 0.001), sample(1.05, 0.2)
    found = difference({"a": sure, "b": unsure_seed}, "a", "b")
    assert found.p_text is not None
    assert found.p_text < 0.01 < 0.2 < found.p_value
    assert found.low is not None
    assert found.low < 0
    found = difference({"a": sure, "b": sample(1.05, 0.001)}, "a", "b")
    assert found.p_value < 0.01
    assert found.low is not None
    assert 0 < found.low < found.nats
    # the text gives no evidence if half of it goes the other way
    half = Sample(sure.losses, sure.unit_nats, sure.unit_tokens)
    assert half.unit_nats is not None
    moved = half.unit_nats + np.where(np.arange(40) % 2, 5.0, -4.9)
    found = difference(
        {"a": sure, "b": Sample([loss + 0.01 for loss in sure.losses], moved, sure.unit_tokens)}, "a", "b"
    )
    assert found.p_text is not None
    assert found.p_value >= found.p_text > 0.5


def test_with_a_single_seed_only_the_text_is_tested() -> None:
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


def test_planted_differences_are_found() -> None:
    main = findings(three_rows()).main
    assert [row.name for row in main.rows] == ["lstm", "gru", "attends"]
    assert {(pair.first, pair.second): pair.is_significant for pair in main.pairs} == {
        ("lstm", "attends"): True, ("gru", "attends"): True, ("lstm", "gru"): False,
    }  # fmt: skip
    # the quickest, the GRU, takes 50 s; by then the others have half of their tokens, 0.2 nats above their end
    assert main.seconds == pytest.approx(50)
    assert main.at_time == pytest.approx({"lstm": 1.7, "gru": 1.5005, "attends": 1.8})

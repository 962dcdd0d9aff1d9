"""The mean of several runs, and its interval by Student's t."""

import math

import pytest

from pipeline.means import exp, mean_interval, student

# the 97.5 % points of published tables (NIST/SEMATECH e-Handbook 1.3.6.7.2)
TABLE = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 9: 2.262, 10: 2.228, 30: 2.042, 99: 1.984, 100: 1.984}


@pytest.mark.parametrize("degrees", TABLE)
def test_points_of_student_s_distribution(degrees: int) -> None:
    assert student(degrees) == pytest.approx(TABLE[degrees], abs=5e-4)


def test_points_with_a_closed_form() -> None:
    assert student(1) == pytest.approx(math.tan(0.475 * math.pi), rel=1e-12)  # Cauchy's distribution
    assert student(2) == pytest.approx(0.95 * math.sqrt(2 / (1 - 0.95**2)), rel=1e-12)
    assert student(10_000) == pytest.approx(1.959964, rel=2e-4)  # nearly normal


def test_the_interval_of_a_mean_by_hand() -> None:
    # mean 2, standard deviation 1, so 2 ± 4.302653 / √3
    assert mean_interval([1.0, 2.0, 3.0]) == pytest.approx((2.0, 2 - 2.484138, 2 + 2.484138), rel=1e-6)
    assert mean_interval([5.0, 5.0]) == (5.0, 5.0, 5.0)
    assert mean_interval([5.0]) == (5.0, None, None)


def test_the_perplexity_of_a_loss_is_infinite_if_no_number_holds_it() -> None:
    assert exp(0.0) == 1.0
    assert exp(699.0) == pytest.approx(math.exp(699.0))
    assert exp(710.0) == math.inf

"""The mean of several runs, its interval by Student's t, and p-values of his distribution."""

import math

import pytest

from pipeline.means import exp, mean_interval, student_p_value, student_point

# the 97.5 % points of published tables (NIST/SEMATECH e-Handbook 1.3.6.7.2)
TABLE = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 9: 2.262, 10: 2.228, 30: 2.042, 99: 1.984, 100: 1.984}


@pytest.mark.parametrize("degrees", TABLE)
def test_points_of_student_s_distribution(degrees: int) -> None:
    assert student_point(degrees) == pytest.approx(TABLE[degrees], abs=5e-4)


def test_points_with_a_closed_form() -> None:
    assert student_point(1) == pytest.approx(math.tan(0.475 * math.pi), rel=1e-12)  # Cauchy's distribution
    assert student_point(2) == pytest.approx(0.95 * math.sqrt(2 / (1 - 0.95**2)), rel=1e-12)
    assert student_point(10_000) == pytest.approx(1.959964, rel=2e-4)  # nearly normal


@pytest.mark.parametrize(
    ("t", "freedom", "p_value"),
    # from tables; with 1 degree of freedom 2/π · arctan 1/t, with 2 degrees 1 − t/√(t² + 2)
    [(2.77645, 4, 0.05), (2.14479, 14, 0.05), (1.962339, 1_000, 0.05), (0.0, 3, 1.0)],
)
def test_student_s_p_values_are_those_of_tables(t: float, freedom: float, p_value: float) -> None:
    assert student_p_value(t, freedom) == student_p_value(-t, freedom) == pytest.approx(p_value, abs=2e-6)


@pytest.mark.parametrize("t", [1e-3, 0.1, 1.0, 3.0, 40.0, 1e6])
def test_p_values_with_a_closed_form_are_exact_however_small(t: float) -> None:
    assert student_p_value(t, 1) == pytest.approx(2 / math.pi * math.atan(1 / t), rel=1e-12)
    root = math.sqrt(t * t + 2)
    assert student_p_value(t, 2) == pytest.approx(2 / (root * (root + t)), rel=1e-12)


@pytest.mark.parametrize("freedom", [0.9, 1.37, 2.5, 7.1, 1e5])
def test_the_point_of_any_number_of_degrees_of_freedom_has_its_p_value(freedom: float) -> None:
    assert student_p_value(student_point(freedom), freedom) == pytest.approx(0.05, rel=1e-9)


def test_the_interval_of_a_mean_by_hand() -> None:
    # mean 2, standard deviation 1, so 2 ± 4.302653 / √3
    assert mean_interval([1.0, 2.0, 3.0]) == pytest.approx((2.0, 2 - 2.484138, 2 + 2.484138), rel=1e-6)
    assert mean_interval([5.0, 5.0]) == (5.0, 5.0, 5.0)
    assert mean_interval([5.0]) == (5.0, None, None)


def test_the_perplexity_of_a_loss_is_infinite_if_no_number_holds_it() -> None:
    assert exp(0.0) == 1.0
    assert exp(699.0) == pytest.approx(math.exp(699.0))
    assert exp(710.0) == math.inf

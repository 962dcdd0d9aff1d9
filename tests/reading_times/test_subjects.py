"""Readings by subject at the limits of a mixed model: subjects that do not differ, few words, equal surprisal."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.errors import UserError
from pipeline.reading_times.predictors import Observations
from pipeline.reading_times.regression import explained
from tests.reading_times.test_regression import NUM_WORDS, some_data


def rows_of(data: Observations, rows: np.ndarray) -> Observations:
    """Some of the readings."""
    assert data.subjects is not None
    return replace(
        data,
        times=data.times[rows],
        items=data.items[rows],
        num_items=len(set(data.items[rows].tolist())),
        baseline={name: values[rows] for name, values in data.baseline.items()},
        surprisal={name: values[rows] for name, values in data.surprisal.items()},
        subjects=[data.subjects[row] for row in rows],
    )


@pytest.mark.parametrize("num_subjects", [1, 4])
def test_subjects_that_do_not_differ_are_those_of_least_squares(num_subjects: int) -> None:
    """A single one, or times from which each subject's mean was taken: the variance of intercepts is found to be 0."""
    data = some_data(num_subjects=num_subjects)
    assert data.subjects is not None
    names = np.array(data.subjects)
    means = {name: data.times[names == name].mean() for name in set(data.subjects)}
    data = replace(data, times=data.times - np.array([means[name] for name in data.subjects]))
    mixed, plain = (explained(each, num_folds=2)["true"] for each in (data, replace(data, subjects=None)))
    assert mixed.delta == pytest.approx(plain.delta, abs=1e-4)
    assert mixed.delta_fitted == pytest.approx(plain.delta_fitted, abs=1e-4)
    assert mixed.slopes == pytest.approx(plain.slopes, rel=1e-2, abs=1e-2)
    assert mixed.slope_errors == pytest.approx(plain.slope_errors, rel=0.02)


@pytest.mark.parametrize("number", [2, 5])
def test_few_words_are_too_few_however_many_subjects_read_them(number: int) -> None:
    """Of two items one is held out: the other's words must be more than the coefficients, six with surprisal."""
    data = some_data(num_subjects=20)
    words = np.arange(len(data)) % (12 * NUM_WORDS)
    few = rows_of(data, np.flatnonzero((words < 2 * NUM_WORDS) & (words % NUM_WORDS < number)))
    sentence = rf"^the words of {20 * number} times are too few, or too alike, for a regression of [36] coefficients"
    with pytest.raises(UserError, match=sentence):
        explained(few)


def test_a_model_for_which_all_words_are_alike_is_refused() -> None:
    """The deviation of many equal numbers is not always 0: their mean is rounded."""
    data = some_data()
    alike = {"uniform": np.full((len(data), 3), 0.1)}
    assert (alike["uniform"].std(axis=0) > 0).all()
    with pytest.raises(UserError, match=r"^uniform: every word has the same surprisal, which can explain nothing$"):
        explained(replace(data, surprisal=alike))

"""Likelihoods against least squares in closed form, folds, permutations by hand, and the whole command."""

import itertools
import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jobs import reading
from jobs.shared.cli import run_job
from pipeline.errors import UserError
from pipeline.reading_times.curve import curve_of, half_interval, natural_spline
from pipeline.reading_times.predictors import Observations
from pipeline.reading_times.regression import (
    LN_2,
    Regression,
    cross_validated,
    design,
    error_over_items,
    explained,
    folds_of,
    permutation_p,
)

NUM_ITEMS, NUM_WORDS = 12, 40


def some_data(*, slope: float = 8.0, curved: float = 0.0, num_subjects: int = 0, seed: int = 1) -> Observations:
    """Reading times of words in items, with ``slope`` per nat of surprisal, by subjects of different speed if any."""
    source = np.random.default_rng(seed)
    num_words = NUM_ITEMS * NUM_WORDS
    nats = source.gamma(2.0, 2.0, size=(num_words, 3))
    other = source.gamma(2.0, 2.0, size=(num_words, 3))
    length = source.integers(1, 10, size=num_words).astype(float)
    frequency = source.normal(8, 2, size=num_words)
    times = 300 + slope * nats[:, 0] + 3 * nats[:, 1] + curved * nats[:, 0] ** 2 + 4 * length - 2 * frequency
    items = np.repeat(np.arange(NUM_ITEMS), NUM_WORDS)
    subjects, repeats = None, np.arange(num_words)
    if num_subjects:
        repeats = np.tile(repeats, num_subjects)
        names = np.repeat(np.arange(num_subjects), num_words)
        times = times[repeats] + source.normal(0, 60, size=num_subjects)[names]
        subjects = [f"s{name}" for name in names]
    times = times + source.normal(0, 25, size=len(times))
    baseline = {"length": length[repeats], "log_frequency": frequency[repeats]}
    surprisal = {"true": nats[repeats], "noise": other[repeats]}
    return Observations(times, items[repeats], NUM_ITEMS, baseline, surprisal, subjects, {})


def closed_form(columns: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, float]:
    """The coefficients and the most likely variance, from the normal equations."""
    coefficients = np.linalg.solve(columns.T @ columns, columns.T @ times)
    return coefficients, float(((times - columns @ coefficients) ** 2).mean())


def log_density(times: np.ndarray, means: np.ndarray, variance: float) -> np.ndarray:
    return -0.5 * np.log(2 * np.pi * variance) - (times - means) ** 2 / (2 * variance)


def test_least_squares_equals_the_closed_form() -> None:
    data = some_data()
    # columns as they are, not standardised to mean 0 and deviation 1
    base = np.column_stack([np.ones(len(data)), *data.baseline.values()])
    full = np.column_stack([base, data.surprisal["true"]])
    found = explained(data, num_folds=5, seed=3)["true"]
    sums, held_out = [], []
    folds = folds_of(data.items, num_folds=5, seed=3)
    for columns in (base, full):
        coefficients, variance = closed_form(columns, data.times)
        sums.append(log_density(data.times, columns @ coefficients, variance).sum())
        each = np.empty(len(data))
        for fold in range(5):
            inside = folds == fold
            coefficients_of_rest, variance_of_rest = closed_form(columns[~inside], data.times[~inside])
            each[inside] = log_density(data.times[inside], columns[inside] @ coefficients_of_rest, variance_of_rest)
        held_out.append(each)
    assert found.delta_fitted == pytest.approx((sums[1] - sums[0]) / len(data), abs=1e-8)
    assert found.chi_square == pytest.approx(2 * (sums[1] - sums[0]), rel=1e-8)
    assert np.abs(found.held_out - held_out[1]).max() < 1e-8
    assert found.delta == pytest.approx((held_out[1] - held_out[0]).mean(), abs=1e-8)
    assert np.array(found.slopes) == pytest.approx(coefficients[-3:] * LN_2, rel=1e-8)
    residuals = data.times - full @ coefficients
    covariance = (residuals @ residuals) / (len(data) - full.shape[1]) * np.linalg.inv(full.T @ full)
    assert np.array(found.slope_errors) == pytest.approx(np.sqrt(np.diag(covariance))[-3:] * LN_2, rel=1e-8)


def test_a_column_that_explains_times_is_told_from_noise() -> None:
    data = some_data()
    found = explained(data)
    assert found["true"].delta > 0.1
    assert found["true"].p_value < 0.01
    assert found["true"].slopes[0] == pytest.approx(8 * LN_2, abs=3 * found["true"].slope_errors[0])
    assert abs(found["noise"].delta) < 0.02
    assert found["noise"].chi_square_p > 0.001


def test_surprisal_in_bits_explains_the_same_as_in_nats() -> None:
    data = some_data(num_subjects=4)
    bits = {name: nats / LN_2 for name, nats in data.surprisal.items()}
    in_bits = Observations(**{**vars(data), "surprisal": bits})
    a, b = explained(data)["true"], explained(in_bits)["true"]
    assert a.delta == pytest.approx(b.delta, abs=1e-9)
    assert a.delta_fitted == pytest.approx(b.delta_fitted, abs=1e-9)


@pytest.mark.parametrize("num_subjects", [0, 3])
def test_a_baseline_that_is_the_same_for_every_word_changes_nothing(num_subjects: int) -> None:
    data = some_data(num_subjects=num_subjects)
    more = replace(data, baseline={**data.baseline, "constant": np.full(len(data), 0.1)})
    plain, same = explained(data, num_folds=2)["true"], explained(more, num_folds=2)["true"]
    assert same.figures() == plain.figures()


def test_times_that_are_all_the_same_are_refused() -> None:
    data = some_data()
    with pytest.raises(UserError, match=r"^every time is 250, so there is nothing to explain$"):
        explained(replace(data, times=np.full(len(data), 250.0)))


def test_an_item_is_in_one_fold_and_folds_are_alike() -> None:
    items = np.repeat(np.arange(23), 5)
    folds = folds_of(items, num_folds=10, seed=1)
    assert all(len(set(folds[items == item].tolist())) == 1 for item in range(23))
    assert sorted(np.bincount(folds[::5]).tolist()) == [2] * 7 + [3] * 3
    assert folds_of(np.array([3, 3, 8]), num_folds=10, seed=1).tolist() in ([0, 0, 1], [1, 1, 0])
    with pytest.raises(UserError, match="at least two items are needed"):
        folds_of(np.zeros(9), num_folds=10, seed=1)


def log_likelihood_mixed(residuals: np.ndarray, subjects: np.ndarray, variance: float, between: float) -> float:
    """The log likelihood with a random intercept, from the defining covariance of each subject's readings."""
    total = 0.0
    for subject in np.unique(subjects):
        own = residuals[subjects == subject]
        covariance = variance * np.eye(len(own)) + between
        _, log_determinant = np.linalg.slogdet(2 * np.pi * covariance)
        total -= 0.5 * (log_determinant + own @ np.linalg.solve(covariance, own))
    return total


def test_a_mixed_model_has_the_likelihood_of_its_definition() -> None:
    data = some_data(num_subjects=5)
    columns = design(*data.baseline.values(), data.surprisal["true"])
    assert data.subjects is not None
    fitted, subjects = Regression(data.times, columns, data.subjects), np.array(data.subjects)
    between = float(np.asarray(fitted.result.cov_re)[0, 0])
    residuals = data.times - columns @ fitted.coefficients
    here = log_likelihood_mixed(residuals, subjects, fitted.variance, between)
    assert fitted.log_likelihood == pytest.approx(here, abs=1e-6)
    for a, b in itertools.product((0.97, 1.03), repeat=2):  # nearby parameters are less likely
        assert log_likelihood_mixed(residuals, subjects, a * fitted.variance, b * between) < here
    # the predicted intercept of a subject is its mean residual, shrunk towards 0
    own = residuals[subjects == "s2"]
    drawn = between / (between + fitted.variance / len(own)) * own.mean()
    assert fitted.intercepts["s2"] == pytest.approx(drawn, rel=1e-6)
    held = fitted.held_out(data.times[:1], columns[:1], ["s2"])
    mean = float(columns[0] @ fitted.coefficients) + drawn
    assert held[0] == pytest.approx(log_density(data.times[0], np.array(mean), fitted.variance), abs=1e-6)


def test_intercepts_of_subjects_explain_more_than_means() -> None:
    data = some_data(num_subjects=6)
    folds = folds_of(data.items, num_folds=4, seed=1)
    columns = design(*data.baseline.values(), data.surprisal["true"])
    with_subjects = cross_validated(data.times, columns, folds, data.subjects)
    assert with_subjects.mean() > cross_validated(data.times, columns, folds).mean() + 0.2
    found = explained(data, num_folds=4)
    assert found["true"].delta > 0.1 > 0.01 > abs(found["noise"].delta)


def test_permutations_enumerated_by_hand() -> None:
    # sums of groups 5, 1, -3: of the 8 ways to set signs, |sum| >= 3 in all but ±(5 - 1 - 3)
    differences, groups = np.array([2.0, 3.0, 1.0, -3.0]), np.array([7, 7, 8, 9])
    sums = [abs(a * 5 + b * 1 + c * -3) for a, b, c in itertools.product((1, -1), repeat=3)]
    expected = sum(value >= 3 for value in sums) / 8
    assert permutation_p(differences, groups) == expected == 0.75
    source = np.random.default_rng(1)
    assert permutation_p(source.normal(0.5, 1, 3000), np.arange(3000)) < 1e-3
    # if differences are pure noise, p is uniform
    p_values = [permutation_p(source.normal(0, 1, 40), np.arange(40), num_draws=400) for _ in range(200)]
    assert 0.4 < np.mean(p_values) < 0.6


def test_the_error_over_items_of_equal_size_is_that_of_their_means() -> None:
    values = np.random.default_rng(2).normal(size=(30, 7))
    expected = values.mean(axis=1).std(ddof=1) / math.sqrt(30)
    assert error_over_items(values.ravel(), np.repeat(np.arange(30), 7)) == pytest.approx(expected)


def test_a_natural_spline_is_cubic_between_its_knots_and_a_line_beyond() -> None:
    knots = np.array([1.0, 2.0, 3.5, 5.0])
    x = np.linspace(-2, 8, 2001)
    basis = natural_spline(x, knots)
    assert basis.shape == (2001, 3)
    assert (basis[:, 0] == x).all()
    second = np.diff(basis, 2, axis=0) / (x[1] - x[0]) ** 2
    beyond = (x[1:-1] < 0.99) | (x[1:-1] > 5.01)
    assert np.abs(second[beyond]).max() < 1e-6
    assert np.abs(np.diff(second, axis=0)).max() < 0.1  # the curvature does not jump
    assert np.linalg.matrix_rank(np.column_stack([np.ones(len(x)), basis])) == 4


def test_the_curve_finds_a_bend_and_none_in_a_line() -> None:
    straight, bent = some_data(), some_data(curved=3.0)
    line, curve = curve_of(straight, straight.surprisal["true"]), curve_of(bent, bent.surprisal["true"])
    assert line.chi_square_p > 0.01 > 1e-6 > curve.chi_square_p
    assert line.delta < 0.01 < curve.delta
    assert line.line == pytest.approx(line.spline, abs=12)
    # up to a constant, the spline is the parabola from which the times were made
    nats = curve.bits * LN_2
    true = 8 * nats + 3 * nats**2
    middle = (nats > 1) & (nats < 8)
    assert np.abs((curve.spline - true)[middle] - (curve.spline - true)[middle].mean()).max() < 15
    assert len(curve.bin_bits) == 20
    # the variance is 7/3, and 95 % of Student's distribution with 2 degrees of freedom lie within ±4.303
    assert half_interval(np.array([1.0, 2.0, 4.0])) == pytest.approx(4.302652729749464 * math.sqrt(7 / 3 / 3))
    assert math.isnan(half_interval(np.ones(1)))  # one word says nothing of the scatter


@pytest.mark.parametrize("number", [4, 6, 7])
def test_too_few_times_are_refused(number: int) -> None:
    data = some_data()
    # of two items, as many words each; six coefficients with surprisal, of which a fold has half of the words
    few = np.concatenate([np.arange(number), NUM_WORDS + np.arange(number)])
    baseline = {name: values[few] for name, values in data.baseline.items()}
    surprisal = {"true": data.surprisal["true"][few]}
    less = Observations(data.times[few], data.items[few], 2, baseline, surprisal, None, {})
    if number > 6:
        assert explained(less)["true"].slopes
        return
    with pytest.raises(UserError, match=f"^{number} times are too few for a regression of 6 coefficients"):
        explained(less)


def write_tables(folder: Path, *, seed: int = 1) -> list[str]:
    """Write two tables of surprisal, and times by subject that follow the first; return the command's options."""
    source = np.random.default_rng(seed)
    vocabulary = ["".join(source.choice(list("abcdefghij"), size=source.integers(1, 9))) for _ in range(50)]
    texts = [list(source.choice(vocabulary, size=30)) for _ in range(NUM_ITEMS)]
    (folder / "corpus.txt").write_text("\n".join(" ".join(text) for text in texts))
    first = [source.gamma(2.0, 2.0, size=30) for _ in texts]
    for name, scale in (("good", 0.0), ("poor", 4.0)):
        rows = ["level\ttext\tdocument\tposition\tnats"]
        for document, (text, nats) in enumerate(zip(texts, first, strict=True)):
            noisy = nats + scale * source.random(30)
            rows += [f"word\t{text[i]}\t{document}\t{i}\t{noisy[i]!r}" for i in range(30)]
        (folder / f"{name}.tsv").write_text("\n".join(rows).replace("np.float64(", "").replace(")", "") + "\n")
    rows = ["subject\titem\tposition\tword\ttime"]
    for subject in range(3):
        for item, (text, nats) in enumerate(zip(texts, first, strict=True)):
            times = 300 + 50 * subject + 10 * nats + source.normal(0, 10, size=30)
            rows += [f"s{subject}\t{item + 1}\t{i + 1}\t{text[i]}\t{times[i]:.3f}" for i in range(30)]
    (folder / "times.tsv").write_text("\n".join(rows) + "\n")
    tables = ["--surprisal", str(folder / "good.tsv"), str(folder / "poor.tsv"), "--times", str(folder / "times.tsv")]
    return [*tables, "--corpus", str(folder / "corpus.txt")]


def test_the_command_compares_two_models_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = write_tables(tmp_path)
    run_job(reading.main, [*options, "--figure", str(tmp_path / "curve.png"), "--json"])
    output = capsys.readouterr().out
    result = json.loads(output.splitlines()[-1])
    assert (result["times"], result["items"], result["subjects"]) == (NUM_ITEMS * 28, NUM_ITEMS, None)
    assert result["left_out"] == {"of the first two words of an item": 2 * NUM_ITEMS}
    good, poor = result["models"]["good"], result["models"]["poor"]
    assert good["delta"] > poor["delta"] > 0
    assert good["slopes"][0] == pytest.approx(10 * LN_2, rel=0.1)
    (comparison,) = result["comparisons"]
    assert (comparison["first"], comparison["second"]) == ("good", "poor")
    assert comparison["delta"] == pytest.approx(poor["delta"] - good["delta"])
    assert max(comparison["p_value_by_words"], comparison["p_value_by_items"]) < 0.01
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert "336 words in 12 items; least squares; 10 folds of whole items" in output
    assert "poor minus good: -" in output


def test_the_command_takes_subjects_and_logarithms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = reading.main([*write_tables(tmp_path), "--subjects", "--log", "--folds", "3"])
    assert result is not None
    assert (result["times"], result["subjects"]) == (3 * NUM_ITEMS * 28, 3)
    assert result["models"]["good"]["delta"] > result["models"]["poor"]["delta"] > 0
    assert "1,008 readings of 3 subjects in 12 items; a mixed model" in capsys.readouterr().out


def test_without_statsmodels_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "statsmodels", None)
    monkeypatch.setitem(sys.modules, "statsmodels.api", None)
    with pytest.raises(SystemExit, match="2"):
        run_job(reading.main, write_tables(tmp_path))
    assert capsys.readouterr().err == "error: statsmodels is not installed: pip install 'recurray[bench]'\n"

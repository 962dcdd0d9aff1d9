"""A fit of L(N, D) finds the constants of made-up runs, and says when there are too few runs."""

import numpy as np
import pytest

from pipeline.compare.scaling_law import Run, check_runs, fit_law
from pipeline.errors import UserError

# the constants of Hoffmann et al. 2022
KNOWN = {"E": 1.69, "A": 406.4, "alpha": 0.34, "B": 410.7, "beta": 0.28}


def runs(sizes: list[int], lengths: list[int], *, noise: float = 0.0, repeats: int = 1) -> list[Run]:
    source = np.random.default_rng(1)
    return [
        Run(n, d, (KNOWN["E"] + KNOWN["A"] / n ** KNOWN["alpha"] + KNOWN["B"] / d ** KNOWN["beta"])
            * float(np.exp(noise * source.normal())))
        for n in sizes for d in lengths for _ in range(repeats)
    ]  # fmt: skip


SIZES, LENGTHS = [10**5, 10**6, 10**7, 10**8], [10**6, 10**7, 10**8, 10**9]


def test_planted_constants_are_found() -> None:
    law = fit_law(runs(SIZES, LENGTHS))
    assert law.constants == pytest.approx(KNOWN, rel=0.02)
    assert law.residual < 1e-4
    assert law.loss(10**6, 10**8) == pytest.approx(runs([10**6], [10**8])[0].loss, rel=1e-4)
    assert law.num_runs == 16


def test_intervals_hold_the_planted_constants_if_runs_scatter() -> None:
    law = fit_law(runs(SIZES, LENGTHS, noise=0.003, repeats=2))
    for name, value in KNOWN.items():
        low, high = law.intervals[name]
        assert low <= value * 1.02
        assert value * 0.98 <= high
        assert low < high


def test_one_run_that_went_wrong_changes_little() -> None:
    planted = runs(SIZES, LENGTHS)
    planted[5] = Run(planted[5].parameters, planted[5].tokens, planted[5].loss * 1.3)
    assert fit_law(planted).constants == pytest.approx(KNOWN, rel=0.05)


@pytest.mark.parametrize(
    ("sizes", "lengths", "repeats"), [([10**5, 10**6, 10**7], [10**6, 10**7, 10**8], 1), ([10**5, 10**6], LENGTHS, 4)]
)
def test_too_few_runs_are_not_fitted(sizes: list[int], lengths: list[int], repeats: int) -> None:
    few = runs(sizes, lengths, repeats=repeats)
    sentence = (
        f"{len(few)} runs (sizes: {len(sizes)}, lengths: {len(lengths)}) are too few to fit L(N, D): at least 12, of "
        "3 sizes and 3 lengths, are needed"
    )
    with pytest.raises(UserError) as refused:
        fit_law(few)
    assert str(refused.value) == sentence
    check_runs(runs([10**5, 10**6, 10**7], [10**6, 10**7, 10**8], repeats=2))

"""How a population perturbs settings: to near values, within the space, and never stuck."""

from typing import Any

import numpy as np
import pytest

from pipeline.search.domains import Domain
from pipeline.search.perturbation import perturbed, perturbed_settings

# kind, arguments, a value, all values that it can move to
MOVES: list[tuple[str, list[Any], Any, set[Any]]] = [
    ("uniform", [0.0, 1.0], 0.5, {0.4, 0.6}),
    ("uniform", [0.45, 0.55], 0.5, {0.45, 0.55}),  # clipped into the range
    ("loguniform", [1e-4, 1e-2], 1e-2, {0.008, 1e-2}),
    ("choice", [32, 64, 128], 64, {32, 128}),
    ("choice", [32, 64, 128], 128, {64}),
    ("choice", [128, 32, 64], 128, {64}),  # neighbours by size
    ("choice", ["a", "c", "b"], "c", {"a", "b"}),  # as they are listed
    ("choice", [32], 32, {32}),
    ("randint", [1, 10], 1, {2}),  # 0.8 and 1.2 round to 1: so one step, but not out of the range
    ("randint", [1, 10], 3, {2, 4}),
    ("randint", [1, 10], 9, {7, 8}),  # 7.2 rounds to 7; 10.8 is out of range, so one down
    ("randint", [1, 2], 1, {1}),
    ("lograndint", [10, 1001], 100, {80, 120}),
    ("lograndint", [10, 1001], 1000, {800, 999}),
    ("qrandint", [8, 64, 8], 16, {8, 24}),  # 12.8 and 19.2 are less than a step away
    ("qrandint", [8, 640, 8], 400, {320, 480}),
    ("quniform", [0.0, 0.5, 0.1], 0.3, {0.2, 0.4}),
    ("quniform", [0.0, 0.5, 0.1], 0.5, {0.4}),
    ("qloguniform", [0.001, 0.1, 0.001], 0.05, {0.04, 0.06}),
]


@pytest.mark.parametrize(("kind", "arguments", "value", "expected"), MOVES)
def test_a_value_moves_to_its_neighbours(kind: str, arguments: list[Any], value: Any, expected: set[Any]) -> None:
    domain = Domain(kind, arguments)
    source = np.random.default_rng(1)
    found = [perturbed(domain, value, source) for _ in range(50)]
    assert {round(each, 12) if isinstance(each, float) else each for each in found} == expected
    assert all(domain.contains(each) and type(each) is type(value) for each in found)


@pytest.mark.parametrize(("kind", "arguments"), [(kind, arguments) for kind, arguments, _, _ in MOVES])
def test_a_long_walk_stays_in_the_space_and_does_not_stand_still(kind: str, arguments: list[Any]) -> None:
    domain = Domain(kind, arguments)
    source = np.random.default_rng(2)
    value = domain.draw(source)
    for _ in range(500):
        former, value = value, perturbed(domain, value, source)
        assert domain.contains(value)
        if domain.num_values is not None and domain.num_values > 1:
            assert value != former


def test_a_value_without_neighbours_is_drawn_anew() -> None:
    source = np.random.default_rng(3)
    assert perturbed(Domain("uniform", [0.0, 1.0]), 0.0, source) > 0
    assert perturbed(Domain("choice", [1, 2]), 7, source) in (1, 2)


def test_each_setting_is_perturbed_or_drawn_anew() -> None:
    space = {"optimizer.lr": Domain("loguniform", [1e-4, 1e-2]), "train.bptt": Domain("choice", [8, 16, 32])}
    settings = {"optimizer.lr": 1e-3, "train.bptt": 16}
    source = np.random.default_rng(4)
    near = [perturbed_settings(space, settings, source, resample_probability=0.0) for _ in range(100)]
    pairs = {(round(each["optimizer.lr"], 9), each["train.bptt"]) for each in near}
    assert pairs == {(0.0008, 8), (0.0008, 32), (0.0012, 8), (0.0012, 32)}
    anew = [perturbed_settings(space, settings, source, resample_probability=1.0) for _ in range(100)]
    assert len({each["optimizer.lr"] for each in anew}) == 100
    assert {each["train.bptt"] for each in anew} == {8, 16, 32}
    some = [perturbed_settings(space, settings, source, resample_probability=0.25) for _ in range(400)]
    share = np.mean([round(each["optimizer.lr"], 9) not in (0.0008, 0.0012) for each in some])
    assert 0.17 < share < 0.33

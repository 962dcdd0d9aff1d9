"""``search.space`` in, Ray Tune's domains out; each value that a trial may draw is checked against the schema before.

optimizer.lr: {loguniform: [1e-4, 1e-2]}      also uniform, randint (high excluded)
model.hidden_size: [128, 256]                 short for {choice: [128, 256]}
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice, product
from typing import Any

import numpy as np
from ray import tune

from pipeline import config as configuration
from pipeline.config import Config
from pipeline.errors import UserError

SEARCHED_SECTIONS = ("model", "train", "optimizer")
RANGES: dict[str, Callable[..., Any]] = {
    "uniform": tune.uniform,
    "loguniform": tune.loguniform,
    "randint": tune.randint,
}
KINDS = ("choice", *RANGES)
# of the other settings' values, that one value is tried with before it is refused
MOST_COMBINATIONS = 10_000


@dataclass(frozen=True)
class Searched:
    """Where Ray Tune draws a setting from, and the values to check: every choice, or both ends of a range."""

    domain: Any
    values: list[Any]


def parse_space(config: Config) -> dict[str, Any]:
    """``search.space`` as Ray Tune's domains by dotted path.

    Raises:
        UserError: listing each path that cannot be searched, each specification that makes no sense, and each value
            that a setting does not take.
    """
    found: dict[str, Searched] = {}
    problems = []
    for path, spec in config.search.space.items():
        try:
            found[path] = parse_setting(path, spec)
        except UserError as error:
            problems += [f"search.space.{path}: {line}" for line in str(error).splitlines()]
    if not problems:
        values = {path: searched.values for path, searched in found.items()}
        problems = [
            f"search.space.{path}: {reason}"
            for path in values
            for value in values[path]
            if (reason := why_never(config, values, path, value))
        ]
    if problems:
        raise UserError("\n".join(problems))
    return {path: searched.domain for path, searched in found.items()}


def parse_setting(path: str, spec: Any) -> Searched:
    """What ``spec`` says of the setting at ``path``.

    Raises:
        UserError: a setting that cannot be searched, a ``spec`` that makes no sense, or, one a line, the values that
            the setting does not take.
    """
    section, _, field = path.partition(".")
    if section not in SEARCHED_SECTIONS or field not in configuration.section_fields(section):
        raise UserError(f"not a setting that can be searched (of {', '.join(SEARCHED_SECTIONS)})")
    kind, values = next(iter(spec.items())) if isinstance(spec, dict) and len(spec) == 1 else ("choice", spec)
    is_range = kind in RANGES
    if kind not in KINDS or not isinstance(values, list) or (is_range and len(values) != 2):
        raise UserError(f"must be a list or one of {', '.join(KINDS)} with its values, not {spec!r}")
    if not is_range:
        taken = as_taken(path, values)
        if not taken:
            raise UserError("has no value to choose from")
        return Searched(tune.choice(taken), taken)
    low, high = bounds(kind, values)
    last = high - 1 if kind == "randint" else high
    return Searched(RANGES[kind](low, high), as_taken(path, [low, last]))


def bounds(kind: str, values: list[Any]) -> tuple[float, float]:
    """The two ``values`` of a range as numbers, for PyYAML reads 1e-4 (without a point) as a string.

    Raises:
        UserError: bounds that are not numbers, whole ones for randint, or that do not rise.
    """
    try:
        low, high = map(float, values)
    except (TypeError, ValueError):
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high)):
        raise UserError(f"{kind} is between two numbers, not {values!r}")
    if low >= high:
        raise UserError(f"{kind} is from a lower to a higher number, not {values!r}")
    if kind == "loguniform" and low <= 0:
        raise UserError(f"loguniform is between numbers above 0, not {values!r}")
    if kind != "randint":
        return low, high
    if not (low.is_integer() and high.is_integer()):
        raise UserError(f"randint is between whole numbers, not {values!r}")
    return int(low), int(high)


def as_taken(path: str, values: list[Any]) -> list[Any]:
    """``values`` as the setting at ``path`` takes them. Raises ``UserError`` with a line for each that it does not."""
    taken, problems = [], []
    for value in values:
        try:
            taken.append(configuration.field_value(path, value))
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise UserError("\n".join(problems))
    return taken


def why_never(config: Config, values: Mapping[str, list[Any]], path: str, value: Any) -> str:
    """Why no trial can have ``value`` at ``path``, whatever it has of the other ``values``; empty if one can."""
    others = [name for name in values if name != path]
    reason = ""
    for drawn in islice(product(*(values[name] for name in others)), MOST_COMBINATIONS):
        try:
            configuration.with_values(config, {**dict(zip(others, drawn, strict=True)), path: value})
        except UserError as error:
            reason = reason or " ".join(str(error).splitlines())
        else:
            return ""
    return reason


def draw(space: Mapping[str, Any], *, seed: int, num_trials: int) -> list[dict[str, Any]]:
    """The settings of the first trials of a search, a function of ``seed`` and their number, as Ray Tune draws them."""
    source = np.random.default_rng(seed)
    return [{path: domain.sample(random_state=source) for path, domain in space.items()} for _ in range(num_trials)]

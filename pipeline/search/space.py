"""``search.space`` → how each setting is drawn; each value that a trial may draw is checked against the schema before.

optimizer.lr: {loguniform: [1e-4, 1e-2]}      also uniform, randint (high excluded)
model.hidden_size: [128, 256]                 short for {choice: [128, 256]}
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, product
from typing import TYPE_CHECKING, Any

from pipeline import config as configuration
from pipeline.config import Config
from pipeline.config.fields import shown
from pipeline.errors import UserError

if TYPE_CHECKING:
    import numpy as np

SEARCHED_SECTIONS = ("model", "train", "optimizer")
RANGES = ("uniform", "loguniform", "randint")
KINDS = ("choice", *RANGES)
# of the other settings' values, that one value is tried with before it is refused; values that are named
MOST_COMBINATIONS, MOST_NAMED = 10_000, 5


@dataclass(frozen=True)
class Searched:
    """How a setting is drawn, from which choices or between which bounds, and the values to check: choices, or ends."""

    kind: str
    arguments: list[Any]
    values: list[Any]

    def draw(self, source: np.random.Generator) -> Any:
        """A value at random, as Ray Tune's domains of the same names draw it from the same source."""
        if self.kind == "choice":
            return self.arguments[int(source.integers(0, len(self.arguments)))]
        low, high = self.arguments
        if self.kind == "randint":
            return int(source.integers(low, high))
        if self.kind == "loguniform":
            import numpy as np

            return float(np.exp(source.uniform(np.log(low), np.log(high))))
        return source.uniform(low, high)

    def contains(self, value: Any) -> bool:
        """Whether it may be drawn."""
        if self.kind == "choice":
            return value in self.arguments
        low, high = self.arguments
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            return False
        return low <= value < high and value == int(value) if self.kind == "randint" else low <= value <= high

    @property
    def listed(self) -> list[Any] | None:
        """All values, where they can be listed; None: it is a range."""
        if self.kind == "choice":
            return list(self.arguments)
        return list(range(*self.arguments)) if self.kind == "randint" else None


Space = Mapping[str, Searched]


def draw(space: Space, source: np.random.Generator) -> dict[str, Any]:
    """The settings of a trial at random: those of ``space`` in its order."""
    return {path: searched.draw(source) for path, searched in space.items()}


def contains(space: Space, settings: Mapping[str, Any]) -> bool:
    """Whether ``settings`` are what ``draw`` may come to."""
    return space.keys() == settings.keys() and all(space[path].contains(value) for path, value in settings.items())


def check_space(config: Config) -> dict[str, Searched]:
    """What ``search.space`` says of each dotted path.

    Raises:
        UserError: listing each path that cannot be searched, each specification that makes no sense, and some of the
            values that a setting does not take.
    """
    found: dict[str, Searched] = {}
    problems = []
    for path, spec in config.search.space.items():
        try:
            found[path] = parse_setting(path, spec)
        except UserError as error:
            problems += [f"search.space.{path}: {line}" for line in str(error).splitlines()]
    if not problems:
        problems = list(islice(never_taken(config, found), MOST_NAMED))
    if problems:
        raise UserError("\n".join(problems))
    return found


def never_taken(config: Config, found: Mapping[str, Searched]) -> Iterator[str]:
    """A sentence for each value that no trial can have."""
    values = {path: searched.values for path, searched in found.items()}
    for path in values:
        for value in values[path]:
            if reason := why_never(config, values, path, value):
                yield f"search.space.{path}: {reason}"


def parse_setting(path: str, spec: Any) -> Searched:
    """What ``spec`` says of the setting at ``path``.

    Raises:
        UserError: a setting that cannot be searched, a ``spec`` that makes no sense, or, one a line, the values that
            the setting does not take.
    """
    section, _, field = path.partition(".")
    if section not in SEARCHED_SECTIONS or field not in configuration.section_fields(section):
        near = [place if "." in place else f"{section}.{place}" for place in configuration.meant_by(path)]
        near = [place for place in near if place != path and place.startswith(SEARCHED_SECTIONS)]
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise UserError(f"not a setting that can be searched (of {', '.join(SEARCHED_SECTIONS)}){hint}")
    kind, values = next(iter(spec.items())) if isinstance(spec, dict) and len(spec) == 1 else ("choice", spec)
    is_range = kind in RANGES
    if kind not in KINDS or not isinstance(values, list) or (is_range and len(values) != 2):
        raise UserError(f"must be a list or one of {', '.join(KINDS)} with its values, not {shown(spec)}")
    if not is_range:
        taken = as_taken(path, values)
        if not taken:
            raise UserError("has no value to choose from")
        return Searched(kind, taken, taken)
    low, high = bounds(kind, values)
    last = high - 1 if kind == "randint" else high
    return Searched(kind, [low, high], as_taken(path, [low, last]))


def bounds(kind: str, values: list[Any]) -> tuple[float, float]:
    """The two ``values`` of a range as numbers, for PyYAML reads 1e-4 (without a point) as a string.

    Raises:
        UserError: bounds that are not numbers, whole ones for randint, or that do not rise.
    """
    try:
        low, high = (math.nan if isinstance(value, bool) else float(value) for value in values)
    except (TypeError, ValueError, OverflowError):
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high)):
        raise UserError(f"{kind} is between two numbers, not {shown(values)}")
    if low >= high:
        raise UserError(f"{kind} is from a lower to a higher number, not {shown(values)}")
    if kind == "loguniform" and low <= 0:
        raise UserError(f"loguniform is between numbers above 0, not {shown(values)}")
    if kind != "randint":
        return low, high
    if not (low.is_integer() and high.is_integer()):
        raise UserError(f"randint is between whole numbers, not {shown(values)}")
    return int(low), int(high)


def as_taken(path: str, values: list[Any]) -> list[Any]:
    """``values`` as the setting at ``path`` takes them. Raises ``UserError`` with a line for each that it does not."""
    taken, problems = [], []
    for value in values:
        try:
            taken.append(configuration.field_value(path, value))
        except UserError as error:
            problems.append(str(error))
            if len(problems) == MOST_NAMED:
                break
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

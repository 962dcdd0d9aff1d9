"""``search.space`` in, what each setting is drawn from out; every value that a trial may have is checked before.

optimizer.lr: {loguniform: [1e-4, 1e-2]}                          # the kinds: see ``domains``
model.hidden_size: [128, 256]                                     # short for {choice: [128, 256]}
model.head: [softmax, mixture]
model.num_experts: {randint: [2, 16], when: {model.head: mixture}}
model.residual: {choice: [true, false], when: {model.num_layers: [2, 3]}}
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, product
from typing import TYPE_CHECKING, Any

from pipeline import config as configuration
from pipeline.config import Config
from pipeline.config.fields import shown
from pipeline.errors import UserError
from pipeline.search.domains import CHOICE, KINDS, LOGARITHMIC, STEPPED, WHOLE, Domain, multiple, times

if TYPE_CHECKING:
    import numpy as np

SEARCHED_SECTIONS = ("model", "train", "optimizer", "tokenizer", "data")
NEVER_SEARCHED = {"data.directory": "each trial has the corpus of its own tokens"}
WHEN = "when"
# of the other settings' values, that one value is tried with before it is refused; values that are named
MOST_COMBINATIONS, MOST_NAMED = 10_000, 5


@dataclass(frozen=True)
class Space(Mapping[str, Domain]):
    """What each searched setting is drawn from, by dotted path, in the order of ``search.space``."""

    domains: Mapping[str, Domain]

    def __getitem__(self, path: str) -> Domain:
        return self.domains[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self.domains)

    def __len__(self) -> int:
        return len(self.domains)

    def draw(self, source: np.random.Generator) -> dict[str, Any]:
        """The next settings from ``source``; those whose condition does not hold are drawn, too, and left out."""
        return self.active({path: domain.draw(source) for path, domain in self.items()})

    def active(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The ``settings`` but those whose condition does not hold among these."""
        kept: set[str] = set()
        for path in self.parents_first:
            if path in settings and holds(self[path].when, {name: settings[name] for name in kept}):
                kept.add(path)
        return {path: value for path, value in settings.items() if path in kept}

    def contains(self, settings: Mapping[str, Any]) -> bool:
        """Whether ``settings`` are what ``draw`` may come to."""
        asked = {path for path, domain in self.items() if holds(domain.when, settings)}
        return set(settings) == asked and all(self[path].contains(value) for path, value in settings.items())

    def grid(self) -> Iterator[dict[str, Any]]:
        """Every combination of values, the last setting changing fastest, each once.

        Raises:
            UserError: at once, naming the ranges that have a value between any two.
        """
        endless = [path for path, domain in self.items() if domain.num_values is None]
        if endless:
            raise UserError(
                "\n".join(
                    f"search.space.{path}: {self[path].kind} has no steps for search.algorithm=grid; list its "
                    "values, or give it steps (quniform: [low, high, step])"
                    for path in endless
                )
            )
        return self._grid(self.parents_first, {})

    def _grid(self, paths: list[str], settings: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if not paths:
            yield {path: settings[path] for path in self if path in settings}
            return
        path, *others = paths
        domain = self[path]
        if not holds(domain.when, settings):
            yield from self._grid(others, settings)
            return
        for value in domain.listed or []:
            yield from self._grid(others, {**settings, path: value})

    @cached_property
    def parents_first(self) -> list[str]:
        """The paths in their order, but each after those that its condition asks for."""
        placed: list[str] = []
        left = list(self)
        while left:
            ready = [path for path in left if all(name in placed for name in self[path].when)]
            if not ready:
                raise UserError(f"search.space.{left[0]}: its condition depends on itself ({' → '.join(left)})")
            placed.append(ready[0])
            left.remove(ready[0])
        return placed

    def check(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """``settings`` as the search takes them: those that apply, with values that can be drawn.

        Raises:
            UserError: listing what is not searched, cannot be drawn, or is missing.
        """
        meant, problems = {}, []
        for path, value in settings.items():
            try:
                if path not in self:
                    raise UserError(f"{path}: is not in search.space")
                meant[path] = configuration.field_value(path, value)
                if not self[path].contains(meant[path]):
                    raise UserError(f"{path}: {shown(value)} is not in search.space")
            except UserError as error:
                problems += str(error).splitlines()
        if problems:
            raise UserError("\n".join(problems))
        missing = [path for path in self.parents_first if path not in meant and holds(self[path].when, meant)]
        if missing:
            raise UserError(f"{', '.join(missing)}: missing")
        return self.active(meant)


def holds(when: Mapping[str, list[Any]], settings: Mapping[str, Any]) -> bool:
    """Whether each setting that ``when`` names is among the ``settings`` and has one of its values."""
    return all(path in settings and settings[path] in values for path, values in when.items())


def check_space(config: Config) -> Space:
    """What ``search.space`` says of each dotted path.

    Raises:
        UserError: listing each path that cannot be searched, each specification or condition that makes no sense, and
            some of the values that no trial can have.
    """
    domains: dict[str, Domain] = {}
    problems = []
    for path, spec in config.search.space.items():
        try:
            domains[path] = parse_setting(path, spec)
        except UserError as error:
            problems += [f"search.space.{path}: {line}" for line in str(error).splitlines()]
    if not problems:
        problems = [
            f"search.space.{path}: {line}"
            for path, domain in domains.items()
            for line in wrong_conditions(domain, domains)
        ]
    if problems:
        raise UserError("\n".join(problems))
    space = Space(domains)
    assert space.parents_first is not None  # or raises, for a circle of conditions
    if problems := list(islice(never_taken(config, space), MOST_NAMED)):
        raise UserError("\n".join(problems))
    return space


def parse_setting(path: str, spec: Any) -> Domain:
    """What ``spec`` says of the setting at ``path``.

    Raises:
        UserError: a setting that cannot be searched, a ``spec`` that makes no sense, or, one a line, the values that
            the setting does not take.
    """
    section, _, field = path.partition(".")
    if path in NEVER_SEARCHED:
        raise UserError(f"not a setting that can be searched: {NEVER_SEARCHED[path]}")
    if section not in SEARCHED_SECTIONS or field not in configuration.section_fields(section):
        near = [place if "." in place else f"{section}.{place}" for place in configuration.meant_by(path)]
        near = [place for place in near if place != path and place.startswith(SEARCHED_SECTIONS)]
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise UserError(f"not a setting that can be searched (of {', '.join(SEARCHED_SECTIONS)}){hint}")
    when: dict[str, list[Any]] = {}
    if isinstance(spec, dict) and WHEN in spec:
        when = parse_condition(path, spec[WHEN])
        spec = {name: value for name, value in spec.items() if name != WHEN}
    kind, values = next(iter(spec.items())) if isinstance(spec, dict) and len(spec) == 1 else (CHOICE, spec)
    if kind not in KINDS or not isinstance(values, list):
        raise UserError(f"must be a list or one of {', '.join(KINDS)} with its values, not {shown(spec)}")
    if kind == CHOICE:
        taken = as_taken(path, values)
        if not taken:
            raise UserError("has no value to choose from")
        return Domain(kind, taken, when)
    domain = Domain(kind, bounds(kind, values), when)
    as_taken(path, domain.ends())
    return domain


def parse_condition(path: str, condition: Any) -> dict[str, list[Any]]:
    """The values of other settings for which the setting at ``path`` is searched. Raises ``UserError``."""
    if not isinstance(condition, dict) or not condition:
        raise UserError(f"{WHEN} must name a searched setting and its values, {{model.head: mixture}}, "
                        f"not {shown(condition)}")  # fmt: skip
    if path in condition:
        raise UserError(f"{WHEN}: a setting cannot be its own condition")
    return {
        str(other): as_taken(str(other), values if isinstance(values, list) else [values])
        if is_setting(str(other)) else [values]
        for other, values in condition.items()
    }  # fmt: skip


def is_setting(path: str) -> bool:
    section, _, field = path.partition(".")
    return section in Config.model_fields and field in configuration.section_fields(section)


def wrong_conditions(domain: Domain, domains: Mapping[str, Domain]) -> Iterator[str]:
    """A sentence for each condition of ``domain`` that can never hold."""
    for other, values in domain.when.items():
        if other not in domains:
            yield f"{WHEN}: {other} is not searched (search.space has {', '.join(domains)})"
        elif not values:
            yield f"{WHEN}: {other} has no value"
        else:
            for value in values:
                if not domains[other].contains(value):
                    yield f"{WHEN}: no trial has {other}={shown(value)}"


def bounds(kind: str, values: list[Any]) -> list[Any]:
    """The bounds of a range, and its step, as numbers, for PyYAML reads 1e-4 (without a point) as a string.

    Raises:
        UserError: bounds that are not numbers, whole ones for whole numbers, or that do not rise.
    """
    wanted = "two numbers and a step" if kind in STEPPED else "two numbers"
    try:
        numbers = [math.nan if isinstance(value, bool) else float(value) for value in values]
    except (TypeError, ValueError, OverflowError):
        numbers = []
    if len(numbers) != 2 + (kind in STEPPED) or not all(map(math.isfinite, numbers)):
        raise UserError(f"{kind} is between {wanted}, not {shown(values)}")
    low, high = numbers[:2]
    if low >= high:
        raise UserError(f"{kind} is from a lower to a higher number, not {shown(values)}")
    if kind in LOGARITHMIC and low <= 0:
        raise UserError(f"{kind} is between numbers above 0, not {shown(values)}")
    if kind in WHOLE:
        if not all(number.is_integer() for number in numbers):
            raise UserError(f"{kind} is between whole numbers, not {shown(values)}")
        numbers = [int(number) for number in numbers]
    if kind in STEPPED:
        check_step(kind, numbers)
    return numbers


def check_step(kind: str, numbers: list[Any]) -> None:
    """Raise ``UserError`` unless both bounds are multiples of the step."""
    *ends, step = numbers
    if step <= 0:
        raise UserError(f"{kind} has a step above 0, not {step:g}")
    for end in ends:
        if not math.isclose(times(multiple(end, step), step), end, rel_tol=1e-9, abs_tol=1e-12):
            raise UserError(f"{kind} is between multiples of its step, and {end:g} is none of {step:g}")


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


def never_taken(config: Config, space: Space) -> Iterator[str]:
    """A sentence for each value that no trial can have."""
    asked = {path: [domain.when.get(path, []) for domain in space.values()] for path in space}
    values = {
        path: [*domain.ends(), *(value for when in asked[path] for value in when if value not in domain.ends())]
        for path, domain in space.items()
    }
    for path, domain in space.items():
        for value in domain.ends():
            if reason := why_never(config, space, values, path, value):
                yield f"search.space.{path}: {reason}"


def why_never(config: Config, space: Space, values: Mapping[str, list[Any]], path: str, value: Any) -> str:
    """Why no trial can have ``value`` at ``path``, whatever it has of the other ``values``; empty if one can."""
    others = [name for name in values if name != path]
    reason = ""
    for drawn in islice(product(*(values[name] for name in others)), MOST_COMBINATIONS):
        settings = space.active({**dict(zip(others, drawn, strict=True)), path: value})
        if path not in settings:
            reason = reason or "its condition never holds"
            continue
        try:
            configuration.with_values(config, settings)
        except UserError as error:
            reason = " ".join(str(error).splitlines()) if reason in ("", "its condition never holds") else reason
        else:
            return ""
    return reason


def random_settings(space: Space, *, seed: int) -> Iterator[dict[str, Any]]:
    """Settings without end, a function of ``seed``: the first is that of the first trial, and so on."""
    import numpy as np

    source = np.random.default_rng(seed)
    while True:
        yield space.draw(source)

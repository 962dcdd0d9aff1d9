"""``search.space`` → what each setting is drawn from; every value that a trial can have is checked beforehand.

optimizer.lr: {loguniform: [1e-4, 1e-2]}                          # the kinds: see ``domains``
model.hidden_size: [128, 256]                                     # short for {choice: [128, 256]}
model.head: [softmax, mixture]
model.num_experts: {randint: [2, 16], when: {model.head: mixture}}
model.residual: {choice: [true, false], when: {model.num_layers: [2, 3]}}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, product
from typing import TYPE_CHECKING, Any

from pipeline import config as configuration
from pipeline.config import Config
from pipeline.config.fields import shown
from pipeline.errors import UserError
from pipeline.search.domains import Domain
from pipeline.search.specification import MOST_NAMED, WHEN, parse_setting

if TYPE_CHECKING:
    import numpy as np

MOST_COMBINATIONS = 10_000  # of the other settings' values, that one value is tried with before it is refused


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
        """The next settings from ``source``; those whose condition does not hold are drawn, too, but left out."""
        return self.active({path: domain.draw(source) for path, domain in self.items()})

    def active(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The ``settings`` without those whose condition does not hold."""
        kept: set[str] = set()
        for path in self.parents_first:
            if path in settings and holds(self[path].when, {name: settings[name] for name in kept}):
                kept.add(path)
        return {path: value for path, value in settings.items() if path in kept}

    def contains(self, settings: Mapping[str, Any]) -> bool:
        """Whether ``draw`` can return ``settings``."""
        asked = {path for path, domain in self.items() if holds(domain.when, settings)}
        return set(settings) == asked and all(self[path].contains(value) for path, value in settings.items())

    def grid(self) -> Iterator[dict[str, Any]]:
        """Every combination of values, the last setting changing fastest, each once.

        Raises:
            UserError: at once, naming the ranges that have no steps.
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
        """The paths in their order, but each after those that its condition depends on."""
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


def check_validation(config: Config) -> None:
    """Raise ``UserError`` if there will be no validation split to compare the trials by."""
    if not config.corpus.valid and not config.corpus.valid_fraction:
        raise UserError(
            "corpus.valid: a search needs a validation split, but it is empty and corpus.valid_fraction is 0"
        )


def check_space(config: Config) -> Space:
    """The ``Space`` that ``search.space`` describes.

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
    assert space.parents_first is not None  # or raises, if conditions form a circle
    if problems := list(islice(never_taken(config, space), MOST_NAMED)):
        raise UserError("\n".join(problems))
    return space


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
    """Why no trial can have ``value`` at ``path``, with any of the other ``values``; empty if one can."""
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
    """Endlessly many settings, a function of ``seed``: the first are those of the first trial, and so on."""
    import numpy as np

    source = np.random.default_rng(seed)
    while True:
        yield space.draw(source)

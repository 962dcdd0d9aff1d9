"""Settings → settings near them, within the space: how population-based training explores.

Jaderberg et al. 2017, section 4.1: multiplied by 0.8 or 1.2, or drawn again. A value of a list moves to a neighbour in
the list; whole numbers, and numbers with steps, move by at least one step; nothing leaves its range.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline.search.domains import Domain, multiple

if TYPE_CHECKING:
    import numpy as np

FACTORS = (0.8, 1.2)


def perturbed_settings(
    space: Mapping[str, Domain],
    settings: Mapping[str, Any],
    source: np.random.Generator,
    *,
    resample_probability: float,
) -> dict[str, Any]:
    """Each of ``settings`` moved on its own, or drawn again with ``resample_probability``."""
    return {
        path: space[path].draw(source)
        if source.random() < resample_probability
        else perturbed(space[path], value, source)
        for path, value in settings.items()
    }


def perturbed(domain: Domain, value: Any, source: np.random.Generator) -> Any:
    """``value`` moved once; drawn again if nothing is near it."""
    if not domain.contains(value):
        return domain.draw(source)
    if not domain.is_range:
        return neighbour(in_order(domain.arguments), value, source)
    moved = value * FACTORS[int(source.integers(len(FACTORS)))]
    if domain.num_values is None:
        return domain.nearest(moved) if value else domain.draw(source)
    direction = 1 if moved >= value else -1
    first, place, wanted = (multiple(number, domain.step) for number in (domain.low, value, moved))
    by = max(1, (wanted - place) * direction) * direction
    return domain.value(bounded(place - first, by, domain.num_values))


def bounded(index: int, by: int, number: int) -> int:
    """``index`` moved ``by`` places among ``number``, as far as possible; from an end that it cannot pass, one back."""
    moved = min(number - 1, max(0, index + by))
    return moved if moved != index else min(number - 1, max(0, index - (1 if by > 0 else -1)))


def in_order(values: list[Any]) -> list[Any]:
    """Numbers by their size; other values as they are listed."""
    are_numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    return sorted(values) if are_numbers else values


def neighbour(values: list[Any], value: Any, source: np.random.Generator) -> Any:
    """One of the two beside ``value`` in the list; at an end, the only one."""
    place = values.index(value)
    beside = [values[index] for index in (place - 1, place + 1) if 0 <= index < len(values)]
    return beside[int(source.integers(len(beside)))] if beside else value

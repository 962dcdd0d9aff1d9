"""Every combination of the values of a space, once, the last setting fastest."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, product
from typing import Any

from pipeline.config import SearchConfig
from pipeline.errors import UserError
from pipeline.search.samplers.base import Sampler
from pipeline.search.space import Space
from pipeline.search.standing import Standing


class Grid(Sampler):
    """Draws end with the last combination."""

    def __init__(self, settings: SearchConfig, space: Space) -> None:
        """Raises ``UserError`` as ``combinations``."""
        super().__init__(settings, space)
        combinations(space)

    def draws(self, standing: Standing, *, number: int, num_before: int) -> Iterator[dict[str, Any]]:
        return islice(combinations(self.space), num_before, None)


def combinations(space: Space) -> Iterator[dict[str, Any]]:
    """The settings of each point of the grid. Raises ``UserError`` for a range without steps."""
    values = {path: searched.listed for path, searched in space.items()}
    for path, listed in values.items():
        if listed is None:
            raise UserError(
                f"search.space.{path}: search.algorithm=grid needs values to go through; list them, or give the range "
                "steps"
            )
    lists = [listed for listed in values.values() if listed is not None]
    return (dict(zip(values, point, strict=True)) for point in product(*lists))

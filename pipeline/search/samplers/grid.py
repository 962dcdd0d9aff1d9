"""Every combination of the values of a space, once, the last setting fastest."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from pipeline.config import SearchConfig
from pipeline.search.samplers.base import Sampler
from pipeline.search.space import Space
from pipeline.search.standing import Standing


class Grid(Sampler):
    """Draws each combination once; draws end with the last."""

    def __init__(self, settings: SearchConfig, space: Space) -> None:
        """Raises ``UserError`` for a range without steps."""
        super().__init__(settings, space)
        space.grid()

    def draws(self, standing: Standing, *, number: int, num_before: int) -> Iterator[dict[str, Any]]:
        return islice(self.space.grid(), num_before, None)

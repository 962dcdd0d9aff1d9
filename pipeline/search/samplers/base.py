"""The interface of samplers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipeline.config import SearchConfig
from pipeline.search.space import Space
from pipeline.search.standing import Standing


class Sampler:
    """Draws the settings of new trials."""

    def __init__(self, settings: SearchConfig, space: Space) -> None:
        self.settings = settings
        self.space = space

    def draws(self, standing: Standing, *, number: int, num_before: int) -> Iterator[dict[str, Any]]:
        """Settings for trial ``number``, one after another until one is taken; ends if there are no more.

        Args:
            standing: what is known so far.
            num_before: draws that were made for earlier trials, including those that were refused.
        """
        raise NotImplementedError

"""Random search (Bergstra & Bengio 2012): every draw from one stream of random numbers."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

from pipeline.search.samplers.base import Sampler
from pipeline.search.standing import Standing


class Random(Sampler):
    """The n-th draw is the n-th of the stream that ``search.seed`` begins, as in earlier versions."""

    num_drawn = 0
    source: Any = None

    def draws(self, standing: Standing, *, number: int, num_before: int) -> Iterator[dict[str, Any]]:
        import numpy as np

        if self.source is None or self.num_drawn > num_before:
            self.source, self.num_drawn = np.random.default_rng(self.settings.seed), 0
        for index in count(self.num_drawn):
            settings = self.space.draw(self.source)
            self.num_drawn = index + 1
            if index >= num_before:
                yield settings

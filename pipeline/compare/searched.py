"""What a comparison searched before it compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.compare.plan import Comparison


@dataclass(frozen=True)
class Searched:
    """What was tried for each variant before it was compared, each in one run of ``tokens``.

    If there are ``num_finalists`` above 1, so many of the best were then trained as whole runs of ``final_tokens`` with
    ``final_seed``.
    """

    draws: Sequence[Mapping[str, Any]]
    tokens: int
    num_finalists: int = 1
    final_seed: int = 0
    final_tokens: int = 0

    @property
    def paths(self) -> list[str]:
        """The settings that were searched."""
        return list(dict.fromkeys(path for draw in self.draws for path in draw))


def searched_of(comparison: Comparison) -> Searched | None:
    """What was searched; None: nothing."""
    if comparison.search is None:
        return None
    first_seed = comparison.compare.seeds[0]
    longest = comparison.lengths[-1]
    return Searched(comparison.draws, comparison.search_tokens, comparison.num_finalists, first_seed, longest)

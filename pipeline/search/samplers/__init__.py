"""The settings of new trials: ``search.algorithm`` by name.

Each draw is a function of (``search.seed``, the number of the draw, the journal), and of nothing else: a sampler may
remember what it has computed, never what it has done.
"""

from __future__ import annotations

from pipeline.config import SearchConfig
from pipeline.search.samplers.base import Sampler
from pipeline.search.samplers.grid import Grid
from pipeline.search.samplers.random import Random
from pipeline.search.space import Space

__all__ = ["ALGORITHMS", "Sampler", "sampler_of"]

ALGORITHMS = ("random", "grid", "tpe")


def sampler_of(settings: SearchConfig, space: Space) -> Sampler:
    """The sampler of a search. Raises ``UserError`` if something it needs is missing."""
    if settings.algorithm == "tpe":
        from pipeline.search.samplers.tpe import Tpe  # imports Optuna

        return Tpe(settings, space)
    return (Grid if settings.algorithm == "grid" else Random)(settings, space)

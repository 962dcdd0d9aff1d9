"""Benchmarks of the field, each in its own published layout: a folder → what a model makes of it, group by group.

``base`` says what a benchmark offers. ``BENCHMARKS`` has them by the names that the command line knows; ``published``
has the figures of others.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import UserError
from pipeline.evaluate.benchmarks.agreement import Agreement
from pipeline.evaluate.benchmarks.babylm import BabyLM
from pipeline.evaluate.benchmarks.base import Benchmark, Figure, Outcome, Scorer
from pipeline.evaluate.benchmarks.blimp import Blimp, BlimpOnePrefix, BlimpTwoPrefix
from pipeline.evaluate.benchmarks.marvin_linzen import MarvinLinzen
from pipeline.evaluate.benchmarks.natural_stories import NaturalStories
from pipeline.evaluate.benchmarks.published import Published, published
from pipeline.evaluate.benchmarks.syntaxgym import SyntaxGym

KINDS: tuple[type[Benchmark], ...] = (
    Blimp, BlimpOnePrefix, BlimpTwoPrefix, SyntaxGym, Agreement, MarvinLinzen, NaturalStories, BabyLM,
)  # fmt: skip
BENCHMARKS = {kind.name: kind for kind in KINDS}


def read_benchmark(named: str) -> Benchmark:
    """The benchmark of ``NAME=FOLDER``. Raises ``UserError`` if there is none of the name, or not in the folder."""
    name, _, folder = named.partition("=")
    if name not in BENCHMARKS or not folder:
        raise UserError(
            f"{named}: is no NAME=FOLDER with one of the names {', '.join(BENCHMARKS)}", argument="benchmark"
        )
    return BENCHMARKS[name].read(Path(folder).expanduser())


__all__ = ["BENCHMARKS", "Benchmark", "Figure", "Outcome", "Published", "Scorer", "published", "read_benchmark"]

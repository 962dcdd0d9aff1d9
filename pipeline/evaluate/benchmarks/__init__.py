"""Benchmarks of the field, each in its own published layout: a folder → how a model does on it, group by group.

``base`` defines what a benchmark offers. ``BENCHMARKS`` has them by their names on the command line; ``published`` has
published figures.
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
    """Read the benchmark of ``NAME=FOLDER``. Raises ``UserError`` if the name or the folder does not have one."""
    name, _, folder = named.partition("=")
    if name not in BENCHMARKS or not folder:
        raise UserError(
            f"{named}: is not NAME=FOLDER with one of the names {', '.join(BENCHMARKS)}", argument="benchmark"
        )
    return BENCHMARKS[name].read(Path(folder).expanduser())


__all__ = ["BENCHMARKS", "Benchmark", "Figure", "Outcome", "Published", "Scorer", "published", "read_benchmark"]

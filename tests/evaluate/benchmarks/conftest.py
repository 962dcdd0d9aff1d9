"""Samples of the benchmarks in their published layouts."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests import benchmark_samples as samples


@pytest.fixture
def sample(tmp_path: Path) -> Callable[[str], Path]:
    """A function: the name of a benchmark → the folder of its freshly written sample."""

    def written(name: str) -> Path:
        samples.SAMPLES[name](tmp_path / name)
        return tmp_path / name

    return written

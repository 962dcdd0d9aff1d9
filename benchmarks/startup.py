"""From the command to the first training step, with Ray and in this process: ``python benchmarks/startup.py``.

The corpus is prepared before; one worker, no dashboard. Each variant runs ``--repeat`` times, taking turns.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pipeline.training.monitor import read

GOALS = {"ray": 15.0, "local": 5.0}


def command(folder: Path, backend: str, run: str) -> list[str]:
    settings = {
        "corpus.train": "builtin:python-docs",
        "tokenizer.kind": "char",
        "data.directory": folder / "data",
        "run.directory": folder / run,
        "run.sample_tokens": 0,
        "model.hidden_size": 64,
        "train.max_steps": 20,
        "cluster.backend": backend,
    }
    return [sys.executable, "-m", "jobs.train", *(f"{name}={value}" for name, value in settings.items())]


def measure(folder: Path, backend: str, run: str) -> tuple[float, float]:
    """(seconds to the first step, seconds from the last step to the end of the command)."""
    started = time.time()
    subprocess.run(command(folder, backend, run), check=True, capture_output=True)
    ended = time.time()
    records = list(read(folder / run / "metrics.jsonl"))
    first = next(record["time"] for record in records if record["kind"] == "running")
    last = max(record["time"] for record in records if record["kind"] == "train")
    return first - started, ended - last


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    figures: dict[str, list[tuple[float, float]]] = {backend: [] for backend in GOALS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measure(folder, "local", "prepare")
        for repeat in range(arguments.repeat):
            for backend in GOALS:
                figures[backend].append(measure(folder, backend, f"{backend}-{repeat}"))
    print(f"{'backend':>8}  {'to the first step (s)':>22}  {'goal':>5}  {'last step to end (s)':>21}")
    for backend, goal in GOALS.items():
        first, end = (statistics.median(column) for column in zip(*figures[backend], strict=True))
        print(f"{backend:>8}  {first:>22.1f}  {goal:>5.0f}  {end:>21.1f}")


if __name__ == "__main__":
    main()

"""From the command to the first training step, with Ray and in this process: ``python benchmarks/startup.py``.

The corpus is prepared before; one worker, no dashboard. Each variant runs ``--repeat`` times, taking turns. ``bare``
is the least that Ray Train can take on the machine: a fit whose training function only looks at the clock.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.training.monitor import read

GOALS = {"ray": 15.0, "local": 5.0}
BARE_FIT = """
import sys, time
from pathlib import Path
import ray
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
TorchTrainer(
    lambda folder: Path(folder["path"], "bare-first").write_text(str(time.time())),
    train_loop_config={"path": sys.argv[1]},
    scaling_config=ScalingConfig(num_workers=1),
    run_config=RunConfig(storage_path=sys.argv[1], name="bare-fit"),
).fit()
"""


def command(folder: Path, backend: str, run: str, changes: Mapping[str, Any] | None = None) -> list[str]:
    """``jobs.train`` of a small model on a corpus in ``folder``, with some settings changed."""
    settings = {
        "corpus.train": "builtin:python-docs",
        "tokenizer.kind": "char",
        "data.directory": folder / "data",
        "run.directory": folder / run,
        "run.sample_tokens": 0,
        "model.hidden_size": 64,
        "train.max_steps": 20,
        "cluster.backend": backend,
        **(changes or {}),
    }
    shown = {name: "null" if value is None else value for name, value in settings.items()}
    return [sys.executable, "-m", "jobs.train", *(f"{name}={value}" for name, value in shown.items())]


def measure(folder: Path, backend: str, run: str) -> tuple[float, float]:
    """(seconds to the first step, seconds from the last step to the end of the command)."""
    started = time.time()
    subprocess.run(command(folder, backend, run), check=True, capture_output=True)
    ended = time.time()
    records = list(read(folder / run / "metrics.jsonl"))
    first = next(record["time"] for record in records if record["kind"] == "running")
    last = max(record["time"] for record in records if record["kind"] == "train")
    return first - started, ended - last


def measure_bare(folder: Path) -> tuple[float, float]:
    """As ``measure``, of a fit that does nothing."""
    started = time.time()
    subprocess.run([sys.executable, "-c", BARE_FIT, str(folder)], check=True, capture_output=True)
    ended = time.time()
    first = float((folder / "bare-first").read_text())
    return first - started, ended - first


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in ("bare", *GOALS)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measure(folder, "local", "prepare")
        for repeat in range(arguments.repeat):
            figures["bare"].append(measure_bare(folder))
            for backend in GOALS:
                figures[backend].append(measure(folder, backend, f"{backend}-{repeat}"))
    print(f"{'backend':>8}  {'to the first step (s)':>22}  {'goal':>5}  {'last step to end (s)':>21}")
    for backend, measured in figures.items():
        first, end = (statistics.median(column) for column in zip(*measured, strict=True))
        print(f"{backend:>8}  {first:>22.1f}  {GOALS.get(backend, ''):>5}  {end:>21.1f}")


if __name__ == "__main__":
    main()

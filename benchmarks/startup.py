"""From the command to the first training step, with Ray and in this process: ``python benchmarks/startup.py``.

The corpus is prepared beforehand; one worker, no dashboard. Each variant runs ``--repeat`` times, in turns. ``bare`` is
the time of Ray Train itself: a fit whose training function only reads the clock. ``--before TREE`` adds another
checkout of this project, ``--priority`` runs all variants at a niceness, which Ray's workers have in all of them.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.training.monitor import read

TREE = Path(__file__).resolve().parent.parent
GOAL = 0.62  # of a bare fit, with Ray
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


def measure(folder: Path, backend: str, run: str, *, tree: Path = TREE) -> tuple[float, float]:
    """(seconds to the first step, seconds from the last step to the end of the command), by the code in ``tree``."""
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    started = time.time()
    # a single thread: two that wait for each other stall when other work runs
    words = command(folder, backend, run, {"cluster.cpus_per_worker": 1})
    subprocess.run(words, check=True, capture_output=True, cwd=tree, env=environment)
    ended = time.time()
    records = list(read(folder / run / "metrics.jsonl"))
    first = next(record["time"] for record in records if record["kind"] == "running")
    last = max(record["time"] for record in records if record["kind"] == "train")
    return first - started, ended - last


def measure_bare(folder: Path) -> tuple[float, float]:
    """The same as ``measure`` for a fit that does nothing."""
    started = time.time()
    subprocess.run([sys.executable, "-c", BARE_FIT, str(folder)], check=True, capture_output=True)
    ended = time.time()
    first = float((folder / "bare-first").read_text())
    return first - started, ended - first


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--before", type=Path, metavar="TREE", help="another checkout, measured in turns")
    parser.add_argument("--priority", type=int, default=0, metavar="N", help="run at niceness N")
    arguments = parser.parse_args()
    os.nice(arguments.priority)
    os.environ.update(RAY_worker_niceness="0")  # otherwise Ray adds 15, and its workers stall when other work runs
    trees = {"": TREE, **({" before": arguments.before.resolve()} if arguments.before else {})}
    figures: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measure(folder, "local", "prepare")
        for repeat in range(arguments.repeat):
            figures.setdefault("bare", []).append(measure_bare(folder))
            for backend, (when, tree) in itertools.product(("ray", "local"), trees.items()):
                measured = measure(folder, backend, f"{backend}{when}-{repeat}".replace(" ", "-"), tree=tree)
                figures.setdefault(backend + when, []).append(measured)
            print(" · ".join(f"{what} {measured[-1][0]:.1f}" for what, measured in figures.items()), flush=True)
    medians = {
        what: [statistics.median(column) for column in zip(*measured, strict=True)]
        for what, measured in figures.items()
    }
    print(f"{'':>12}  {'to the first step (s)':>22}  {'of bare':>8}  {'last step to end (s)':>21}")
    for what, (first, end) in medians.items():
        print(f"{what:>12}  {first:>22.1f}  {first / medians['bare'][0]:>8.2f}  {end:>21.1f}")
    print(f"goal: with Ray at most {GOAL} of bare")


if __name__ == "__main__":
    main()

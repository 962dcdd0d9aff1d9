"""Training with several workers: what Ray costs, and how fast it recovers: ``python benchmarks/distributed.py ROW …``.

    steps        steps through Ray Train compared with the same loop under torchrun (``--workers 2``: on both cores; 1:
                 a core to spare). Both are started and take turns: while one runs, the other's processes are stopped.
    end          from the last step to the end of the command, alongside a Ray fit that does nothing
    checkpoint   what a checkpoint of 24 million parameters costs the training thread, as a share of a minute
    worker       from the kill of one of two workers to the next step, alongside a bare fit's start-up
    node         the same for a node of a two-node cluster, with a replacement

Every row prints its goal.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from commands import Command, training
from startup import command, measure, measure_bare

from pipeline import config as configuration
from pipeline import resources, run
from pipeline.data.shards import open_prepared
from pipeline.training.directory import RunDirectory
from pipeline.training.loop import train_on
from pipeline.training.monitor import Record, read

GOALS = {"steps": {1: 2.5, 2: 5.0}, "end": 3.0, "checkpoint": 5.0, "worker": 10.0, "node": 25.0}
# a turn of each side, and the part at its beginning that is left out
TURN_SECONDS, WAKE_SECONDS = 3.0, 0.4
ENDLESS = {"train.max_steps": None, "train.epochs": 100_000, "optimizer.schedule": "constant"}


def row(what: str, figure: str, goal: object) -> None:
    print(f"{what:<58}  {figure:>24}  goal {goal}", flush=True)


def measure_steps(folder: Path, *, num_workers: int, turns: int) -> None:
    """The extra time of a step through Ray Train, in per cent of a step under torchrun."""
    settings = {
        **ENDLESS,
        "model.hidden_size": 256,
        "train.batch_size": 16,
        "train.log_every_steps": 4,
        "cluster.num_workers": num_workers,
        "cluster.cpus_per_worker": 1,
    }
    ray = command(folder, "ray", f"ray-{num_workers}", settings)
    plain = command(folder, "ray", f"torchrun-{num_workers}", settings)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(num_workers), __file__]
    plain = [sys.executable, *launcher, "rank", *plain[3:]]
    with (
        training(ray, folder / f"ray-{num_workers}") as by_ray,
        training(plain, folder / f"torchrun-{num_workers}") as by_torchrun,
    ):
        sides = [by_ray, by_torchrun]
        for side in sides:
            side.wait_for(lambda record: record["kind"] == "train")
        extra = []
        for _ in range(turns):
            ours, theirs = (seconds_per_step(side, sides) for side in sides)
            extra.append(100 * (ours / theirs - 1))
    low, middle, high = statistics.quantiles(extra, n=4)
    row(
        f"step through Ray Train over torchrun, {num_workers} worker(s)",
        f"{middle:+.1f} % ({low:+.1f} to {high:+.1f})",
        f"{GOALS['steps'][num_workers]} %",  # type: ignore[index]
    )
    least, most = median_interval(extra)
    print(f"    {theirs * 1000:.1f} ms a step under torchrun; {turns} turns of {TURN_SECONDS:g} s each, quartiles")
    print(f"    the median is between {least:+.1f} and {most:+.1f} % in 19 of 20 such runs")


def median_interval(values: list[float]) -> tuple[float, float]:
    """The 95 % interval of the median from the sorted ``values``: the number that lie below the median is binomial."""
    ordered = sorted(values)
    beyond = max(0, int(len(ordered) / 2 - 0.98 * len(ordered) ** 0.5))
    return ordered[beyond], ordered[-1 - beyond]


def seconds_per_step(side: Command, sides: list[Command]) -> float:
    """Let ``side`` alone run for a turn; return the time of its steps."""
    for other in sides:
        other.signal_all(signal.SIGCONT if other is side else signal.SIGSTOP)
    began = time.time() + WAKE_SECONDS
    time.sleep(TURN_SECONDS)
    steps = [(r["time"], r["step"]) for r in read(side.metrics) if r["kind"] == "train" and r["time"] > began]
    (first_time, first), (last_time, last) = steps[0], steps[-1]
    return (last_time - first_time) / (last - first)


def train_as_rank(overrides: list[str]) -> None:
    """Run the loop of ``pipeline.run`` as one rank, with nothing around it: this is what torchrun starts."""
    config = configuration.load(None, overrides)
    torch.distributed.init_process_group("gloo")
    worker = resources.Worker(
        device=torch.device("cpu"),
        num_threads=1,
        rank=torch.distributed.get_rank(),
        world_size=torch.distributed.get_world_size(),
    )
    run.train(config, worker)


def measure_end(folder: Path, *, repeat: int) -> None:
    ends = [measure(folder, "ray", f"end-{index}")[1] for index in range(repeat)]
    bare = [measure_bare(folder)[1] for _ in range(repeat)]
    row("last step to the end of the command", f"{statistics.median(ends):.1f} s", f"{GOALS['end']:g} s")
    print(f"    all: {', '.join(f'{end:.1f}' for end in ends)}; a bare fit: {', '.join(f'{end:.1f}' for end in bare)}")


def measure_checkpoint(folder: Path, *, repeat: int) -> None:
    """The time in ``save``, and how much slower the steps are while the other thread writes."""
    settings = {"model.hidden_size": 1228, "model.num_layers": 2, "train.batch_size": 4, "train.bptt": 8}
    overrides = command(folder, "local", "checkpoint", {**ENDLESS, **settings})[3:]
    config = configuration.load(None, overrides)
    torch.set_num_threads(1)
    corpus = open_prepared(config.data.directory)
    model = run.build_model(config, corpus.vocab_size)
    directory = RunDirectory(str(config.run.directory))
    worker = resources.Worker(torch.device("cpu"), 1)
    loop = run.build_loop(config, worker, corpus, run.build_state(config, worker, corpus, model), directory)
    windows = loop.data.windows(0, epoch=0)

    def step() -> float:
        started = time.perf_counter()
        train_on(loop, next(windows))
        return time.perf_counter() - started

    usual = statistics.median([step() for _ in range(12)][2:])
    costs, copies = [], []
    for _ in range(repeat):
        started = time.perf_counter()
        loop.checkpoints.save(loop, {})
        copies.append(time.perf_counter() - started)
        slower = 0.0
        while loop.checkpoints.thread.is_alive():
            slower += step() - usual
        costs.append(copies[-1] + slower)
    cost = statistics.median(costs)
    millions = model.num_parameters / 1e6
    row(
        f"a checkpoint of {millions:.1f} million parameters, each minute",
        f"{cost:.2f} s, {100 * cost / 60:.1f} %",
        f"{GOALS['checkpoint']:g} %",
    )
    copied = statistics.median(copies)
    print(f"    of it {copied:.2f} s the copy, the rest slower steps while it is written; usual step {usual:.3f} s")


def measure_worker(folder: Path, *, repeat: int) -> None:
    def kill(started: Record) -> None:
        os.kill(started["pid"], signal.SIGKILL)

    measure_kills("worker", folder, {"cluster.num_workers": 2, "cluster.cpus_per_worker": 1}, kill, repeat)


def measure_node(folder: Path, *, repeat: int) -> None:
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    small: dict[str, Any] = {"include_dashboard": False, "object_store_memory": 100 << 20}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **small})
    nodes = []

    def add_node() -> None:
        nodes.append(cluster.add_node(num_cpus=1, object_store_memory=100 << 20))

    def kill(started: Record) -> None:
        cluster.remove_node(nodes.pop(), allow_graceful=False)
        add_node()

    try:
        add_node()
        add_node()
        measure_kills("node", folder, {"cluster.num_workers": 2, "cluster.address": cluster.address}, kill, repeat)
    finally:
        cluster.shutdown()


def measure_kills(
    what: str, folder: Path, workers: dict[str, Any], kill: Callable[[Record], None], repeat: int
) -> None:
    """Kill a part of a run again and again, each time a few seconds after the run continued."""
    settings = {**ENDLESS, **workers, "train.checkpoint_every_steps": 50, "train.log_every_steps": 5}
    settings["cluster.max_failures"] = 10 * repeat
    recoveries, killed = [], 0.0
    with training(command(folder, "ray", what, settings), folder / what) as trained:
        for _ in range(repeat):
            trained.wait_for(lambda record: record["kind"] == "running" and record["time"] > killed)  # noqa: B023
            started = trained.wait_for(lambda record: record["kind"] == "start" and record["time"] > killed)  # noqa: B023
            time.sleep(3)
            killed = time.time()
            kill(started)
            recoveries.append(recovery(trained, killed))
    median = {name: statistics.median(one[name] for one in recoveries) for name in recoveries[0]}
    row(f"a killed {what}: kill to next step", f"{median['step']:.1f} s", f"{GOALS[what]:g} s")
    print(f"    all: {', '.join(format(one['step'], '.1f') for one in recoveries)}")
    print(f"    noticed after {median['noticed']:.1f} s, the new workers' parts built after {median['built']:.1f} s")
    print(f"    a bare Ray Train fit, command to first line: {measure_bare(folder)[0]:.1f} s")


def recovery(trained: Command, killed: float) -> dict[str, float]:
    """Seconds from ``killed`` until the failure was noticed, new workers had built their parts, and made a step."""
    end = trained.wait_for(lambda record: record["kind"] == "running" and record["time"] > killed)
    starts = [r["time"] for r in read(trained.metrics) if r["kind"] == "start" and killed < r["time"] <= end["time"]]
    noticed = [r["time"] for r in read(trained.metrics.with_name("failures.jsonl")) if r["time"] > killed]
    return {"noticed": min(noticed) - killed, "built": starts[-1] - killed, "step": end["time"] - killed}


def main() -> None:
    if sys.argv[1:2] == ["rank"]:
        train_as_rank(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="+", choices=list(GOALS))
    parser.add_argument("--workers", type=int, choices=[1, 2], default=2, help="of the row steps")
    parser.add_argument("--turns", type=int, default=12, help="of the row steps")
    parser.add_argument("--repeat", type=int, default=3, help="of the other rows")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measure(folder, "local", "prepare")
        for wanted in arguments.rows:
            if wanted == "steps":
                measure_steps(folder, num_workers=arguments.workers, turns=arguments.turns)
            else:
                globals()[f"measure_{wanted}"](folder, repeat=arguments.repeat)


if __name__ == "__main__":
    main()

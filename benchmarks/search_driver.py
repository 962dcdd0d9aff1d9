"""The driver's cost in a search compared with Ray's own: 300 trials that read a curve instead of training, on Ray Tune.

    python benchmarks/search_driver.py                       # goal: at most twice Ray's FIFO; memory flat

``ours`` is what ``jobs.search`` runs with ``tpe`` and ``asha``: the engine and the journal on top of Ray Tune. ``fifo``
is a class trainable under Ray's FIFOScheduler with random draws, whose trials each report as often as a whole one of
ours; both reuse processes. The seconds are CPU seconds of the driver alone. Memory is the driver's resident set after
each third of the trials. Each side runs in its own process.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ray
from ray import tune

from pipeline import config as configuration
from pipeline.cluster.tuning import Conductor, conduct
from pipeline.search.candidates import Candidates
from pipeline.search.engine import Engine
from pipeline.search.journal import Journal, begin_journal, read_journal
from pipeline.search.space import check_space
from pipeline.search.standing import DONE, Trial
from pipeline.training.directory import RunDirectory
from pipeline.training.loop import INTERRUPTED, LeaveError

BUDGET, POINTS, SLOTS = 9000, (1000, 3000, 9000), 2
SPACE = {
    "optimizer.lr": {"loguniform": [1e-3, 1e-1]},
    "model.hidden_size": {"qrandint": [64, 256, 32]},
    "train.bptt": [8, 16, 32, 64],
}


def losses(rate: float, hidden_size: int) -> Iterator[dict[str, Any]]:
    """A synthetic curve: what a trial with these settings reports at each of ``POINTS``."""
    end = 1.2 + math.log(rate / 0.02) ** 2 / 10 + abs(hidden_size - 200) / 200
    for tokens in POINTS:
        loss = end + 1000 / tokens
        yield {"tokens": tokens, "loss": loss, "perplexity": math.exp(loss), "seconds": 0.0}


class ReadsCurves:
    """Takes the place of ``Runner``: it reports the curve of a trial instead of training it."""

    def run(self, trial: Trial, report: Callable[[dict[str, Any]], None], *, after_tokens: int = 0) -> dict[str, Any]:
        try:
            for figures in losses(trial.settings["optimizer.lr"], trial.settings["model.hidden_size"]):
                if figures["tokens"] > after_tokens:
                    report(figures)
        except LeaveError:
            return {"ended": INTERRUPTED, "reason": "", "tokens": 0}
        return {"ended": DONE, "reason": "", "tokens": BUDGET}


class Plain(tune.Trainable):
    """The same under Ray's own scheduler."""

    def setup(self, config: dict[str, Any]) -> None:
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.left = losses(new_config["lr"], new_config["hidden_size"])
        return True

    def step(self) -> dict[str, Any]:
        figures = next(self.left)
        return {**figures, "done": figures["tokens"] == BUDGET}

    def save_checkpoint(self, checkpoint_dir: str) -> None: ...

    def load_checkpoint(self, checkpoint: Any) -> None: ...


def resident_megabytes() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


class Memory:
    """Resident megabytes of this process after each third of the trials."""

    def __init__(self, num_trials: int) -> None:
        self.every, self.seen, self.megabytes = max(1, num_trials // 3), 0, list[float]()

    def count(self, number: int) -> None:
        while self.seen < number:
            self.seen += 1
            if self.seen % self.every == 0:
                self.megabytes.append(resident_megabytes())


def ours(num_trials: int, folder: Path, memory: Memory) -> None:
    changes = {"search.space": SPACE, "search.num_trials": num_trials, "search.algorithm": "tpe"}
    config = configuration.with_values(configuration.load(), changes)
    directory = RunDirectory(str(folder / "search"))
    with directory.locked():
        begin_journal(directory.path, [])
        conductor = Conductor(
            lambda journal: Engine(
                config.search, check_space(config), BUDGET, records=read_journal(directory.path),
                write=journal.append, candidates=Candidates(),
            ),
            Journal(directory),
            most_at_once=lambda: SLOTS,
            max_failures=0,
            after_leg=lambda standing: memory.count(len(standing.trials)),
        )  # fmt: skip
        conduct(conductor, ReadsCurves(), {"CPU": 1}, folder / "ray", reuse_actors=True)  # type: ignore[arg-type]


def fifo(num_trials: int, folder: Path, memory: Memory) -> None:
    class Counts(tune.Callback):
        num_ended = 0

        def on_trial_complete(self, *arguments: Any, **more: Any) -> None:
            self.num_ended += 1
            memory.count(self.num_ended)

    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    tune.Tuner(
        tune.with_resources(Plain, {"CPU": 1}),
        param_space={
            "lr": tune.loguniform(1e-3, 1e-1), "hidden_size": tune.qrandint(64, 256, 32),
            "bptt": tune.choice([8, 16, 32, 64]),
        },
        tune_config=tune.TuneConfig(num_samples=num_trials, max_concurrent_trials=SLOTS, reuse_actors=True),
        run_config=tune.RunConfig(storage_path=str(folder), verbose=0, callbacks=[Counts()]),
    ).fit()  # fmt: skip


SIDES = {"ours": ours, "fifo": fifo}


def measure(side: str, num_trials: int) -> dict[str, Any]:
    """The driver's seconds and memory of one side, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        ray.init(num_cpus=SLOTS, include_dashboard=False, log_to_driver=False)
        memory = Memory(num_trials)
        cpu, wall = time.process_time(), time.monotonic()
        SIDES[side](num_trials, Path(folder), memory)
        seconds, wall = time.process_time() - cpu, time.monotonic() - wall
        ray.shutdown()
    return {"side": side, "seconds": round(seconds, 2), "wall": round(wall, 1), "megabytes": memory.megabytes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(measure(arguments.side, arguments.trials)))
        return
    found = {}
    for side in SIDES:
        command = [sys.executable, __file__, "--side", side, "--trials", str(arguments.trials)]
        output = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
        found[side] = json.loads(output.stdout.splitlines()[-1])
        print(f"{side}: {found[side]['seconds']} s of the driver ({found[side]['wall']} s in all), "
              f"{found[side]['megabytes']} MB", flush=True)  # fmt: skip
    print(f"ours / fifo: {found['ours']['seconds'] / found['fifo']['seconds']:.2f} (goal: at most 2)")


if __name__ == "__main__":
    main()

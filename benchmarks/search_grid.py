"""Records the curves that ``search.py`` replays: 64 trials of a grid on the characters of War and Peace.

    python benchmarks/search_grid.py --corpus FOLDER        # with train.txt and valid.txt; continues where it stopped

Four learning rates, hidden sizes and BPTT lengths each, one layer of LSTM, 2,592,000 characters a trial (a little more
than one epoch). ``search_grid.csv`` gets one row a trial as it ends: its settings, its seconds, and its validation loss
in nats per character at each of ``POINTS``, which include the rungs of reduction factors 2, 3 and 4. If a trial's loss
is no longer finite, its cells are empty from there on. All trials run in this process, on one thread.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

from pipeline import config as configuration
from pipeline import resources, run
from pipeline.config import Config
from pipeline.data.prepare import prepare_in_process
from pipeline.training.guard import TrainingStoppedError

CURVES = Path(__file__).with_suffix(".csv")
BUDGET = 2_592_000
SPACE: dict[str, list[Any]] = {
    "optimizer.lr": [0.003, 0.01, 0.03, 0.1],
    "model.hidden_size": [64, 96, 160, 256],
    "train.bptt": [8, 16, 32, 64],
}
EVEN, RUNGS = [Fraction(k, 27) for k in range(1, 28)], [Fraction(1, k) for k in (2, 4, 8, 16, 32, 64, 81)]
SHARES = {*EVEN, *RUNGS, Fraction(3, 4)}
POINTS = sorted(int(BUDGET * share) for share in SHARES)
VALIDATION_CHARACTERS = 32_768
SETTINGS = {
    "tokenizer.kind": "char",
    "model.num_layers": 1,
    "model.embedding_size": 64,
    "model.embedding_range": 0.1,  # the initialisation that the recorded figures were measured with
    "model.input_gain": 1.0,
    "train.batch_size": 64,
    "train.epochs": 2,
    "train.max_tokens": BUDGET,
    "train.evaluate_every_steps": 10**9,  # at POINTS only
    "train.clip_norm": 1.0,
    "optimizer.name": "adamw",
    "optimizer.schedule": "cosine",
    "optimizer.warmup_steps": 20,
    "evaluate.streams": 64,
    "run.sample_tokens": 0,
    "cluster.backend": "local",
    "cluster.cpus_per_worker": 1,
}


def main() -> None:
    arguments = parse()
    with tempfile.TemporaryDirectory() as scratch:
        config = prepared(arguments.corpus, Path(scratch), SETTINGS | dict(arguments.changes))
        for settings in grid(arguments.only):
            if tuple(settings.values()) not in recorded(arguments.output):
                record(arguments.output, settings, *curve(config, settings))


def grid(only: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The settings of each trial; ``only`` fixes some of their values."""
    values = {path: [only[path]] if path in only else values for path, values in SPACE.items()}
    return (dict(zip(values, drawn, strict=True)) for drawn in product(*values.values()))


def prepared(corpus: Path, scratch: Path, settings: Mapping[str, Any]) -> Config:
    """The configuration of a trial before its own settings, with its corpus prepared."""
    valid = scratch / "valid.txt"
    text = (corpus / "valid.txt").read_text(encoding="utf-8")[:VALIDATION_CHARACTERS]
    valid.write_text(text, encoding="utf-8")
    own = {
        "corpus.train": [str(corpus / "train.txt")],
        "corpus.valid": [str(valid)],
        "data.directory": str(scratch / "data"),
        "run.directory": str(scratch / "run"),
    }
    config = configuration.with_values(configuration.load(), {**settings, **own})
    prepare_in_process(config)
    return config


def curve(config: Config, settings: Mapping[str, Any]) -> tuple[float, list[float]]:
    """Seconds of the trial, and its losses at those of ``POINTS`` that it reached."""
    shutil.rmtree(str(config.run.directory), ignore_errors=True)
    losses: list[float] = []
    started = time.monotonic()
    try:
        run.train(
            configuration.with_values(config, settings),
            resources.Worker(resources.resolve_device("cpu"), num_threads=1),
            report=lambda figures: losses.append(figures["loss"]),
            evaluate_at_tokens=POINTS,
        )
    except TrainingStoppedError as error:
        print(f"{settings}: {error}")
    return time.monotonic() - started, losses


def recorded(path: Path) -> dict[tuple[Any, ...], list[float]]:
    """Settings → losses of the trials in the file so far."""
    if not path.exists():
        return {}
    with path.open(newline="") as stream:
        header, *rows = csv.reader(stream)
    assert header == ["optimizer.lr", "model.hidden_size", "train.bptt", "seconds", *map(str, POINTS)]
    return {
        (float(lr), int(hidden_size), int(bptt)): [float(loss) for loss in losses if loss]
        for lr, hidden_size, bptt, _, *losses in rows
    }


def record(path: Path, settings: Mapping[str, Any], seconds: float, losses: list[float]) -> None:
    """Append a row, in one write."""
    cells = [*settings.values(), f"{seconds:.1f}", *(f"{loss:.5f}" for loss in losses)]
    cells += [""] * (len(POINTS) - len(losses))
    lines = ",".join(map(str, cells)) + "\n"
    if not path.exists():
        lines = ",".join([*settings, "seconds", *map(str, POINTS)]) + "\n" + lines
    with path.open("a") as stream:
        stream.write(lines)
    print(f"{settings}: {losses[-1] if losses else 'no loss'} after {seconds:.1f} s", flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="a folder with train.txt and valid.txt")
    parser.add_argument("--output", type=Path, default=CURVES)
    parser.add_argument("--only", nargs="*", type=setting, default=[], help="section.field=value of the grid")
    parser.add_argument("--changes", nargs="*", type=setting, default=[], help="section.field=value of all trials")
    arguments = parser.parse_args()
    arguments.only = dict(arguments.only)
    return arguments


def setting(text: str) -> tuple[str, Any]:
    import yaml

    path, _, value = text.partition("=")
    return path, yaml.safe_load(value)


if __name__ == "__main__":
    main()

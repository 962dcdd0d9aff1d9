"""Whole jobs of this commit compared with those of another, in turns: nothing may get slower.

    python benchmarks/before.py --before CHECKOUT --corpus FOLDER --folder DIR            # with train.txt and valid.txt

``step-small`` and ``step-characters`` are windows of ``training_step.py``. The others call the ``main`` of a job in a
process that has already loaded everything: ``prepare-bytes`` and ``prepare-lines`` of six copies of the text,
``prepare-bpe``, and ``evaluate`` and ``generate`` on a small run that the other commit has trained. The table says how
many times as fast as the other this commit is: by the medians, by the fastest, and by the median of each round's ratio.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from turns import Rounds, in_turns, median_seconds, serve, take_turns, times_as_fast

NOW, BEFORE = "now", "before"
JOBS = ("prepare-bytes", "prepare-lines", "prepare-bpe", "evaluate", "generate")
STEPS = {"step-small": "small", "step-characters": "characters"}
COPIES = 6
RUN = {
    "tokenizer.kind": "bpe", "tokenizer.vocab_size": 2000, "model.hidden_size": 256, "model.num_layers": 2,
    "train.max_steps": 30, "run.sample_tokens": 0,
}  # fmt: skip


def texts(arguments: argparse.Namespace) -> tuple[Path, Path, Path]:
    """The training text, six copies of it, and the validation text."""
    corpus, copies = arguments.corpus, arguments.folder / "copies.txt"
    if not copies.exists():
        copies.write_bytes((corpus / "train.txt").read_bytes() * COPIES)
    return corpus / "train.txt", copies, corpus / "valid.txt"


def command_of(arguments: argparse.Namespace, what: str) -> tuple[str, list[str], Path]:
    """The job, its arguments, and the folder that must be empty before each round."""
    train, copies, valid = texts(arguments)
    run, out = arguments.folder / "run", arguments.folder / f"{what} {arguments.worker}"
    if what == "evaluate":
        return what, ["--run", str(run)], out
    if what == "generate":
        return what, ["--run", str(run), "--tokens", "1500", "--seed", "1"], out
    settings = {"corpus.valid": valid, "data.directory": out, "cluster.backend": "local"}
    settings |= {"corpus.train": train if what == "prepare-bpe" else copies, "tokenizer.kind": "byte"}
    if what == "prepare-bpe":
        settings |= {"tokenizer.kind": "bpe", "tokenizer.vocab_size": 2000}
    if what == "prepare-lines":
        settings["corpus.document"] = "line"
    return "prepare", [f"{name}={value}" for name, value in settings.items()], out


def round_of(arguments: argparse.Namespace, what: str) -> Callable[[], float]:
    """What a worker does in a round."""
    job, argv, out = command_of(arguments, what)
    module = importlib.import_module(f"jobs.{job}")

    def work() -> float:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            module.main(argv)
        shutil.rmtree(out, ignore_errors=True)
        return 0.0

    return work


def train_before(arguments: argparse.Namespace) -> None:
    """Train a small run with the other commit, which both open."""
    train, _, valid = texts(arguments)
    run = arguments.folder / "run"
    if run.exists():
        return
    settings = {"corpus.train": train, "corpus.valid": valid, "data.directory": arguments.folder / "data"}
    settings |= {"run.directory": run, "cluster.backend": "local", **RUN}
    command = [sys.executable, "-m", "jobs.train", *(f"{name}={value}" for name, value in settings.items())]
    environment = {**os.environ, "PYTHONPATH": str(arguments.before)}
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)


def steps_in_turns(arguments: argparse.Namespace, model: str) -> dict[str, Rounds]:
    """Windows of both commits' own ``training_step.py``."""
    checkouts = {NOW: Path(__file__).parents[1], BEFORE: arguments.before.resolve()}
    options = ["--model", model, "--threads", "1", "--worker", "ours"]
    return in_turns(
        {name: [sys.executable, str(tree / "benchmarks" / "training_step.py"), *options]
         for name, tree in checkouts.items()},
        rounds=arguments.windows,
        warm_up=3,
        environments={name: {**os.environ, "PYTHONPATH": str(tree)} for name, tree in checkouts.items()},
    )  # fmt: skip


def show(what: str, rounds: dict[str, Rounds]) -> None:
    ratios = " | ".join(f"{ratio:.3f}" for ratio in times_as_fast(rounds[NOW], rounds[BEFORE]))
    print(f"| {what} | {median_seconds(rounds[NOW]):.3f} | {ratios} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", choices=[*STEPS, *JOBS, []], default=[])
    parser.add_argument("--before", required=True, type=Path, help="a checkout of another commit")
    parser.add_argument("--corpus", required=True, type=Path, help="a folder with train.txt and valid.txt")
    parser.add_argument("--folder", required=True, type=Path, help="for the files made here")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--windows", type=int, default=40)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        sys.path.insert(0, str(arguments.before if arguments.worker == BEFORE else Path(__file__).parents[1]))
        serve(round_of(arguments, arguments.what[0]))
        return
    arguments.folder.mkdir(parents=True, exist_ok=True)
    print("| | now, s | times as fast, medians | fastest | neighbours |\n|---|---|---|---|---|")
    for what in arguments.what or (*STEPS, *JOBS):
        if what in STEPS:
            show(what, steps_in_turns(arguments, STEPS[what]))
            continue
        train_before(arguments)
        paths = [f"--{name}={getattr(arguments, name).resolve()}" for name in ("before", "corpus", "folder")]
        show(what, take_turns(__file__, [what, *paths], [NOW, BEFORE], rounds=arguments.rounds, warm_up=1))


if __name__ == "__main__":
    main()

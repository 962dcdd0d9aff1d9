"""Measure what a model remembers, by how far back it is.

For models that were trained on a text made by rule (corpus.train=builtin:copy,
adding, dyck-2, counting or associative-recall). The model reads fresh lines of
that text. Where the text before decides what comes, counts how often the model
is right, by the distance back to what decides it.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from jobs.shared import models
from jobs.shared.cli import run_job
from jobs.shared.models import add_device, add_run, device_of, load, names_of
from jobs.shared.numbers import seed, whole
from jobs.shared.options import parser
from pipeline.errors import UserError
from pipeline.files import check_writable

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.data.generated import Task

MOST_BINS = 12
MOST_EXAMPLES = 1_000_000


def main(argv: list[str]) -> dict[str, Any] | None:
    arguments = argument_parser().parse_args(argv)
    if not 1 <= arguments.examples <= MOST_EXAMPLES:
        raise UserError(f"--examples: {arguments.examples} is not from 1 to {MOST_EXAMPLES:,}")
    directories = dict(zip(names_of(arguments.run), arguments.run, strict=True))
    asked = None if arguments.probe is None else task_from(arguments.probe)
    models.check(arguments)
    if arguments.figure is not None:
        check_writable(arguments.figure, argument="figure")

    from pipeline.drawing import check_drawing, save
    from pipeline.evaluate import probes

    if arguments.figure is not None:
        check_drawing(arguments.figure)
    runs: dict[str, Any] = {}
    tasks: dict[str, Task] = {}
    for name, directory in directories.items():  # all of them before any is measured
        runs[name] = loaded = load(directory, arguments, device_of(arguments))
        tasks[name] = task = asked or task_of_run(loaded.config, directory)
        if (other := tasks[next(iter(tasks))]).name != task.name:
            raise UserError(
                f"--run: {directory} was trained on {task.name}, not on {other.name}; probe them separately"
            )
        if not same_difficulty(other, task):
            raise UserError(
                f"--run: {directory} was trained on {task.name} of a different difficulty than {next(iter(tasks))}; "
                "probe them separately, or name one task for both with --probe"
            )
        examples = task.fresh(arguments.examples, seed=arguments.seed)
        probes.check(loaded.tokenizer, task, examples, document=loaded.config.corpus.document)
    figures: dict[str, Any] = {}
    for name, loaded in runs.items():
        examples = tasks[name].fresh(arguments.examples, seed=arguments.seed)
        document = loaded.config.corpus.document
        found = probes.probe(loaded.model, loaded.tokenizer, tasks[name], examples, document=document)
        columns = ("from", "to", "answers", "accuracy")
        figures[name] = {
            "cell": loaded.config.model.cell,
            "parameters": loaded.model.num_parameters,
            "accuracy": found.accuracy,
            "answers": len(found.distances),
            "by_distance": [dict(zip(columns, row, strict=True)) for row in found.by_distance()],
            "binned": [dict(zip(columns, row, strict=True)) for row in found.by_distance(bins=MOST_BINS)],
        }
    task = next(iter(tasks.values()))
    print_table(task, figures)
    if arguments.figure is not None:
        save(draw(task, figures), arguments.figure)
        print(f"figure: {arguments.figure}")
    return {"task": task.name, "chance": task.chance, "examples": arguments.examples, "runs": figures}


def same_difficulty(a: Task, b: Task) -> bool:
    """Return whether two tasks differ in nothing but their examples."""
    return type(a) is type(b) and replace(a, examples=1, seed=1) == replace(b, examples=1, seed=1)


def task_from(pattern: str) -> Task:
    """Return the task of --probe, given by its name alone or as in corpus.train. Raises ``UserError``."""
    from pipeline.data.generated import task_of
    from pipeline.data.generated.tasks import PREFIX

    try:
        return task_of(pattern if pattern.startswith(PREFIX) else PREFIX + pattern)
    except UserError as error:
        raise UserError(str(error), argument="probe") from None


def task_of_run(config: Config, directory: str) -> Task:
    """Return the task that a run was trained on. Raises ``UserError`` if its text is not a task, or several."""
    from pipeline.data.generated import is_generated, task_of

    patterns = [pattern for pattern in config.corpus.train if is_generated(pattern)]
    if len(patterns) != 1:
        raise UserError(
            f"--run: {directory} was trained on {', '.join(config.corpus.train)}, which is not a single text made "
            "by rule; name one with --probe"
        )
    return task_of(patterns[0])


def argument_parser() -> argparse.ArgumentParser:
    result = parser("probe", __doc__ or "", takes_config=False)
    add_run(result, several=True)
    result.add_argument(
        "--probe", metavar="NAME", help="the task and its difficulty: copy?delay=50; default: what it was trained on"
    )
    result.add_argument("--examples", type=whole, default=1000, metavar="N", help="fresh lines to read; default: 1000")
    result.add_argument("--seed", type=seed, default=0, metavar="N", help="for these lines; default: 0")
    result.add_argument("--figure", metavar="FILE", help="draw all runs in FILE: .png, .svg, .pdf")
    add_device(result)
    return result


def print_table(task: Task, figures: dict[str, Any]) -> None:
    """Print the accuracy of each run for groups of distances."""
    print(f"{task.name}: {task.rule}")
    width = max(8, *map(len, figures))
    print(f"{'distance':>12}  {'answers':>8}  " + "  ".join(f"{name:>{width}}" for name in figures))
    first = next(iter(figures.values()))
    for row, group in enumerate(first["binned"]):
        span = str(group["from"]) if group["from"] == group["to"] else f"{group['from']}–{group['to']}"
        cells = [
            f"{values['binned'][row]['accuracy']:.1%}" if row < len(values["binned"]) else ""
            for values in figures.values()
        ]
        print(f"{span:>12}  {group['answers']:>8,}  " + "  ".join(f"{cell:>{width}}" for cell in cells))
    cells = [f"{values['accuracy']:.1%}" for values in figures.values()]
    print(f"{'all':>12}  {first['answers']:>8,}  " + "  ".join(f"{cell:>{width}}" for cell in cells))
    print(f"distance: {task.distance}; chance level: {task.chance:.1%}")


def draw(task: Task, figures: dict[str, Any]) -> Any:
    """Return a matplotlib figure of accuracy by distance."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.2), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    for name, values in figures.items():
        groups = values["binned"]
        middles = [(group["from"] + group["to"]) / 2 for group in groups]
        axes.plot(middles, [group["accuracy"] for group in groups], marker="o", markersize=4, label=name)
    axes.axhline(task.chance, color="grey", linestyle="--", linewidth=1, label="guessing")
    axes.set(xlabel=task.distance, ylabel="accuracy", ylim=(-0.02, 1.02), title=task.name)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


if __name__ == "__main__":
    run_job(main)

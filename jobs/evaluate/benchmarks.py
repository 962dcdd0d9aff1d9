"""Measure benchmarks of the field (``--benchmark``): a table for each, alongside published figures."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from jobs.shared import models
from jobs.terminal.progress import Count
from pipeline.errors import UserError
from pipeline.evaluate.benchmarks import Benchmark, Figure, Outcome, Published, Scorer, published, read_benchmark
from pipeline.evaluate.statistics import mean_and_deviation
from pipeline.evaluate.words import WordBoundary
from pipeline.training.checkpoint import Loaded

Cells = list[str]


def read(named: Sequence[str]) -> list[tuple[str, Benchmark]]:
    """Return the benchmark of each NAME=FOLDER, with its folder. Raises ``UserError`` if one cannot be read."""
    if repeated := [name for name in named if named.count(name) > 1]:
        raise UserError(f"--benchmark: {repeated[0]} is named twice")
    return [(name.partition("=")[2], read_benchmark(name)) for name in named]


def measured(
    benchmarks: Sequence[tuple[str, Benchmark]], runs: Sequence[Loaded], arguments: argparse.Namespace
) -> dict[str, Any]:
    """Print and return how each of ``runs`` does on each benchmark."""
    directories = arguments.runs or [arguments.run]
    results = []
    for number, (folder, benchmark) in enumerate(benchmarks):
        outcomes = [score(benchmark, loaded, arguments) for loaded in runs]
        if number:
            print()
        others = published(benchmark.name, benchmark.variant)
        print_table(benchmark, models.names_of(directories), outcomes, others, most=2 if arguments.breakdown else 1)
        results.append({"folder": folder, **as_json(benchmark, directories, outcomes, others)})
    return {"benchmarks": results}


def score(benchmark: Benchmark, loaded: Loaded, arguments: argparse.Namespace) -> Outcome:
    with Count(f"{benchmark.name}: scored", benchmark.num_texts, "texts") as progress:
        boundary: WordBoundary = arguments.word_boundary or "corrected"
        return benchmark.score(Scorer(loaded.model, loaded.tokenizer, word_boundary=boundary, on_texts=progress.add))


def print_table(
    benchmark: Benchmark, names: Sequence[str], outcomes: Sequence[Outcome], others: Sequence[Published], *, most: int
) -> None:
    """Print a line for each figure up to level ``most``: of each run, their mean, and the published figures."""
    every = zip(*(outcome.figures for outcome in outcomes), strict=True)
    shown = [figures for figures in every if figures[0].level <= most]
    others = [other for other in others if any(figures[0].group in other.figures for figures in shown)]
    first = outcomes[0].figures
    items = next((figure.items for figure in first if figure.level == 0), sum(f.items for f in first if f.level == 1))
    print(
        f"{benchmark.title}{f', {benchmark.variant}' * bool(benchmark.variant)} ({benchmark.source}): {items:,} items"
    )
    head = ["", *names, *(["mean", "±"] if len(names) > 1 else ["95 % interval"]), "items", *(o.model for o in others)]
    rows = [row_of(figures, others) for figures in shown]
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    for row in [head, *rows]:
        cells = [f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True)]
        print("  ".join([f"{row[0]:<{widths[0]}}", *cells]).rstrip())
    for sentence in remarks(names, outcomes, others):
        print(sentence)


def row_of(figures: Sequence[Figure], others: Sequence[Published]) -> Cells:
    """Return one line: a figure of each run, and the published ones."""
    first = figures[0]
    cells = ["  " * max(0, first.level - 1) + first.group, *(in_words(figure.value, first.unit) for figure in figures)]
    if len(figures) > 1:
        cells += [in_words(value, first.unit) for value in mean_and_deviation([figure.value for figure in figures])]
    else:
        low, high = (in_words(value, first.unit) for value in (first.low, first.high))
        cells.append(f"{low} to {high}" if low else "")
    cells.append(f"{first.items:,}")
    return cells + [f"{other.figures[first.group]:.1f}" if first.group in other.figures else "" for other in others]


def in_words(value: float, unit: str) -> str:
    """Return a share in percent, a correlation as a number; an empty string for nan."""
    if math.isnan(value):
        return ""
    return f"{value:.3f}" if unit == "r" else f"{100 * value:.1f}"


def remarks(names: Sequence[str], outcomes: Sequence[Outcome], others: Sequence[Published]) -> list[str]:
    """Return what a reader of the table must know: units, unknown words, ties, sources."""
    units = {figure.unit for figure in outcomes[0].figures}
    found = []
    if units - {"r"}:
        found.append("in percent" + (", except correlations" if "r" in units else ""))
    for name, outcome in zip(names, outcomes, strict=True):
        told = (
            [f"sentences are written as its vocabulary has them: {', '.join(outcome.notes)}"] if outcome.notes else []
        )
        if outcome.unknown:
            told.append(f"{outcome.unknown:,} of {outcome.words:,} words are unknown to it")
        whole = min(figure.level for figure in outcome.figures)  # some benchmarks have no figure of all their items
        if ties := sum(figure.ties for figure in outcome.figures if figure.level == whole):
            told.append(f"{ties:,} ties, which are wrong")
        if told:
            found.append(f"{name}: {'; '.join(told)}")
    for source in dict.fromkeys(other.source for other in others):
        found.append(f"{', '.join(other.model for other in others if other.source == source)}: {source}")
    return found


def as_json(
    benchmark: Benchmark, directories: Sequence[str], outcomes: Sequence[Outcome], others: Sequence[Published]
) -> dict[str, Any]:
    """Return all figures of a benchmark, for each run and over all runs."""
    together = []
    for figures in zip(*(outcome.figures for outcome in outcomes), strict=True):
        mean, deviation = mean_and_deviation([figure.value for figure in figures])
        together.append({"group": figures[0].group, "level": figures[0].level, "mean": mean, "deviation": deviation})
    return {
        "name": benchmark.name,
        "title": benchmark.title,
        "variant": benchmark.variant,
        "runs": [{"run": run, **asdict(outcome)} for run, outcome in zip(directories, outcomes, strict=True)],
        "figures": together,
        "published": [asdict(other) for other in others],
    }

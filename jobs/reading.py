"""Compare surprisal with reading times: how much of them it explains.

Takes tables that jobs.evaluate --surprisal wrote, and one of reading times with
a row per word (item, word, time) or per reading (and subject). Prints by how
much the surprisal of a word and of the two before it raises log-likelihood per
word, beyond frequency, length and position, on held-out items.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.shared.cli import run_job
from jobs.shared.numbers import seed, whole
from jobs.shared.options import parser
from pipeline.errors import UserError
from pipeline.files import check_writable

if TYPE_CHECKING:
    from pipeline.reading_times.predictors import Observations
    from pipeline.reading_times.regression import Explained
    from pipeline.reading_times.words import Times

MOST_FOLDS = 1000


def main(argv: list[str]) -> dict[str, Any] | None:
    arguments = argument_parser().parse_args(argv)
    if not 2 <= arguments.folds <= MOST_FOLDS:
        raise UserError(f"--folds: must be between 2 and {MOST_FOLDS:,}, not {arguments.folds}")
    if arguments.seed < 0:
        raise UserError(f"--seed: {arguments.seed} is below 0")

    from pipeline.drawing import check_drawing, save
    from pipeline.reading_times.curve import curve_of, draw
    from pipeline.reading_times.regression import check_installed, compared, explained

    check_installed()
    if arguments.figure is not None:
        check_drawing(arguments.figure, extra="bench")
        check_writable(arguments.figure, argument="figure")
    by_word, data = observations_of(arguments)
    how = {"num_folds": arguments.folds, "seed": arguments.seed}
    found = explained(data, **how)
    comparisons = [
        {"first": a, "second": b, **compared(found[a], found[b], data, seed=arguments.seed)}
        for a, b in combinations(found, 2)
    ]
    curves = {name: curve_of(by_word, nats, **how) for name, nats in by_word.surprisal.items()}
    print_data(data, arguments)
    print_explained(found, unit=unit_of(arguments))
    print_comparisons(comparisons)
    for name, curve in curves.items():
        print(
            f"{name}: a spline in place of the line adds {curve.delta:+.5f} ± {curve.delta_error:.5f} "
            f"(χ² {curve.chi_square:.1f}, p {shown(curve.chi_square_p)})"
        )
    if arguments.figure is not None:
        save(draw(curves, unit=unit_of(arguments)), arguments.figure)
        print(f"figure: {arguments.figure}")
    return {
        "times": len(data),
        "items": data.num_items,
        "subjects": None if data.subjects is None else len(set(data.subjects)),
        "left_out": data.left_out,
        "models": {name: {**found[name].figures(), "curve": curves[name].figures()} for name in found},
        "comparisons": comparisons,
    }


def argument_parser() -> argparse.ArgumentParser:
    result = parser("reading", __doc__ or "", takes_config=False)
    result.add_argument(
        "--surprisal", required=True, nargs="+", metavar="TABLE", help="tables of one or several models"
    )
    result.add_argument("--times", required=True, metavar="TABLE", help=".tsv, .csv, .parquet or .jsonl, like those")
    result.add_argument("--column", nargs="+", metavar="NAME", help="columns of surprisal, each a model; default: nats")
    result.add_argument(
        "--corpus", nargs="+", metavar="FILE", help="texts to count words in, if there is no log_frequency"
    )
    result.add_argument("--subjects", action="store_true", help="a random intercept for each subject, not means")
    result.add_argument("--log", action="store_true", help="take the logarithm of each time")
    result.add_argument("--folds", type=whole, default=10, metavar="N", help="folds of held-out items; default: 10")
    result.add_argument("--seed", type=seed, default=1, metavar="S", help="for folds and permutations; default: 1")
    result.add_argument("--figure", metavar="FILE", help="draw time against surprisal: .png, .svg, .pdf")
    for name in ("item", "word", "position", "time", "subject"):
        result.add_argument(f"--{name}", metavar="NAME", help=f"the column of --times that is the {name}")
    return result


def observations_of(arguments: argparse.Namespace) -> tuple[Observations, Observations]:
    """Return the mean times per word, and what is analysed: those, or the readings of each subject.

    Raises:
        UserError: a table is not as it should be, or its words differ from those of the others.
    """
    from pipeline.reading_times.predictors import frequency_in, observations
    from pipeline.reading_times.words import check_same_words, items_in_order, mean_times, read_surprisals, read_times
    from pipeline.tables import read_table

    names = {name: getattr(arguments, name) for name in ("item", "word", "position", "time", "subject")}
    times = read_times(read_table(arguments.times, by_others=True), names, wants_subjects=arguments.subjects)
    if arguments.log:
        times = logarithms(times)
    items = items_in_order([item for item, _ in times.places])
    columns = arguments.column or ["nats"]
    models = {}
    for path in arguments.surprisal:
        words = read_surprisals(read_table(path, by_others=True), columns, items=items)
        check_same_words(times, words)
        for column in columns:
            name = name_of(path, column, arguments.surprisal, columns)
            if name in models:
                raise UserError(f"--surprisal, --column: {name} is named twice")
            models[name] = words, column
    frequency = None if arguments.corpus is None else frequency_in(arguments.corpus)
    means = mean_times(times) if arguments.subjects else times
    by_word = observations(means, models, frequency=frequency)
    return by_word, observations(times, models, frequency=frequency) if arguments.subjects else by_word


def logarithms(times: Times) -> Times:
    """Return the times with their logarithms. Raises ``UserError`` for one that is not above 0."""
    from dataclasses import replace

    import numpy as np

    for row, value in enumerate(times.values.tolist()):
        if value <= 0:
            raise UserError(f"{times.table.where(row)}: a time must be above 0 to have a logarithm, not {value:g}")
    return replace(times, values=np.log(times.values))


def name_of(path: str, column: str, paths: list[str], columns: list[str]) -> str:
    """Name a model by the part of its file and column that distinguishes it from the others."""
    stems = [Path(each).stem for each in paths]
    table = Path(path).stem if stems.count(Path(path).stem) == 1 else path
    if len(columns) == 1:
        return table
    return column if len(paths) == 1 else f"{table}:{column}"


def unit_of(arguments: argparse.Namespace) -> str:
    return "ln time" if arguments.log else "time"


def shown(p_value: float) -> str:
    return "< 0.0001" if p_value < 0.0001 else f"= {p_value:.4f}"


def print_data(data: Observations, arguments: argparse.Namespace) -> None:
    """Print what was analysed, and what was left out."""
    if data.subjects is None:
        what = f"{len(data):,} words"
    else:
        what = f"{len(data):,} readings of {len(set(data.subjects)):,} subjects"
    method = "a mixed model, random intercepts of subjects" if data.subjects is not None else "least squares"
    folds = min(arguments.folds, data.num_items)
    print(f"{what} in {data.num_items:,} items; {method}; {folds} folds of whole items")
    for why, number in data.left_out.items():
        print(f"left out: {number:,} {why}")


def print_explained(found: Mapping[str, Explained], *, unit: str) -> None:
    """Print a line for each model: Δ log-likelihood per word, how certain it is, and the slopes."""
    width = max(5, *map(len, found))
    slopes = f"{unit} per bit: word, 1 before, 2 before"
    print(f"\n{'model':<{width}}  {'Δ log-likelihood':>18}  {'p by items':>10}  {'where fitted':>12}  {slopes}")
    for name, one in found.items():
        delta = f"{one.delta:+.5f} ± {one.delta_error:.5f}"
        each = ", ".join(f"{a:.3g} ± {b:.1g}" for a, b in zip(one.slopes, one.slope_errors, strict=True))
        p_value = shown(one.p_value).removeprefix("= ")
        print(f"{name:<{width}}  {delta:>18}  {p_value:>10}  {one.delta_fitted:>+12.5f}  {each}")
    print()


def print_comparisons(comparisons: list[dict[str, Any]]) -> None:
    """Print a sentence for each pair of models."""
    for one in comparisons:
        words, items = shown(one["p_value_by_words"]), shown(one["p_value_by_items"])
        print(
            f"{one['second']} minus {one['first']}: {one['delta']:+.5f} ± {one['delta_error']:.5f}, "
            f"p {words} exchanging words, p {items} exchanging items"
        )


if __name__ == "__main__":
    run_job(main)

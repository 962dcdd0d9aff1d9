"""Measure how far gradients flow back through time.

Shows where gradients vanish, and helps to choose train.bptt. Prints which share
of ‖∂loss(t)/∂state(t−k)‖, relative to k = 1, is left after k steps.
"""

from __future__ import annotations

import argparse
from typing import Any

from jobs.shared import models
from jobs.shared.cli import run_job
from jobs.shared.models import add_device, add_run, load_streams, names_of
from jobs.shared.numbers import number, whole
from jobs.shared.options import parser
from pipeline.errors import UserError
from pipeline.files import check_writable


def main(argv: list[str]) -> dict[str, Any] | None:
    arguments = argument_parser().parse_args(argv)
    for name in ("length", "streams", "windows"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise UserError(f"--{name}: {value} is below 1")
    if not 0 < arguments.share < 1:
        raise UserError(f"--share: must be between 0 and 1, not {arguments.share}")
    directories = dict(zip(names_of(arguments.run), arguments.run, strict=True))
    models.check(arguments)
    if arguments.figure is not None:
        check_writable(arguments.figure, argument="figure")

    from pipeline.data.streams import ResetRule
    from pipeline.drawing import check_drawing, save
    from pipeline.gradient_flow import measure, windows_of
    from pipeline.gradient_flow.figure import draw, write_tensorboard

    if arguments.figure is not None or arguments.tensorboard:
        check_drawing(arguments.figure)

    runs, how = load_streams(directories, arguments, followed="gradients are followed"), dict[str, Any]()
    for name, (loaded, tokens) in runs.items():  # all are looked at before any is measured
        if arguments.tensorboard and not loaded.which:
            raise UserError(
                f"--tensorboard: {directories[name]} is a single model, not a run to draw into; leave it out"
            )
        how[name] = {
            "length": arguments.length or loaded.config.train.bptt,
            "num_streams": arguments.streams or loaded.config.train.batch_size,
            "num_windows": arguments.windows,
            "reset": ResetRule.of(loaded.config.train).by_documents,
        }
        windows_of(loaded.model, tokens, **how[name])
    flows, figures = {}, {}
    for name, (loaded, tokens) in runs.items():
        flows[name] = flow = measure(loaded.model, tokens, **how[name])
        figures[name] = {
            "cell": loaded.config.model.cell,
            "bptt": loaded.config.train.bptt,
            "samples": flow.num_samples,
            "norms": flow.norms,
            "parts": flow.parts,
            "shares": flow.shares,
            "horizon": flow.horizon(arguments.share),
        }
    print_table(figures, share=arguments.share)
    if arguments.figure is not None or arguments.tensorboard:
        figure = draw(flows, threshold=arguments.share)
        if arguments.figure is not None:
            save(figure, arguments.figure)
            print(f"figure: {arguments.figure}")
        for name, directory in directories.items() if arguments.tensorboard else ():
            print(f"TensorBoard: {write_tensorboard(directory, flows[name], figure)}")
    return {"share": arguments.share, "runs": figures}


def argument_parser() -> argparse.ArgumentParser:
    result = parser("gradients", __doc__ or "", takes_config=False)
    add_run(result, several=True)
    result.add_argument("--split", choices=["train", "valid", "test"], default="valid", help="a split of the corpus")
    result.add_argument("--length", type=whole, metavar="K", help="steps to look back; default: train.bptt")
    result.add_argument(
        "--streams", type=whole, metavar="B", help="streams read side by side; default: train.batch_size"
    )
    result.add_argument("--windows", type=whole, default=4, metavar="N", help="windows to average over; default: 4")
    result.add_argument(
        "--share",
        type=number,
        default=0.01,
        metavar="X",
        help="share below which gradients have vanished; default: 0.01",
    )
    result.add_argument("--figure", metavar="FILE", help="draw all runs in FILE: .png, .svg, .pdf")
    result.add_argument("--tensorboard", action="store_true", help="draw for TensorBoard in each run directory, too")
    add_device(result)
    return result


def print_table(figures: dict[str, Any], *, share: float) -> None:
    """Print the shares for some k, and how long a window each run can use."""
    longest = max(len(values["shares"]) for values in figures.values())
    width = max(8, *map(len, figures))
    print("   k  " + "  ".join(f"{name:>{width}}" for name in figures))
    for k in sorted({k for base in (1, 2, 5) for k in (base, 10 * base, 100 * base, 1000 * base)} | {longest}):
        if k <= longest:
            cells = [f"{v['shares'][k - 1]:.2e}" if k <= len(v["shares"]) else "" for v in figures.values()]
            print(f"{k:>4}  " + "  ".join(f"{cell:>{width}}" for cell in cells))
    for name, values in figures.items():
        end = values["horizon"]
        if end is None:
            reach = f"more than {share:g} still flows at k = {len(values['shares'])}: look further with --length"
        else:
            reach = f"less than {share:g} flows from k = {end} on: a longer train.bptt gains little"
        print(f"{name} ({values['cell']}, trained with train.bptt={values['bptt']}): {reach}")


if __name__ == "__main__":
    run_job(main)

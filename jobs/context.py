"""Measure how much of the text before a token its prediction uses.

For many k, measures the loss of held-out tokens when all text before the last k
tokens is dropped, shuffled or replaced with other text. Shows from which k on
that no longer matters, and how far gradients flow back; recommends train.bptt.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jobs.shared import models
from jobs.shared.cli import run_job
from jobs.shared.models import add_device, add_run, load_streams, names_of
from jobs.shared.numbers import number, seed, whole
from jobs.shared.options import parser
from pipeline.errors import UserError
from pipeline.files import check_writable

CHANGES = ("dropped", "shuffled", "replaced")
# streams and windows of the gradient flow beside the curve; fewest targets of a class that has figures of its own
GRADIENT_STREAMS, GRADIENT_WINDOWS = 20, 2
FEWEST_TARGETS = 30
# the share by which a context may be longer than k
WITHIN = 0.1


def main(argv: list[str]) -> dict[str, Any] | None:
    options = argument_parser()
    arguments = options.parse_args(argv)
    check(arguments, options)
    directories = dict(zip(names_of(arguments.run), arguments.run, strict=True))
    models.check(arguments)
    if arguments.figure is not None:
        check_writable(arguments.figure, argument="figure")

    from pipeline.context_use import plan
    from pipeline.context_use.figure import draw
    from pipeline.drawing import check_drawing, save

    if arguments.figure is not None:
        check_drawing(arguments.figure)
    runs = load_streams(directories, arguments, followed="context is followed")
    with naming_options(arguments):
        for loaded, tokens in runs.values():  # all of them before any is measured
            plan(tokens, **read_by(loaded, arguments))
    figures, drawn = {}, {}
    for name, (loaded, tokens) in runs.items():
        figures[name], drawn[name] = measured(name, loaded, tokens, arguments)
    if arguments.figure is not None:
        save(draw(drawn, share=arguments.share), arguments.figure)
        print(f"figure: {arguments.figure}")
    return {"share": arguments.share, "runs": figures}


def argument_parser() -> argparse.ArgumentParser:
    result = parser("context", __doc__ or "", takes_config=False)
    add_run(result, several=True)
    result.add_argument("--split", choices=["train", "valid", "test"], default="valid", help="a split of the corpus")
    result.add_argument(
        "--change",
        nargs="+",
        choices=CHANGES,
        default=["dropped"],
        help="what happens to all text before; default: dropped",
    )
    which = result.add_mutually_exclusive_group()
    which.add_argument("--longest", type=whole, default=300, metavar="K", help="the longest context; default: 300")
    which.add_argument("--contexts", type=whole, nargs="+", metavar="K", help="exactly these contexts")
    measured = result.add_mutually_exclusive_group()
    measured.add_argument(
        "--targets", type=whole, default=1000, metavar="N", help="tokens whose loss is measured; default: 1000"
    )
    measured.add_argument("--all", action="store_true", help="measure every token, with exact k; slow")
    result.add_argument(
        "--within", type=number, metavar="X", help="k may be longer by this share; default: 0.1; 0: exact"
    )
    result.add_argument(
        "--changed-tokens", type=whole, metavar="N", help="how many are shuffled or replaced; default: the longest K"
    )
    result.add_argument(
        "--share",
        type=number,
        default=0.01,
        metavar="X",
        help="rise of perplexity that no longer matters; default: 0.01",
    )
    result.add_argument("--no-gradients", action="store_true", help="leave out the gradient flow")
    result.add_argument("--seed", type=seed, default=1, metavar="N", help="for shuffling and replacing; default: 1")
    result.add_argument("--figure", metavar="FILE", help="draw all runs in FILE: .png, .svg, .pdf")
    add_device(result)
    return result


def check(arguments: argparse.Namespace, options: argparse.ArgumentParser) -> None:
    """Raise ``UserError`` naming the one of ``options`` that is out of its range."""
    for name, least in (("longest", 1), ("targets", 1), ("changed_tokens", 1), ("seed", 0)):
        value = getattr(arguments, name)
        if value is not None and value < least:
            raise UserError(f"{value} is below {least}", argument=name)
    for context in arguments.contexts or ():
        if context < 1:
            raise UserError(f"--contexts: {context} is below 1")
    if arguments.within is None:
        arguments.within = 0.0 if arguments.all else WITHIN
    elif not 0 <= arguments.within < 1:
        raise UserError(f"--within: {arguments.within} is not in [0, 1)")
    elif arguments.all and arguments.within:
        raise UserError(f"--within: {arguments.within}, but --all measures every k exactly")
    if not 0 < arguments.share < 1:
        raise UserError(f"--share: must be between 0 and 1, not {arguments.share}")
    if arguments.changed_tokens is not None and arguments.change == ["dropped"]:
        raise UserError("--changed-tokens: nothing is changed without --change shuffled or replaced")


def read_by(loaded: Any, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what decides which tokens are read, as ``context_use.plan`` takes it."""
    from pipeline.context_use.places import usual_contexts
    from pipeline.data.streams import ResetRule

    return {
        "contexts": sorted(set(arguments.contexts or usual_contexts(arguments.longest))),
        "changes": [change for change in CHANGES if change in arguments.change],
        "num_targets": None if arguments.all else arguments.targets,
        "length": arguments.changed_tokens,
        "within": arguments.within,
        "reset": ResetRule.of(loaded.config.train),
        "seed": arguments.seed,
    }


def measured(name: str, loaded: Any, tokens: Any, arguments: argparse.Namespace) -> tuple[dict[str, Any], Any]:
    """Measure one model and print its figures; returns them, and what is drawn of them."""
    from jobs.terminal.progress import Count
    from pipeline import metrics, run
    from pipeline.context_use import measure, recommended_bptt
    from pipeline.context_use.figure import Drawn
    from pipeline.evaluate import count_types

    how = read_by(loaded, arguments)
    changes, longest = how["changes"], how["contexts"][-1]
    with Count(f"{name}: read", 0, "tokens") as progress, naming_options(arguments):
        found = measure(
            loaded.model,
            tokens,
            **how,
            share=arguments.share if arguments.contexts is None else None,
            on_tokens=progress.add,
            on_plan=progress.expect,
        )
    flow, left_out = (None, "") if arguments.no_gradients else gradient_flow(loaded, tokens, longest)
    curves = {change: found.curve(change) for change in changes}
    counts = count_types(run.corpus_of(loaded).splits["train"], loaded.tokenizer.vocab_size)
    effective = curves[changes[0]].effective(arguments.share)
    horizon = None if flow is None else flow.horizon(arguments.share)
    figures = {
        "cell": loaded.config.model.cell,
        "bptt": loaded.config.train.bptt,
        "targets": len(found.whole),
        "tokens_read": found.num_read,
        "perplexity": metrics.perplexity(float(found.whole.sum()), len(found.whole)),
        "curves": {change: [point.to_json() for point in curve.points] for change, curve in curves.items()},
        "effective": {change: effective_of(curve, arguments.share) for change, curve in curves.items()},
        "classes": classes_of(found, counts, changes[0], arguments.share),
        "gradient": None if flow is None else {"shares": flow.shares, "horizon": horizon},
        "recommended_bptt": recommended_bptt(effective, horizon, longest=longest),
    }
    print_figures(name, figures, arguments, longest, left_out)
    return figures, Drawn(curves, () if flow is None else flow.shares)


@contextmanager
def naming_options(arguments: argparse.Namespace) -> Iterator[None]:
    """Name --longest in a ``UserError`` about ``contexts`` derived from it, and --changed-tokens for ``length``."""
    try:
        yield
    except UserError as error:
        option = {"length": "changed_tokens", **({} if arguments.contexts else {"contexts": "longest"})}
        if error.argument not in option:
            raise
        raise UserError(str(error).removeprefix(f"{error.argument}: "), argument=option[error.argument]) from None


def gradient_flow(loaded: Any, tokens: Any, longest: int) -> tuple[Any, str]:
    """Measure how far back gradients flow, in windows as long as the longest context; or None, and why not."""
    from pipeline.data.streams import ResetRule
    from pipeline.gradient_flow import measure

    num_streams = min(GRADIENT_STREAMS, (len(tokens) - 1) // (2 * longest))
    if getattr(loaded.model, "attends", False):
        return None, "the model attends to the past, so that gradients flow not only through states"
    if num_streams < 1:
        return None, f"the text has fewer than {2 * longest + 1:,} tokens, two windows of the longest context"
    flow = measure(
        loaded.model, tokens, length=longest, num_streams=num_streams, num_windows=GRADIENT_WINDOWS,
        reset=ResetRule.of(loaded.config.train).by_documents,
    )  # fmt: skip
    return flow, ""


def effective_of(curve: Any, share: float) -> dict[str, int | None]:
    """Return the effective context of ``curve``, and those at both ends of the intervals of its points."""
    bounds = {"context": "value", "low": "low", "high": "high"}
    return {name: curve.effective(share, bound=bound) for name, bound in bounds.items()}


def classes_of(found: Any, counts: Any, change: str, share: float) -> list[dict[str, Any]]:
    """Return figures of targets by how often their type occurs in the training text, (V,) ``counts``."""
    import numpy as np

    from pipeline import metrics
    from pipeline.evaluate.breakdown import COUNTS, Group

    classes = np.searchsorted(COUNTS, counts[found.types], side="right") - 1  # (N,)
    result = []
    for index, first in enumerate(COUNTS):
        chosen = classes == index
        number, nats = int(chosen.sum()), float(found.whole[chosen].sum())
        if number < FEWEST_TARGETS:
            continue
        last = COUNTS[index + 1] - 1 if index + 1 < len(COUNTS) else None
        curve = found.curve(change, chosen)
        result.append(
            {
                "count": Group(first, last, nats, number).name,
                "targets": number,
                "perplexity": metrics.perplexity(nats, number),
                "curve": [point.to_json() for point in curve.points],
                "effective": effective_of(curve, share),
            }
        )
    return result


def print_figures(name: str, figures: Any, arguments: argparse.Namespace, longest: int, left_out: str) -> None:
    """Print the curves, the effective context of all targets and of classes, and the window that follows."""
    share, percent = arguments.share, f"{100 * arguments.share:.3g} %"
    print(
        f"{name} ({figures['cell']}, trained with train.bptt={figures['bptt']}): perplexity "
        f"{figures['perplexity']:,.3f} with the whole context, for {figures['targets']:,} tokens "
        f"of the {arguments.split} split"
    )
    print_curves(figures["curves"])
    for change, found in figures["effective"].items():
        print(f"perplexity within {percent} of that, all text before {change}: {reach(found, longest)}")
    if figures["classes"]:
        width = max(len(each["count"]) for each in figures["classes"])
        print(f"{'count in training':<{max(17, width)}}  targets  perplexity  within {percent}")
        for each in figures["classes"]:
            row = f"{each['count']:<{max(17, width)}}  {each['targets']:>7,}  {each['perplexity']:>10,.3f}"
            print(f"{row}  {reach(each['effective'], longest)}")
    gradient = figures["gradient"]
    if gradient is not None:
        end = gradient["horizon"]
        flows, vanished = f"more than {share:g} still flows at k = {longest}", f"less than {share:g} from k = {end} on"
        print(f"gradient, relative to one step back: {flows if end is None else vanished}")
    if left_out:
        print(f"gradient: left out, as {left_out}")
    print(f"recommended for such a model: train.bptt={figures['recommended_bptt']}")


def print_curves(curves: dict[str, Any]) -> None:
    """Print perplexity by context and, in per cent, how far it is above that with the whole context."""
    print("     k  " + "  ".join(f"{change + ', perplexity':>20}  {'above, % (95 %)':>24}" for change in curves))
    for context in sorted({point["context"] for points in curves.values() for point in points}):
        cells = []
        for points in curves.values():
            point = next((point for point in points if point["context"] == context), None)
            cells.append(f"{'':>46}" if point is None else cell_of(point))
        print(f"{context:>6}  " + "  ".join(cells).rstrip())


def cell_of(point: dict[str, Any]) -> str:
    """Return perplexity at a point, and its increase with the interval, as they stand in the table."""
    from pipeline import metrics

    value, low, high = (percent_of(point[name]) for name in ("increase", "increase_low", "increase_high"))
    perplexity = metrics.shown(metrics.perplexity(point["nats"], 1))
    return f"{perplexity:>20}  {f'{value} ({low} to {high})':>24}"


def percent_of(nats: float) -> str:
    """Return by how many per cent ``nats`` raise perplexity."""
    return f"{100 * math.expm1(nats):+.2f}" if nats < 10 else "more"


def reach(found: dict[str, int | None], longest: int) -> str:
    """Return an effective context in words, with what the intervals of the curve leave open."""
    value, low, high = (f"more than {longest}" if end is None else str(end) for end in found.values())
    interval = "" if low == high else f" ({low} to {high})"
    return f"with the last {value} tokens{interval}"


if __name__ == "__main__":
    run_job(main)

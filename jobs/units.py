"""Show what units track, on a page of text coloured by any of them.

Finds the units that track quotes, brackets, the position in the line and more,
with sparse probes beside control tasks; --states writes the state of all layers
at every token as Parquet.
"""

from __future__ import annotations

import argparse
from typing import Any

from jobs.shared import models
from jobs.shared.cli import run_job
from jobs.shared.models import add_device, add_run, device_of, load
from jobs.shared.numbers import seed, whole
from jobs.shared.options import parser
from pipeline.errors import UserError
from pipeline.files import check_writable, write_file

FEWEST_TOKENS, MOST_TOKENS = 100, 1_000_000


def main(argv: list[str]) -> dict[str, Any] | None:
    options = argument_parser()
    arguments = options.parse_args(argv)
    check(arguments, options)
    models.check(arguments)
    for name in ("states", "output"):
        if getattr(arguments, name) is not None:
            check_writable(getattr(arguments, name), argument=name)

    from jobs.terminal.progress import Count
    from pipeline.data.streams import ResetRule
    from pipeline.units import rank_units, read_states
    from pipeline.units.features import features_of
    from pipeline.units.page import page_of
    from pipeline.units.states import sizes_of, unit_named

    loaded = load(arguments.run, arguments, device_of(arguments))
    cell = loaded.config.model.cell
    if cell == "transformer":
        raise UserError(
            f"--run: {arguments.run} is a Transformer, whose state is a cache of keys and values, not units"
        )
    text, name = text_of(loaded, arguments)
    number = min(arguments.tokens, len(text.tokens))
    if number < FEWEST_TOKENS:
        raise UserError(f"{name} has {number} tokens; at least {FEWEST_TOKENS} are needed to find what units track")
    asked = None if arguments.unit is None else unit_named(arguments.unit, sizes_of(loaded.model, cell))
    output = output_of(loaded, arguments)
    with Count("read", number, "tokens") as progress:
        states = read_states(
            loaded.model,
            loaded.tokenizer,
            text.tokens,
            cell=cell,
            number=number,
            begin_id=text.begin_id,
            reset=ResetRule.of(loaded.config.train),
            on_tokens=progress.add,
        )
    features = features_of(states.pieces, states.documents.tolist())
    with Count("probed", len(features), "features") as progress:
        findings = rank_units(states, features, seed=arguments.seed, on_feature=progress.add)
    print_findings(findings)
    best = findings[0].units[0].unit if findings else states.units[0]
    start = asked or best
    title = f"{loaded.title}: {name}"
    page = page_of(states, findings, title=title, start=start, num_tokens=arguments.shown)
    write_file(output, page, argument="output")
    print(f"page: {output}")
    if arguments.states is not None:
        states.write(arguments.states)
        print(f"states: {arguments.states}")
    return {
        "tokens": number,
        "features": [finding.to_json() for finding in findings],
        "unit": str(start),
        "output": str(output),
        "states": arguments.states,
        "checkpoint": str(loaded.path),
    }


def argument_parser() -> argparse.ArgumentParser:
    result = parser("units", __doc__ or "", takes_config=False)
    add_run(result)
    which = result.add_mutually_exclusive_group()
    which.add_argument("--split", choices=["train", "valid", "test"], default="valid", help="a split of the corpus")
    which.add_argument("--text", metavar="FILE", help="any text instead, in documents like the corpus")
    result.add_argument(
        "--tokens", type=whole, default=20_000, metavar="N", help="tokens to read, from the beginning; default: 20000"
    )
    result.add_argument(
        "--shown", type=whole, default=3000, metavar="N", help="tokens on the page; default: the first 3000"
    )
    result.add_argument(
        "--unit", metavar="L.P.N", help="the unit to open the page with: layer, part, number, as 1.c.17"
    )
    result.add_argument("--output", metavar="FILE", help="the page; default: units.html in the run directory")
    result.add_argument("--states", metavar="FILE", help="write all states to FILE, too: a .parquet")
    result.add_argument("--seed", type=seed, default=1, metavar="N", help="for the control tasks; default: 1")
    add_device(result)
    return result


def check(arguments: argparse.Namespace, options: argparse.ArgumentParser) -> None:
    """Raise ``UserError`` naming the one of ``options`` that is out of its range."""
    if not FEWEST_TOKENS <= arguments.tokens <= MOST_TOKENS:
        raise UserError(f"--tokens: {arguments.tokens} is not between {FEWEST_TOKENS} and {MOST_TOKENS:,}")
    if arguments.shown < 1:
        raise UserError(f"--shown: {arguments.shown} is below 1")
    if arguments.seed < 0:
        raise UserError(f"--seed: {arguments.seed} is below 0")
    if arguments.states is not None and not arguments.states.endswith(".parquet"):
        raise UserError(f"--states: {arguments.states} must end with .parquet")


def output_of(loaded: Any, arguments: argparse.Namespace) -> str:
    """Return where the page goes. Raises ``UserError`` if that is not known, or nothing can be written there."""
    from pathlib import Path

    if arguments.output is not None:
        return str(arguments.output)
    if not loaded.which:
        raise UserError(f"--output: {arguments.run} is a single model, not a run to put a page in; name a file")
    output = Path(arguments.run) / "units.html"
    check_writable(output, argument="output")
    return str(output)


def text_of(loaded: Any, arguments: argparse.Namespace) -> tuple[Any, str]:
    """Return the text that the command line names, and its name."""
    from pipeline import run
    from pipeline.evaluate import split_held_out, text_held_out

    layout = loaded.config.data.layout
    if arguments.text is not None:
        return text_held_out(loaded.tokenizer, arguments.text, loaded.config.corpus, layout=layout), arguments.text
    return split_held_out(run.corpus_of(loaded), arguments.split, layout=layout), f"the {arguments.split} split"


def print_findings(findings: list[Any]) -> None:
    """Print how well each feature can be read: by the probe, in its control task, and from the best units."""
    if not findings:
        print("no feature differs often enough in this text; see --tokens")
        return
    width = max(len(finding.feature.name) for finding in findings)
    print(f"{'':<{width}}        probe (units)  control  best units, each alone")
    for finding in findings:
        measure = "R²" if finding.feature.is_number else "AUC"
        best = ", ".join(f"{ranked.unit} {ranked.score:.2f}" for ranked in finding.units[:4])
        probe = f"{finding.score:.2f} ({len(finding.probe)})"
        print(f"{finding.feature.name:<{width}}  {measure:>3}  {probe:>14}  {finding.control:>7.2f}  {best}")


if __name__ == "__main__":
    run_job(main)

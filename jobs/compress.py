"""Make smaller forms of a model, and a table of their size and speed.

The forms: weights in float32 and bf16, ONNX in float32 (checked against torch)
and int8, weights pruned by magnitude, and models without some of their hidden
units, fine-tuned if asked. --output receives a folder for each and the table as
table.md, table.json and table.png.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jobs.shared import models
from jobs.shared.cli import run_job
from jobs.shared.models import add_run, load
from jobs.shared.numbers import number, whole
from jobs.shared.options import command_line, parser
from pipeline.errors import UserError
from pipeline.files import write_file
from pipeline.strict_json import to_json

# tokens per variant; the time of each token is kept
MOST_TIMED = 1_000_000


def main(argv: list[str]) -> dict[str, Any] | None:
    arguments = argument_parser().parse_args(argv)
    check(arguments)
    models.check(arguments)

    from pipeline import run
    from pipeline.compress.measure import held_out_windows
    from pipeline.compress.onnx_graph import NO_CACHE
    from pipeline.compress.units import check_removable
    from pipeline.compress.variants import make_variants
    from pipeline.data.streams import ResetRule
    from pipeline.evaluate import split_held_out

    loaded = load(arguments.run, arguments)
    text = split_held_out(run.corpus_of(loaded), arguments.split, layout=loaded.config.data.layout)
    windows = held_out_windows(text, ResetRule.of(loaded.config.train))
    if arguments.units:
        check_removable(loaded.config, loaded.model, arguments.units)
    if arguments.output is None and not loaded.which:
        raise UserError(f"--output: {arguments.run} is a single model, not a run to put others in; name a directory")
    output = Path(arguments.output or Path(arguments.run) / "compressed")
    check_writable(output)
    if loaded.model.attends:
        print(f"no ONNX form: {NO_CACHE} ({loaded.model.attends})")
    variants = make_variants(loaded, text.tokens, output, sparsities=arguments.prune, scope=arguments.scope)
    for share in arguments.units:
        variants += smaller_models(loaded, share, output, arguments, again=command_line("compress", argv))
    rows = measured(variants, text, windows, arguments.tokens)
    table = table_of(rows)
    print(table, end="")
    write_file(output / "table.md", table, argument="output")
    write_file(output / "table.json", to_json(rows, indent=1) + "\n", argument="output")
    draw_table(rows, output / "table.png")
    print(f"written to {output}")
    return {"variants": rows, "output": str(output)}


def argument_parser() -> argparse.ArgumentParser:
    result = parser("compress", __doc__ or "", takes_config=False)
    add_run(result)
    result.add_argument("--output", metavar="DIR", help="default: compressed/ in the run directory")
    result.add_argument(
        "--split", choices=["valid", "test"], default="valid", help="the split that is scored; default: valid"
    )
    result.add_argument(
        "--prune",
        type=number,
        nargs="*",
        default=[0.5],
        metavar="SHARE",
        help="share of matrix weights to set to zero; default: 0.5",
    )
    result.add_argument(
        "--scope", choices=["matrix", "all"], default="matrix", help="within each matrix or over all; default: matrix"
    )
    result.add_argument(
        "--units",
        type=number,
        nargs="*",
        default=[],
        metavar="SHARE",
        help="share of the hidden units to remove; default: none",
    )
    result.add_argument(
        "--fine-tune-steps",
        type=whole,
        default=0,
        metavar="N",
        help="steps to train after removing them; default: 0",
    )
    result.add_argument(
        "--tokens", type=whole, default=200, metavar="N", help="tokens timed for each form; default: 200"
    )
    return result


def check(arguments: argparse.Namespace) -> None:
    """Raise ``UserError`` naming the option that is out of its range."""
    for name in ("prune", "units"):
        for share in getattr(arguments, name):
            if not 0 <= share < 1:
                raise UserError(f"--{name}: {share} is not in [0, 1)")
    if arguments.fine_tune_steps < 0:
        raise UserError(f"--fine-tune-steps: {arguments.fine_tune_steps} is below 0")
    if arguments.fine_tune_steps and not arguments.units:
        raise UserError("--fine-tune-steps: there is nothing to tune without --units")
    if not 1 <= arguments.tokens <= MOST_TIMED:
        raise UserError(f"--tokens: {arguments.tokens} is not between 1 and {MOST_TIMED:,}")


def check_writable(output: Path) -> None:
    """Raise ``UserError`` unless a file can be written to the directory ``output``; leaves nothing there."""
    from pipeline.files import make_directory, remove_if_empty

    try:
        made = make_directory(output)
        with tempfile.TemporaryFile(dir=output):
            pass
    except OSError as error:
        raise UserError(f"--output: cannot write to {output}: {error.strerror}") from None
    remove_if_empty(made)


def smaller_models(
    loaded: Any, share: float, output: Path, arguments: argparse.Namespace, *, again: str
) -> Iterator[Any]:
    """Yield the model without ``share`` of its units, then the same one fine-tuned by a run of its own."""
    import torch

    from jobs.train import train
    from pipeline import run
    from pipeline.compress.units import begin_tuning, tuning_config, without_units
    from pipeline.compress.variants import in_torch
    from pipeline.training import checkpoint

    name = f"units-{share:g}"
    data = run.training_data(loaded.config, run.corpus_of(loaded), rank=0, world_size=1)
    smaller = without_units(loaded, share, data.windows())
    yield in_torch(name, smaller, output)
    if arguments.fine_tune_steps:
        directory = output / f"{name}-run"
        source = loaded.manifest["files"][checkpoint.WEIGHTS]["xxh3"]
        if aside := begin_tuning(directory, source, num_steps=arguments.fine_tune_steps):
            print(f"{directory} held a run of other weights or with other --fine-tune-steps; set aside as {aside}")
        config = tuning_config(
            smaller.config,
            weights=output / name,
            directory=directory,
            num_steps=arguments.fine_tune_steps,
            steps_per_epoch=data.num_windows(),
        )
        num_threads = torch.get_num_threads()
        tuned = checkpoint.load_model(train(config, again=again, verbose=arguments.verbose)["checkpoint"])
        torch.set_num_threads(num_threads)  # a run in this process has set its own, with which no form is to be timed
        yield in_torch(f"{name}-tuned", tuned, output)


def measured(variants: list[Any], text: Any, windows: Any, num_tokens: int) -> list[dict[str, Any]]:
    """Measure each of ``variants``: perplexity on the ``windows`` of ``text``, seconds for ``num_tokens`` tokens."""
    from jobs.terminal.progress import Count
    from pipeline.compress.measure import perplexity, seconds_per_token

    models = {variant.name: variant.model for variant in variants}
    with Count("timed", num_tokens * len(variants), "tokens") as progress:
        seconds = seconds_per_token(models, num_tokens, on_tokens=progress.add)
    rows = []
    for variant in variants:
        times = seconds[variant.name]
        with Count(f"{variant.name}: scored", len(text.tokens), "tokens") as progress:
            figures = {"bytes": variant.bytes, "perplexity": perplexity(variant, windows, on_tokens=progress.add)}
        speed = {"tokens_per_second": len(times) / sum(times), "milliseconds": 1000 * statistics.median(times)}
        rows.append({"variant": variant.name, **figures, **speed})
    return rows


def table_of(rows: list[dict[str, Any]]) -> str:
    """Return ``rows`` as a Markdown table."""
    lines = ["| variant | bytes | perplexity | tokens/s | ms per token, median |", "|---|---|---|---|---|"]
    for row in rows:
        speed = f"{row['tokens_per_second']:,.0f} | {row['milliseconds']:.3f}"
        lines.append(f"| {row['variant']} | {row['bytes']:,} | {row['perplexity']:,.2f} | {speed} |")
    return "\n".join(lines) + "\n"


def draw_table(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw ``rows``, or print why they cannot be drawn. Raises ``UserError`` if the file cannot be written."""
    from pipeline.compress.figure import draw
    from pipeline.drawing import save

    try:
        figure = draw(rows)
    except UserError as error:
        print(f"no picture: {error}")
    else:
        save(figure, path, argument="output")


if __name__ == "__main__":
    run_job(main)

"""Store a model's predictions on a corpus, for others to learn from.

A teacher reads the training split of a prepared corpus once. The likeliest
types for every token, with their probabilities, go into a folder for
train.teacher=FOLDER, so that training need not run the teacher. The same
command continues a stopped job; a folder of another teacher or corpus is
refused.
"""

from __future__ import annotations

import argparse
from typing import Any

from jobs.shared import early
from jobs.shared.cli import run_job
from jobs.shared.models import add_checkpoint, add_device, device_of
from jobs.shared.numbers import number, whole
from jobs.shared.options import parser
from pipeline.errors import UserError

LEAST_TEMPERATURE, MOST_TEMPERATURE = 0.01, 100


def main(argv: list[str]) -> dict[str, Any] | None:
    arguments = argument_parser().parse_args(argv)
    check(arguments)

    from pathlib import Path

    from jobs.terminal.progress import Count
    from pipeline import config as configuration
    from pipeline.data.shards import open_prepared
    from pipeline.training.checkpoint import CONFIG
    from pipeline.training.teaching.find import find, open_model
    from pipeline.training.teaching.kinds import HUGGING_FACE
    from pipeline.training.teaching.store import origin_of, store

    corpus = open_prepared(arguments.data)
    found = find(arguments.teacher, corpus, which=arguments.checkpoint, setting="teacher")
    device = device_of(arguments)
    is_theirs = found.kind == HUGGING_FACE
    origin = origin_of(
        None if is_theirs else configuration.load(found.path / CONFIG),
        corpus,
        teacher=found.fingerprint,
        top_k=min(arguments.top_k, corpus.vocab_size),
        temperatures=sorted(set(arguments.temperatures)),
        split="train",
        streams=arguments.streams,
        burn_in=arguments.burn_in,
    )
    with Count("taught", origin.num_tokens, "tokens") as count:
        stored = store(
            Path(arguments.to),
            origin,
            corpus,
            lambda: open_model(found, corpus.tokenizer, device=device, precision="float32", setting="teacher"),
            path=str(found.path),
            on_tokens=count.add,
            on_kept=count.keep,
        )
    num_bytes = sum(entry.bytes for entry in stored.entries)
    print(
        f"{found.path}: the {origin.top_k:,} likeliest of {origin.vocab_size:,} types for {origin.num_tokens:,} tokens"
    )
    print(f"  at temperatures {', '.join(f'{value:g}' for value in origin.temperatures)}: {num_bytes / 1e6:,.1f} MB")
    print(f"learn from it:   python -m jobs.train … train.teacher={arguments.to}")
    return {
        "to": arguments.to,
        "teacher": str(found.path),
        "tokens": origin.num_tokens,
        "top_k": origin.top_k,
        "temperatures": origin.temperatures,
        "bytes": num_bytes,
    }


def check(arguments: argparse.Namespace) -> None:
    """Raise ``UserError`` for options out of their ranges, and for what is not a teacher; without torch."""
    for name, least in (("top_k", 1), ("streams", 1), ("burn_in", 0)):
        if getattr(arguments, name) < least:
            raise UserError(f"{getattr(arguments, name)} is below {least}", argument=name)
    for value in arguments.temperatures:
        if not LEAST_TEMPERATURE <= value <= MOST_TEMPERATURE:
            raise UserError(
                f"must be from {LEAST_TEMPERATURE:g} to {MOST_TEMPERATURE:g}, not {value:g}", argument="temperatures"
            )
    early.check_prepared(arguments.data, argument="data")
    if "://" in arguments.to:
        raise UserError(f"{arguments.to} is not a folder on this machine, which stored logits need", argument="to")

    from pipeline.training.teaching.kinds import HUGGING_FACE, STORED, kind_of

    try:
        kind = kind_of(arguments.teacher)
    except UserError as error:
        raise UserError(str(error), argument="teacher") from None
    if kind == STORED:
        raise UserError(f"{arguments.teacher} holds stored logits already, not a model", argument="teacher")
    if kind == HUGGING_FACE and arguments.checkpoint is not None:
        raise UserError(f"{arguments.teacher} is not a run; leave out {arguments.checkpoint}", argument="checkpoint")


def argument_parser() -> argparse.ArgumentParser:
    result = parser("teach", __doc__ or "", takes_config=False)
    kinds = "a run directory, a checkpoint's or model's folder, or a Hugging Face causal model's"
    result.add_argument("--teacher", required=True, metavar="DIR", help=kinds)
    add_checkpoint(result)
    result.add_argument("--data", required=True, metavar="DIR", help="the prepared corpus; it has the teacher's tokens")
    result.add_argument("--to", required=True, metavar="FOLDER", help="where the files go, for train.teacher")
    result.add_argument("--top-k", type=whole, default=64, metavar="K", help="types stored for each token; default: 64")
    result.add_argument(
        "--temperatures", type=number, nargs="+", default=[1.0, 2.0, 4.0], metavar="X",
        help="for train.teacher_temperature; default: 1 2 4",
    )  # fmt: skip
    result.add_argument("--streams", type=whole, default=32, metavar="B", help="streams read side by side; default: 32")
    result.add_argument(
        "--burn-in", type=whole, default=256, metavar="N", help="tokens read before each stream; default: 256"
    )
    add_device(result)
    return result


if __name__ == "__main__":
    run_job(main, goes_on=True)

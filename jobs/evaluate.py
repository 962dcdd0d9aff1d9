"""Score held-out text with a trained model: perplexity, bits per byte, how sure they are, where they come from.

Every token is scored once. One stream (--streams 1) gives each its whole history; more are faster.
"""

from __future__ import annotations

import argparse
from typing import Any

from jobs.cli import add_sampling, parser, run_job
from jobs.numbers import number, seed, whole
from pipeline.errors import UserError


def main(argv: list[str]) -> dict[str, Any] | None:
    arguments = argument_parser().parse_args(argv)

    from jobs import adaptation, continuations, measures, sentences
    from pipeline import run
    from pipeline.model.precision import set_tf32
    from pipeline.training import checkpoint

    check(arguments)
    path = checkpoint.find(arguments.run, arguments.checkpoint)
    loaded = checkpoint.load_model(path, run.resolve_device(arguments.device))
    set_tf32(loaded.config.train.tf32)
    measure = measures.perplexity
    if arguments.surprisal is not None:
        measure = sentences.surprisal
    elif arguments.pairs is not None:
        measure = sentences.minimal_pairs
    elif arguments.bleu is not None:
        measure = continuations.bleu
    elif arguments.cache or arguments.dynamic is not None:
        measure = adaptation.adapted
    elif arguments.tune:
        raise UserError("--tune: there is nothing to tune without --cache or --dynamic")
    return {**measure(loaded, arguments), "checkpoint": str(path)}


def argument_parser() -> argparse.ArgumentParser:
    result = parser("evaluate", __doc__ or "", takes_config=False)
    result.add_argument("--run", required=True, metavar="DIR", help="run directory of jobs.train")
    result.add_argument("--checkpoint", choices=["best", "last"], default="best")
    what = result.add_mutually_exclusive_group()
    what.add_argument("--split", choices=["valid", "test"], default="valid", help="of the prepared corpus")
    what.add_argument("--text", metavar="FILE", help="any text instead, split into documents as the corpus is")
    result.add_argument("--streams", type=whole, metavar="N", help="side by side; default: evaluate.streams")
    result.add_argument("--burn-in", type=whole, metavar="N", help="tokens read before each; default: evaluate.burn_in")
    result.add_argument("--exact", action="store_true", help="score on one stream as well, and tell the difference")
    result.add_argument("--breakdown", action="store_true", help="by count in training and by position in the document")
    result.add_argument("--compare", metavar="DIR", help="another run on the same text, and a paired test")
    result.add_argument("--surprisal", metavar="FILE", help="write the nats of every token and word there, as Parquet")
    result.add_argument("--pairs", metavar="FILE", help="which of good and bad is likelier: a JSON object a line")
    result.add_argument("--bleu", type=whole, metavar="N", help="continue N prompts from the text, and compare")
    result.add_argument("--prompt-tokens", type=whole, default=32, metavar="N", help="of each prompt of --bleu")
    result.add_argument(
        "--continuation-tokens", type=whole, default=32, metavar="N", help="after each of those prompts"
    )
    add_sampling(result)
    add_adaptation(result)
    result.add_argument("--seed", type=seed, default=1, metavar="S", help="of all that is drawn")
    result.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    return result


def add_adaptation(result: argparse.ArgumentParser) -> None:
    """The options of models that go on learning from what they are scored on."""
    result.add_argument("--cache", action="store_true", help="a neural cache beside the model (Grave et al. 2017)")
    result.add_argument("--cache-theta", type=number, default=0.2, metavar="X", help="how much nearness counts")
    result.add_argument("--cache-weight", type=number, default=0.1, metavar="X", help="share of the cache, in [0, 1)")
    result.add_argument("--cache-window", type=whole, default=500, metavar="N", help="tokens that it remembers")
    result.add_argument("--dynamic", choices=["rms", "sgd"], help="dynamic evaluation (Krause et al. 2018)")
    result.add_argument("--dynamic-lr", type=number, metavar="X", help="of its updates; default: rms 0.002, sgd 0.1")
    result.add_argument("--dynamic-decay", type=number, metavar="X", help="pull back; default: rms 0.02, sgd 0.001")
    result.add_argument("--dynamic-epsilon", type=number, metavar="X", help="added to RMS; default: 0.001")
    result.add_argument("--dynamic-segment", type=whole, default=20, metavar="N", help="tokens between two updates")
    result.add_argument("--tune", action="store_true", help="find the settings of both on the validation split first")


def check(arguments: argparse.Namespace) -> None:
    """Raises ``UserError`` naming the option that is out of its range."""
    for name, least in (("streams", 1), ("burn_in", 0), ("seed", 0)):
        value = getattr(arguments, name)
        if value is not None and value < least:
            raise UserError(f"--{name.replace('_', '-')}: {value} is below {least}")


if __name__ == "__main__":
    run_job(main)

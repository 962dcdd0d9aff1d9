"""Tokenize a corpus into Arrow shards.

A corpus that is already prepared with the same settings is recognised; an
interrupted preparation continues.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from jobs.shared import early
from jobs.shared.cli import config_from, preparation, print_dry_run, run_job
from jobs.shared.options import parser, refuse_given
from pipeline.errors import UserError


def main(argv: list[str]) -> dict[str, Any] | None:
    options = argument_parser()
    arguments = options.parse_args(argv)
    if arguments.verify is not None:
        if arguments.overrides:
            raise UserError(f"{arguments.overrides[0]}: --verify looks at a corpus as it is; leave settings out")
        refuse_given(arguments, options, ["config", "dry_run"], "--verify looks at a corpus as it is; leave this out")
        return verify(arguments.verify)
    config = config_from(arguments)
    early.check(config)
    early.note_unused(config, only=("corpus", "tokenizer", "data"))

    from jobs.terminal.progress import ShardProgress
    from pipeline.data.counting import count_tokens
    from pipeline.paths import absolute

    if arguments.dry_run:
        counts = count_tokens(config)
        figures = {"tokens": counts.tokens["train"], "tokens_per_split": counts.tokens, "vocab_size": counts.vocab_size}
        return print_dry_run(config, {**figures, "tokens_are": "counted" if counts.is_exact else "estimated"})
    config = absolute(config)
    progress = ShardProgress()
    with preparation(config, verbose=arguments.verbose) as prepare:
        corpus = prepare(config, on_shard=progress.show, say=progress.say)
    progress.close()
    return print_corpus(corpus)


def argument_parser() -> argparse.ArgumentParser:
    result = parser("prepare", __doc__ or "")
    result.add_argument(
        "--verify", metavar="DIR", help="check every byte of a prepared corpus instead, and print its card"
    )
    return result


def verify(directory: str) -> dict[str, Any]:
    """Check a prepared corpus and its texts, print its card and return it."""
    early.check_prepared(directory, argument="verify")

    from pipeline.data.card import card
    from pipeline.data.shards import open_prepared
    from pipeline.data.verify import verify_texts

    verified = open_prepared(directory, verify=True)
    texts, found = verify_texts(verified), card(verified)
    print(f"{found}\n{texts}")
    return {**found.to_json(), "texts": asdict(texts)}


def print_corpus(corpus: Any) -> dict[str, Any]:
    """Print what a prepared corpus holds; returns the result of the job."""
    print(f"{corpus.directory}: {corpus.tokenizer.kind} tokens, {corpus.vocab_size:,} types")
    for name, sequence in corpus.splits.items():
        unknown = f", {sequence.num_unknown:,} <unk>" if sequence.num_unknown else ""
        print(
            f"  {name}: {len(sequence):,} tokens{unknown} of {sequence.num_bytes:,} bytes "
            f"in {len(sequence.entries)} shards ({sequence.num_bytes / max(1, len(sequence)):.2f} bytes a token)"
        )
    tokens = {name: len(sequence) for name, sequence in corpus.splits.items()}
    return {"directory": str(corpus.directory), **tokens, "tokens": tokens, "vocab_size": corpus.vocab_size}


if __name__ == "__main__":
    run_job(main, goes_on=True)

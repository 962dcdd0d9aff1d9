"""``jobs.evaluate --surprisal`` and ``--pairs``: nats of tokens and words, and which of two sentences is likelier."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from jobs.measures import held_out_of
from pipeline.data.streams import ResetRule
from pipeline.evaluate.pairs import accuracies, read_pairs, sentence_nats
from pipeline.evaluate.surprisal import surprisal_rows, write_rows
from pipeline.training.checkpoint import Loaded


def surprisal(loaded: Loaded, arguments: argparse.Namespace) -> dict[str, Any]:
    """Write a row for every token and word of the text."""
    text = held_out_of(loaded, arguments)
    reset = ResetRule.of(loaded.config.train)
    counts = write_rows(arguments.surprisal, surprisal_rows(loaded.model, loaded.tokenizer, text, reset=reset))
    print(f"{arguments.surprisal}: {counts['token']:,} tokens and {counts['word']:,} words")
    return {"surprisal": arguments.surprisal, "tokens": counts["token"], "words": counts["word"]}


def minimal_pairs(loaded: Loaded, arguments: argparse.Namespace) -> dict[str, Any]:
    """Print and return the accuracy by group."""
    pairs = read_pairs(arguments.pairs, loaded.tokenizer)
    nats = sentence_nats(loaded.model, loaded.tokenizer, [pair.good for pair in pairs] + [pair.bad for pair in pairs])
    found = accuracies(pairs, nats[: len(pairs)], nats[len(pairs) :])
    width = max(len(item.group) for item in found)
    print(f"{'group':<{width}}  {'pairs':>6}  accuracy")
    for item in found:
        equal = f"  ({item.equal} equal)" if item.equal else ""
        print(f"{item.group:<{width}}  {item.pairs:>6,}  {100 * item.share:>6.1f} %{equal}")
    return {"accuracy": found[-1].share, "groups": [{**asdict(item), "accuracy": item.share} for item in found]}

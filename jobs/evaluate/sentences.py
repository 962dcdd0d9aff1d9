"""Measure nats of tokens, words and regions (``--surprisal``), and which of two sentences is likelier (``--pairs``)."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from jobs.evaluate.stimuli import Texts, write_regions
from jobs.terminal.progress import Count
from pipeline.data.streams import ResetRule
from pipeline.data.tokenizer import EOS, Tokenizer
from pipeline.evaluate import HeldOut
from pipeline.evaluate.neural_complexity import write_complexity
from pipeline.evaluate.pairs import Pair, accuracies
from pipeline.evaluate.side_by_side import sentence_nats
from pipeline.evaluate.stimuli import fitted
from pipeline.evaluate.surprisal import SCHEMA, surprisal_rows, with_labels, write_rows
from pipeline.evaluate.words import Row, WordBoundary
from pipeline.training.checkpoint import Loaded


def surprisal(loaded: Loaded, arguments: argparse.Namespace, text: HeldOut, stimuli: Texts | None) -> dict[str, Any]:
    """Write a row for every token and word of the text, or for every region, into the table that is asked for."""
    path: str = arguments.surprisal
    word_boundary: WordBoundary = arguments.word_boundary or "corrected"
    reset = ResetRule.of(loaded.config.train)
    scored = surprisal_rows(loaded.model, loaded.tokenizer, text, reset=reset, word_boundary=word_boundary)
    with Count("scored", len(text.tokens), "tokens") as progress:
        rows: Iterable[Row] = counted(scored, progress)
        if stimuli is not None and stimuli.regions is not None:
            return write_regions(path, rows, loaded.tokenizer, stimuli.regions) | {"word_boundary": word_boundary}
        if stimuli is not None:
            rows = fitted(rows, loaded.tokenizer, stimuli.stimuli)
        if arguments.format == "neural-complexity":
            counts = write_complexity(path, rows)
        else:
            counts = write_rows(path, rows, schema=with_labels(SCHEMA, None if stimuli is None else stimuli.stimuli))
    num_tokens, num_words = counts["token"], counts["word"]
    each = "" if text.begin_id is None else " of each document"
    print(
        f"{path}: {num_tokens:,} tokens and {num_words:,} words "
        f"(the first{each} too, scored after {start_of(loaded.tokenizer)})"
    )
    return {
        "surprisal": path,
        "surprisal_tokens": num_tokens,
        "surprisal_words": num_words,
        "tokens": num_tokens,
        "words": num_words,
        "word_boundary": word_boundary,
    }


def counted(rows: Iterable[Row], progress: Count) -> Iterator[Row]:
    """Yield ``rows`` and count their tokens in ``progress``."""
    for row in rows:
        if row.level == "token":
            progress.add()
        yield row


def start_of(tokenizer: Tokenizer) -> str:
    """Return the token before the start of a text, as people read it."""
    (token,) = tokenizer.start_ids.tolist()
    return EOS if token == tokenizer.eos_id else repr(tokenizer.decode([token]))


def minimal_pairs(loaded: Loaded, pairs: Sequence[Pair]) -> dict[str, Any]:
    """Print and return the accuracy for each group of ``pairs``."""
    sentences = [pair.good for pair in pairs] + [pair.bad for pair in pairs]
    with Count("scored", len(sentences), "sentences") as progress:
        nats = sentence_nats(loaded.model, loaded.tokenizer, sentences, on_sentences=progress.add)
    found = accuracies(pairs, nats[: len(pairs)], nats[len(pairs) :])
    width = max(len(item.group) for item in found)
    print(f"{'group':<{width}}  {'pairs':>6}  accuracy")
    for item in found:
        equal = f"  ({item.equal} equal)" if item.equal else ""
        print(f"{item.group:<{width}}  {item.pairs:>6,}  {100 * item.share:>6.1f} %{equal}")
    return {"accuracy": found[-1].share, "groups": [{**asdict(item), "accuracy": item.share} for item in found]}

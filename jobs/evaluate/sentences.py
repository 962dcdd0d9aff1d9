"""Measure nats of tokens, words and regions (``--surprisal``), and which of two sentences is likelier (``--pairs``)."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from jobs.evaluate.columns import Columns, as_they_are
from jobs.evaluate.stimuli import Texts, write_regions
from jobs.terminal.progress import Count
from pipeline.data.tokenizer import EOS, Tokenizer
from pipeline.evaluate import HeldOut
from pipeline.evaluate.neural_complexity import write_complexity
from pipeline.evaluate.pairs import Pair, accuracies
from pipeline.evaluate.side_by_side import sentence_nats
from pipeline.evaluate.stimuli import fitted
from pipeline.evaluate.surprisal import with_labels, write_rows
from pipeline.evaluate.words import Row
from pipeline.training.checkpoint import Loaded

TextOf = Callable[[Loaded], HeldOut]


def schema_of(columns: Columns, stimuli: Texts | None) -> pa.Schema:
    """Return the columns of the table. Raises ``UserError`` if a label of ``stimuli`` has the name of one of them."""
    return with_labels(pa.schema(columns.fields), None if stimuli is None else stimuli.stimuli)


def surprisal(
    columns: Columns, arguments: argparse.Namespace, text_of: TextOf, stimuli: Texts | None
) -> dict[str, Any]:
    """Write a row for every token and word of the text, or for every region, to the table asked for."""
    path: str = arguments.surprisal
    loaded = next(iter(columns.runs.values()))
    text, boundary = text_of(loaded), {"word_boundary": columns.word_boundary}

    def fit(rows: Iterable[Row], loaded: Loaded) -> Iterable[Row]:
        return rows if stimuli is None else fitted(rows, loaded.tokenizer, stimuli.stimuli)

    with Count("scored", len(text.tokens), "tokens") as progress:
        if stimuli is not None and stimuli.regions is not None:
            rows = counted(columns.rows(text_of, as_they_are), progress)
            return write_regions(path, rows, loaded.tokenizer, stimuli.regions) | boundary
        rows = counted(columns.rows(text_of, fit), progress)
        if arguments.format == "neural-complexity":
            counts = write_complexity(path, rows)
        else:
            counts = write_rows(path, rows, schema=schema_of(columns, stimuli))
    num_tokens, num_words = counts["token"], counts["word"]
    each = "" if text.begin_id is None else " of each document"
    after = f"(the first{each} too, scored after {start_of(loaded.tokenizer)})"
    if columns.have_same_tokens:
        print(f"{path}: {num_tokens:,} tokens and {num_words:,} words {after}")
    else:
        print(f"{path}: {num_words:,} words {after}; no rows of tokens, which differ from run to run")
    return {
        "surprisal": path,
        "surprisal_tokens": num_tokens,
        "surprisal_words": num_words,
        "tokens": num_tokens,
        "words": num_words,
        "columns": [field.name for field in columns.fields],
        **boundary,
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

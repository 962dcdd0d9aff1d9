"""Measure nats of tokens and words (``--surprisal``), and which of two sentences is likelier (``--pairs``)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from jobs.terminal.progress import Count
from pipeline.data.streams import ResetRule
from pipeline.data.tokenizer import EOS, Tokenizer
from pipeline.evaluate import HeldOut
from pipeline.evaluate.pairs import Pair, accuracies
from pipeline.evaluate.side_by_side import sentence_nats
from pipeline.evaluate.surprisal import surprisal_rows, write_rows
from pipeline.evaluate.words import Row, WordBoundary
from pipeline.training.checkpoint import Loaded


def surprisal(loaded: Loaded, path: str, text: HeldOut, word_boundary: WordBoundary) -> dict[str, Any]:
    """Write a row for every token and word of the text into the table at ``path``."""
    reset = ResetRule.of(loaded.config.train)
    rows = surprisal_rows(loaded.model, loaded.tokenizer, text, reset=reset, word_boundary=word_boundary)
    with Count("scored", len(text.tokens), "tokens") as progress:
        counts = write_rows(path, counted(rows, progress))
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

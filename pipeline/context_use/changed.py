"""Contexts that are changed before the last k tokens: shuffled, or replaced with text from elsewhere.

Letters: R rows, F tokens of the changed context.
"""

from __future__ import annotations

import numpy as np

from pipeline.context_use.rows import Changed
from pipeline.data.streams import ResetRule
from pipeline.data.tokenizer import Ids
from pipeline.data.windows import Tokens
from pipeline.errors import UserError

CHANGES = ("dropped", "shuffled", "replaced")


def changed_contexts(
    change: str, tokens: Tokens, *, length: int, longest: int, reset: ResetRule, seed: int, planned: Ids | None = None
) -> Changed | None:
    """Return what is read before each row under ``change`` (of ``CHANGES``): up to ``length`` tokens; None: nothing.

    Only as many count as precede the row in the text, or in its document if states are made zero where documents begin.
    What is drawn for a row depends only on its start and ``seed``.

    Args:
        longest: the length of the longest row; what replaces a context must not overlap the row.
        planned: (R,) starts of rows for which this is made sure now; None: of none.

    Raises:
        UserError: the text is too short for something else to replace what precedes one of them.
    """
    if change == "dropped":
        return None
    documents = tokens.document_starts(0, len(tokens))

    def counts_of(starts: Ids) -> Ids:
        counts = np.minimum(starts, length)
        if reset.at_documents:
            counts = np.minimum(counts, starts - document_of(starts, documents, len(tokens))[0])
        return counts

    def of(starts: Ids) -> tuple[Ids, Ids]:
        found, counts = np.zeros((len(starts), length), dtype=np.int64), counts_of(starts)
        for row, (start, count) in enumerate(zip(starts.tolist(), counts.tolist(), strict=True)):
            generator = np.random.default_rng([seed, start])
            if count and change == "shuffled":
                found[row, length - count :] = generator.permutation(tokens[start - count : start])
            elif count:
                begin = elsewhere(start, documents, len(tokens), length=length, longest=longest, generator=generator)
                found[row] = tokens[begin : begin + length]
        return found, counts

    if change == "replaced" and planned is not None:
        for start in planned[counts_of(planned) > 0].tolist():
            elsewhere(
                start, documents, len(tokens), length=length, longest=longest, generator=np.random.default_rng(seed)
            )
    return of


def document_of(places: Ids, documents: Ids, num_tokens: int) -> tuple[Ids, Ids]:
    """Return where the documents that contain ``places`` begin and end."""
    bounds = np.unique(np.concatenate([[0], documents, [num_tokens]]))
    index = np.searchsorted(bounds, places, side="right")
    return bounds[index - 1], bounds[np.minimum(index, len(bounds) - 1)]


def elsewhere(
    start: int, documents: Ids, num_tokens: int, *, length: int, longest: int, generator: np.random.Generator
) -> int:
    """Draw the place of the ``length`` tokens that replace those before ``start``.

    They come from other documents than the row's or, if these are too short, at least from neither the row nor what
    precedes it.

    Raises:
        UserError: the text is too short even for that.
    """
    near = max(0, start - length), min(num_tokens, start + longest + 1)
    own_begin, own_end = (int(bound[0]) for bound in document_of(np.array([start]), documents, num_tokens))
    for low, high in ((min(near[0], own_begin), max(near[1], own_end)), near):
        before, after = max(0, low - length + 1), max(0, num_tokens - length - high + 1)  # places on either side
        if before + after:
            place = int(generator.integers(before + after))
            return place if place < before else high + place - before
    raise UserError(
        f"a text of {num_tokens:,} tokens is too short: no other {length:,} can replace those before a context",
        argument="change",
    )

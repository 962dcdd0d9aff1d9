"""Contexts that are changed before the last k tokens: shuffled, or replaced by text from elsewhere.

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
    change: str, tokens: Tokens, *, length: int, longest: int, reset: ResetRule, seed: int
) -> Changed | None:
    """What is read before each row under ``change``, one of ``CHANGES``: nothing, or up to ``length`` tokens.

    As many count as the text has before the row, from the beginning of its document on if states are made zero there.
    What is drawn for a row depends on its start and ``seed`` alone.

    Args:
        longest: tokens of a row, which are not to be met in what replaces its context.
    """
    if change == "dropped":
        return None
    documents = tokens.document_starts(0, len(tokens))

    def of(starts: Ids) -> tuple[Ids, Ids]:
        found = np.zeros((len(starts), length), dtype=np.int64)
        counts = np.minimum(starts, length)
        if reset.at_documents:
            counts = np.minimum(counts, starts - document_of(starts, documents, len(tokens))[0])
        for row, (start, count) in enumerate(zip(starts.tolist(), counts.tolist(), strict=True)):
            generator = np.random.default_rng([seed, start])
            if count and change == "shuffled":
                found[row, length - count :] = generator.permutation(tokens[start - count : start])
            elif count:
                begin = elsewhere(start, documents, len(tokens), length=length, longest=longest, generator=generator)
                found[row] = tokens[begin : begin + length]
        return found, counts

    return of


def document_of(places: Ids, documents: Ids, num_tokens: int) -> tuple[Ids, Ids]:
    """Where the documents that hold ``places`` begin and end."""
    bounds = np.unique(np.concatenate([[0], documents, [num_tokens]]))
    index = np.searchsorted(bounds, places, side="right")
    return bounds[index - 1], bounds[np.minimum(index, len(bounds) - 1)]


def elsewhere(
    start: int, documents: Ids, num_tokens: int, *, length: int, longest: int, generator: np.random.Generator
) -> int:
    """Draw where ``length`` tokens begin that replace what is before ``start``.

    They are of other documents than the row's, or, where there is too little other text, at least not of the row nor
    what comes before it.

    Raises:
        UserError: the text is too short for that, too.
    """
    near = max(0, start - length), min(num_tokens, start + longest + 1)
    own_begin, own_end = (int(bound[0]) for bound in document_of(np.array([start]), documents, num_tokens))
    for low, high in ((min(near[0], own_begin), max(near[1], own_end)), near):
        before, after = max(0, low - length + 1), max(0, num_tokens - length - high + 1)  # places on either side
        if before + after:
            place = int(generator.integers(before + after))
            return place if place < before else high + place - before
    raise UserError(
        f"a text of {num_tokens:,} tokens has no other {length:,} to replace those before a context with",
        argument="change",
    )

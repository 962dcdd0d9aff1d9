"""Nats added up by type, by position in the document and by document, as they are scored.

Letters: T time, B streams, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline import metrics
from pipeline.data.tokenizer import Ids
from pipeline.data.windows import Tokens

Numbers = np.ndarray[Any, np.dtype[np.float64]]

# with fewer documents than this, intervals and tests resample stretches of this number of tokens instead
FEWEST_DOCUMENTS, STRETCH_TOKENS = 20, 1000
# lower bounds of the groups: of types by count in the training text, of positions by number of preceding tokens
COUNTS = [0, 1, 10, 100, 1_000, 10_000, 100_000, 1_000_000]
POSITIONS = [0, 10, 100, 1_000, 10_000, 100_000]
TOKENS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Group:
    """The scored tokens whose count or position lies in ``first`` … ``last`` (None: no bound)."""

    first: int
    last: int | None
    nats: float
    tokens: int

    @property
    def name(self) -> str:
        if self.last is None:
            return f"{self.first:,} and more"
        return f"{self.first:,}" if self.first == self.last else f"{self.first:,} to {self.last:,}"

    @property
    def perplexity(self) -> float:
        return metrics.perplexity(self.nats, self.tokens)

    def to_json(self) -> dict[str, Any]:
        return {"group": self.name, "tokens": self.tokens, "perplexity": self.perplexity, "nats": self.nats}


class Breakdown:
    """Sums of nats and tokens of one held-out text; memory grows with the vocabulary and the documents only."""

    def __init__(self, tokens: Tokens, vocab_size: int) -> None:
        self.documents = tokens.document_starts(0, len(tokens))
        self.are_documents = len(self.documents) >= FEWEST_DOCUMENTS
        self.stretch = max(1, min(STRETCH_TOKENS, len(tokens) // FEWEST_DOCUMENTS))
        self.units = self.documents if self.are_documents else np.arange(0, len(tokens), self.stretch)
        self.by_type = np.zeros((2, vocab_size))  # nats, tokens
        self.by_position = np.zeros((2, len(POSITIONS)))
        self.by_unit = np.zeros((2, len(self.units)))

    def add(self, first: Ids, targets: Ids, nats: Numbers) -> None:
        """Add the nats of (T, B) ``targets``, negative if they do not count; row 0 is at places (B,) ``first``."""
        counted = targets >= 0
        places = (first + np.arange(len(targets))[:, None])[counted]  # (N,)
        types, nats = targets[counted], nats[counted]
        document = np.searchsorted(self.documents, places, side="right") - 1
        position = places - np.where(document >= 0, self.documents[document], 0) if len(self.documents) else places
        for sums, index in (
            (self.by_type, types),
            (self.by_position, np.searchsorted(POSITIONS, position, side="right") - 1),
            (self.by_unit, np.maximum(0, np.searchsorted(self.units, places, side="right") - 1)),
        ):
            sums[0] += np.bincount(index, weights=nats, minlength=sums.shape[1])
            sums[1] += np.bincount(index, minlength=sums.shape[1])

    @property
    def unit(self) -> str:
        """What intervals and tests resample: documents or, if there are few, stretches of tokens."""
        if self.are_documents:
            return f"{len(self.units):,} documents"
        number, size = len(self.units), self.stretch
        return f"{number:,} stretch{'es' * (number > 1)} of {size:,} token{'s' * (size > 1)}"

    def per_unit(self) -> tuple[Numbers, Numbers]:
        """Return (nats, tokens) of every unit that has a scored token."""
        is_scored = self.by_unit[1] > 0
        return self.by_unit[0, is_scored], self.by_unit[1, is_scored]

    def position_groups(self) -> list[Group]:
        """Return the scored tokens grouped by the number of tokens before them in their document."""
        return _groups(POSITIONS, *self.by_position)

    def frequency_groups(self, counts: Ids) -> list[Group]:
        """Return the scored tokens grouped by the (V,) ``counts`` of their types in the training text."""
        group = np.searchsorted(COUNTS, counts, side="right") - 1  # (V,)
        nats, tokens = (np.bincount(group, weights=sums, minlength=len(COUNTS)) for sums in self.by_type)
        return _groups(COUNTS, nats, tokens)


def _groups(bounds: list[int], nats: Ids, tokens: Ids) -> list[Group]:
    lasts = [*(bound - 1 for bound in bounds[1:]), None]
    groups = zip(bounds, lasts, nats.tolist(), tokens.tolist(), strict=True)
    return [Group(first, last, part, round(count)) for first, last, part, count in groups if count]


def count_types(tokens: Tokens, vocab_size: int) -> Ids:
    """Return (V,) how often each type occurs in ``tokens``."""
    counts = np.zeros(vocab_size, dtype=np.int64)
    for start in range(0, len(tokens), TOKENS_AT_ONCE):
        length = min(TOKENS_AT_ONCE, len(tokens) - start)
        counts += np.bincount(tokens.rows(np.array([start]), length)[0], minlength=vocab_size)
    return counts

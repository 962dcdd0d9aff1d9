"""n-grams with their probabilities: ln p of a word given those before. Letters: M questions, K n-grams, V words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pipeline.data.tokenizer import Ids

UNKNOWN, BEGIN, END = SPECIAL = ("<unk>", "<s>", "</s>")
UNKNOWN_ID, BEGIN_ID, END_ID = range(3)  # in a model that was trained here; a file has its own order
# ln p of what never occurs: <s> as the next word
LOG_ZERO = -99 * math.log(10)
NOTHING = -1  # in place of a word before the beginning of a text

Numbers = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Level:
    """The n-grams of one order, at least one, sorted by their keys."""

    keys: Ids  # (K,) index of the first n−1 words among the (n−1)-grams · V + last word
    log_p: Numbers  # (K,) ln p of the last word given the others
    log_backoff: Numbers  # (K,) ln of the back-off weight, for words that are not found after this n-gram

    def find(self, contexts: Ids, words: Ids, vocab_size: int) -> Ids:
        """Return (M,) the index of each context (itself an index among the shorter ones) plus word; −1: none."""
        wanted = contexts * vocab_size + words
        places = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        is_there = (contexts >= 0) & (words >= 0) & (self.keys[places] == wanted)
        return np.where(is_there, places, -1)


class NGramModel:
    """A model with back-off weights, as in the ARPA format: p(w | h) is that of the n-gram h w if the model has it,
    else the weight of h times p(w | h without its first word).
    """

    def __init__(
        self,
        words: Sequence[str],
        levels: Sequence[Level],
        *,
        discounts: Sequence[tuple[float, float, float]] = (),
        orders_without_discounts: Sequence[int] = (),
    ) -> None:
        """
        Args:
            levels: n-grams of one word, of two, …; level 0 has every word, in the order of ``words``.
            discounts: of each order, for counts of 1, 2, and 3 or more, if the model was trained here.
            orders_without_discounts: those whose discounts could not be estimated from the training text.
        """
        self.words = list(words)
        self.levels = list(levels)
        self.discounts = list(discounts)
        self.orders_without_discounts = list(orders_without_discounts)

    @property
    def order(self) -> int:
        """The number of words of the longest n-grams."""
        return len(self.levels)

    @property
    def num_ngrams(self) -> list[int]:
        """How many n-grams there are of each order."""
        return [len(level.keys) for level in self.levels]

    @cached_property
    def id_of(self) -> dict[str, int]:
        """The number of each word."""
        return {word: i for i, word in enumerate(self.words)}

    @property
    def unknown_id(self) -> int:
        """The number of ``<unk>``; −1 if the model has none."""
        return self.id_of.get(UNKNOWN, NOTHING)

    def log_probabilities(self, questions: Ids) -> tuple[Numbers, Ids]:
        """Return ln p of the last word of each row given the others, and the length of the n-gram that was found.

        Args:
            questions: (M, n) numbers of words; −1 for padding (on the left), or for a word that is unknown to a model
                without ``<unk>``. Only the last ``order`` words count.

        Returns:
            (M,) ln p, NaN for a word of −1; (M,) from 0 (a word of −1) to ``order``.
        """
        questions = questions[:, -self.order :]
        words = questions[:, -1]
        log_p = np.where(words >= 0, self.levels[0].log_p[words], math.nan)
        found_order = (words >= 0).astype(np.int64)
        for length in range(1, questions.shape[1]):
            contexts = self._find(questions[:, -1 - length : -1])  # (M,) among the n-grams of ``length`` words
            ngrams = self.levels[length].find(contexts, words, len(self.words))
            weights = np.where(contexts >= 0, self.levels[length - 1].log_backoff[contexts], 0.0)
            log_p = np.where(ngrams >= 0, self.levels[length].log_p[ngrams], log_p + weights)
            found_order = np.where(ngrams >= 0, length + 1, found_order)
        return log_p, found_order

    def _find(self, ngrams: Ids) -> Ids:
        """Return (M,) the index of each row of (M, n) among the n-grams of that length; −1: none."""
        found = ngrams[:, 0]
        for level, words in zip(self.levels[1:], ngrams.T[1:], strict=False):
            found = level.find(found, words, len(self.words))
        return found

"""Words of sentences in, their distinct n-grams out, each with its count. Letters: N places, K n-grams, V words.

An n-gram is stored as one number: the index of its first n−1 words among the (n−1)-grams, times V, plus its last word.
So all n-grams of an order are found by sorting one array, and those with the same first n−1 words are adjacent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipeline.data.tokenizer import Ids


@dataclass(frozen=True)
class Counted:
    """The distinct n-grams of one order, sorted by their keys."""

    keys: Ids  # (K,) index of the first n−1 words among the (n−1)-grams · V + last word
    counts: Ids  # (K,) how often each occurs
    suffixes: Ids  # (K,) index of the last n−1 words among the (n−1)-grams; of single words 0
    begins: Ids  # (K,) whether it is at the beginning of a sentence


def counted_ngrams(words: Ids, *, order: int, vocab_size: int, begin_id: int) -> Iterator[Counted]:
    """Yield the n-grams of ``words``, order by order up to ``order``; none extends across the start of a sentence.

    Orders without n-grams are left out: for sentences of one word, all orders above three.

    Args:
        words: (N,) int64, with ``begin_id`` in front of each sentence.
    """
    counts = np.bincount(words, minlength=vocab_size)
    types = np.arange(vocab_size)
    yield Counted(types, counts, np.zeros_like(types), types == begin_id)
    places = np.arange(len(words))  # where an n-gram begins
    index = words  # (N,) which n-gram begins at each place
    for n in range(2, order + 1):
        places = places[places + n - 1 < len(words)]
        places = places[words[places + n - 1] != begin_id]
        if not len(places):
            return
        keys = index[places] * vocab_size + words[places + n - 1]
        keys, first, inverse, counts = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
        yield Counted(keys, counts, index[places[first] + 1], words[places[first]] == begin_id)
        index = np.full(len(words), -1)
        index[places] = inverse

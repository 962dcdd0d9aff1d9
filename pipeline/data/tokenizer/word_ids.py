"""The ids of a text from those of its words: every distinct word is encoded once, then looked up.

Natural text repeats its words, so nearly all of the work is finding where they are and which they are (Arrow's
``dictionary_encode``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.data.tokenizer.base import Ids, values_of
from pipeline.data.tokenizer.characters import CUT, END
from pipeline.data.tokenizer.pieces import Group

# about 50 MB; beyond it, all are forgotten and the words of the current text are encoded again
MAX_WORDS, MAX_IDS = 1 << 18, 1 << 22


class WordIds:
    """Word → ids, remembered.

    Args:
        split: returns the words of texts in UTF-8, including the ``END`` or ``CUT`` after each text.
        encode_words: returns the ids of each of some words.
        end: the ids of ``END``.
        dtype: of the ids.
    """

    def __init__(
        self,
        split: Callable[[bytes], pa.BinaryArray],
        encode_words: Callable[[list[str]], Sequence[Sequence[int]]],
        *,
        end: Sequence[int],
        dtype: np.dtype[Any],
    ) -> None:
        self.split = split
        self.encode_words = encode_words
        self.end = end
        self.dtype = dtype
        self._forget()

    def encode(self, group: Group) -> tuple[Ids, Ids]:
        """The ids of the texts, one after another, and how many each text has."""
        words = self.split(group.joined).dictionary_encode()
        rows = self._rows_of(words.dictionary.to_pylist())[values_of(words.indices)]
        lengths = self.lengths[rows]
        stops = np.cumsum(lengths)
        # id k of the text is id k - (stop - length) of its word
        places = np.repeat(self.starts[rows] - (stops - lengths), lengths)
        places += np.arange(len(places))
        return self.ids[places], np.diff(stops[rows < 2], prepend=0)  # rows 0 and 1: END and CUT

    def _rows_of(self, words: list[bytes]) -> Ids:
        rows = np.fromiter(map(self.row_of.get, words, repeat(-1)), dtype=np.int64, count=len(words))
        new = [words[place] for place in np.flatnonzero(rows < 0)]
        if not new:
            return rows
        if len(self.row_of) + len(new) > MAX_WORDS or len(self.ids) > MAX_IDS:
            self._forget()
            new = [word for word in words if word not in self.row_of]
        self._learn(new, self.encode_words([word.decode() for word in new]))
        return np.fromiter(map(self.row_of.__getitem__, words), dtype=np.int64, count=len(words))

    def _forget(self) -> None:
        self.row_of: dict[bytes, int] = {}
        self.ids = np.zeros(0, dtype=self.dtype)
        self.lengths = self.starts = np.zeros(0, dtype=np.int64)
        self._learn([END, CUT], [self.end, []])

    def _learn(self, words: Sequence[bytes], found: Sequence[Sequence[int]]) -> None:
        """Append a row for each of ``words``, with the ids that were ``found`` for it."""
        lengths = np.array([len(ids) for ids in found])
        self.row_of.update(zip(words, range(len(self.row_of), len(self.row_of) + len(words)), strict=True))
        self.starts = np.concatenate([self.starts, len(self.ids) + np.cumsum(lengths) - lengths])
        self.lengths = np.concatenate([self.lengths, lengths])
        self.ids = np.concatenate([self.ids, np.array([i for ids in found for i in ids], dtype=self.dtype)])

"""The ids of a text whose words are merged each on its own: every distinct word is encoded once, then looked up.

Natural text repeats its words, so nearly all of the work is to find where they are (``pretokens``) and which they are
(Arrow's ``dictionary_encode``); Hugging Face merges the few that are new.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pipeline.data.tokenizer.base import Ids, values_of
from pipeline.data.tokenizer.pretokens import CUT, END, split_pretokens

# about 50 MB; beyond it all are forgotten and the words of the text at hand are encoded again
MAX_WORDS, MAX_IDS = 1 << 18, 1 << 22


class WordIds:
    """Word → ids, remembered.

    Args:
        encode_words: the ids of each of some words.
        dtype: of the ids.
        end: the ids that stand at the end of a document.
    """

    def __init__(
        self, encode_words: Callable[[list[str]], list[list[int]]], *, dtype: np.dtype[Any], end: list[int]
    ) -> None:
        self.encode_words = encode_words
        self.dtype = dtype
        self.end = end
        self._forget()

    def _forget(self) -> None:
        """Rows 0 and 1 are the ends of a document and of a part of one: the words' ids follow, row after row."""
        self.row_of = {END: 0, CUT: 1}
        self.ids = np.array(self.end, dtype=self.dtype)
        self.lengths = np.array([len(self.end), 0])
        self.starts = np.array([0, len(self.end)])

    def encode(self, data: bytes) -> tuple[Ids, Ids]:
        """The ids of texts in UTF-8, each ended by ``END`` or ``CUT``, and how many each of them has."""
        words = split_pretokens(data).dictionary_encode()
        rows = self._rows_of(words.dictionary.to_pylist())[values_of(words.indices)]
        lengths = self.lengths[rows]
        stops = np.cumsum(lengths)
        # id k of the text is id k - (stop - length) of its word
        places = np.repeat(self.starts[rows] - (stops - lengths), lengths)
        places += np.arange(len(places))
        return self.ids[places], np.diff(stops[rows < 2], prepend=0)

    def _rows_of(self, words: list[bytes]) -> Ids:
        new = [word for word in words if word not in self.row_of]
        if new and (len(self.row_of) + len(new) > MAX_WORDS or len(self.ids) > MAX_IDS):
            self._forget()
            new = [word for word in words if word not in self.row_of]
        if new:
            found = self.encode_words([word.decode() for word in new])
            lengths = np.array([len(ids) for ids in found])
            self.row_of.update(zip(new, range(len(self.row_of), len(self.row_of) + len(new)), strict=True))
            self.starts = np.concatenate([self.starts, len(self.ids) + np.cumsum(lengths) - lengths])
            self.lengths = np.concatenate([self.lengths, lengths])
            self.ids = np.concatenate([self.ids, np.array([i for ids in found for i in ids], dtype=self.dtype)])
        return np.array([self.row_of[word] for word in words], dtype=np.int64)

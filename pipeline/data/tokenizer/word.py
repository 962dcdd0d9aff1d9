"""Words between white space."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial

import numpy as np
import pyarrow as pa

from pipeline.data.tokenizer.base import Ids, TypesTokenizer
from pipeline.data.tokenizer.characters import END, CharacterClasses, binary_array
from pipeline.data.tokenizer.pieces import encode_in_groups
from pipeline.data.tokenizer.word_ids import WordIds

SPACE, NEWLINE, EDGE, WORD = range(4)


class WordTokenizer(TypesTokenizer):
    """Words between white space; with ``eos: line`` each line end is ``<eos>`` (Mikolov et al. 2010)."""

    kind = "word"
    is_lossless = False  # white space is not kept

    @cached_property
    def id_of(self) -> dict[str, int]:
        return {word: i for i, word in enumerate(self.types)}

    def encode(self, text: str) -> Ids:
        return self.encode_documents([text], ends=[False])[0]

    def encode_documents(self, texts: Sequence[str], *, ends: Sequence[bool] | None = None) -> tuple[Ids, Ids]:
        if self.eos == "line":  # a last line without an end has one too
            texts = [text if text.endswith("\n") or not text else text + "\n" for text in texts]
        return encode_in_groups(self._word_ids.encode, texts, ends=ends, dtype=self.dtype)

    @cached_property
    def _word_ids(self) -> WordIds:
        end = [] if self.eos_id is None else [self.eos_id]
        known = {word.encode(): [i] for word, i in self.id_of.items()}
        known |= {b"": [0], b"\n": end, END: end if self.eos == "document" else []}
        return WordIds(partial(split_words, lines=self.eos == "line"), known, dtype=self.dtype)

    def decode(self, ids: Ids | list[int]) -> str:
        end = "\n" if self.eos == "line" else ""
        words = [end if i == self.eos_id else self.types[i] for i in np.asarray(ids)]
        text = " ".join(word for word in words if word)
        return text.replace(" \n ", "\n").replace("\n ", "\n").replace(" \n", "\n")

    def unknown_in(self, text: str) -> set[str]:
        return {word for word in text.split() if word not in self.id_of}

    def _unknown_parts(self, text: str) -> list[str]:
        return [word for word in text.split() if self.id_of.get(word, self.unk_id) == self.unk_id]

    def safe_cut(self, data: bytes, start: int) -> int | None:
        newline = data.find(b"\n", start - 1)
        return newline + 1 if 0 <= newline < len(data) - 1 else None


def classify(characters: str) -> Ids:
    """White space is what Python's ``str.split`` takes for it."""
    return np.array([NEWLINE if c == "\n" else SPACE if c.isspace() else WORD for c in characters], dtype=np.uint8)


CLASSES_OF = CharacterClasses(classify, edge=EDGE)


def split_words(data: bytes, *, lines: bool) -> pa.BinaryArray:
    """The words of ``data``, UTF-8; those that part texts, and with ``lines`` each newline, are words as well."""
    values = np.frombuffer(data, dtype=np.uint8)
    classes = CLASSES_OF(data)
    kept = classes >= (NEWLINE if lines else EDGE)
    starts = kept.copy()
    starts[1:] &= (classes[1:] != WORD) | (classes[:-1] != WORD)
    return binary_array(values[kept], np.flatnonzero(starts[kept]))

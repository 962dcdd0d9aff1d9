"""Words between white space."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from itertools import repeat

import numpy as np
import pyarrow as pa

from pipeline.data.tokenizer.base import Ids, TypesTokenizer, after_newline, values_of
from pipeline.data.tokenizer.characters import CUT, END, CharacterClasses, binary_array
from pipeline.data.tokenizer.pieces import Group, encode_in_groups

SPACE, NEWLINE, EDGE, WORD = range(4)
# what both Python and Hugging Face take for white space in ASCII
WHITE_SPACE = re.compile(rb"[ \t-\r]")


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
        return self.encode_utf8([text.encode() for text in texts], ends=ends)

    def encode_utf8(self, texts: Sequence[bytes], *, ends: Sequence[bool] | None = None) -> tuple[Ids, Ids]:
        if self.eos == "line":  # a last line without a line end gets one, too
            texts = [text if text.endswith(b"\n") or not text else text + b"\n" for text in texts]
        return encode_in_groups(self._encode_group, texts, ends=ends, dtype=self.dtype, cut=before_white_space)

    def _encode_group(self, group: Group) -> tuple[Ids, Ids]:
        words = split_words(group.joined, lines=self.eos == "line").dictionary_encode()
        distinct = words.dictionary.to_pylist()
        id_of = np.fromiter(map(self._id_of_utf8.get, distinct, repeat(0)), dtype=np.int64, count=len(distinct))
        ids = id_of[values_of(words.indices)]
        # every text has one extra word: its end, which is not a type unless documents end with <eos>
        edges = np.flatnonzero(ids >= self.vocab_size)
        lengths = np.diff(edges, prepend=-1) - 1
        if self.eos == "document" and self.eos_id is not None:
            ids[edges[group.ends]] = self.eos_id
            lengths += group.ends
        return ids[ids < self.vocab_size].astype(self.dtype), lengths

    @cached_property
    def _id_of_utf8(self) -> dict[bytes, int]:
        """The ids of words in UTF-8, and of the end of a line; ends of texts have an id beyond all others."""
        known = {word.encode(): i for i, word in enumerate(self.types)}
        return known | {b"\n": self.eos_id or 0, END: self.vocab_size, CUT: self.vocab_size}

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
        return after_newline(data, start)


def classify(characters: str) -> Ids:
    """The class of each character; white space is what Python's ``str.split`` takes for it."""
    return np.array([NEWLINE if c == "\n" else SPACE if c.isspace() else WORD for c in characters], dtype=np.uint8)


CLASSES_OF = CharacterClasses(classify, edge=EDGE)


def before_white_space(data: bytes, start: int) -> int | None:
    """The first place at or after ``start`` at which ``data``, UTF-8, may be cut without cutting a word."""
    found = WHITE_SPACE.search(data, start)
    return found.start() if found else None


def split_words(data: bytes, *, lines: bool) -> pa.BinaryArray:
    """The words of ``data``, UTF-8; ends of texts, and with ``lines`` each newline, are words as well."""
    values = np.frombuffer(data, dtype=np.uint8)
    classes = CLASSES_OF(data)
    kept = classes >= (NEWLINE if lines else EDGE)
    starts = kept.copy()
    starts[1:] &= (classes[1:] != WORD) | (classes[:-1] != WORD)
    return binary_array(values[kept], np.flatnonzero(starts[kept]))

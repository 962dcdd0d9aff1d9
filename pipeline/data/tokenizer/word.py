"""Words between white space, split by Arrow."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.data.tokenizer.base import EOS, Ids, TypesTokenizer, values_of


class WordTokenizer(TypesTokenizer):
    """Words between white space; with ``eos: line`` each line end is ``<eos>`` (Mikolov et al. 2010)."""

    kind = "word"
    is_lossless = False  # white space is not kept

    @cached_property
    def id_of(self) -> dict[str, int]:
        return {word: i for i, word in enumerate(self.types)}

    def encode(self, text: str) -> Ids:
        # each distinct word of the text is looked up once (``index_in`` would hash the whole vocabulary every time)
        words = split_words(text, eos=self.eos).dictionary_encode()
        ids = np.array([self.id_of.get(word, 0) for word in words.dictionary.to_pylist()], dtype=self.dtype)
        return ids[values_of(words.indices)]

    def decode(self, ids: Ids | list[int]) -> str:
        end = "\n" if self.eos == "line" else ""
        words = [end if i == self.eos_id else self.types[i] for i in np.asarray(ids)]
        text = " ".join(word for word in words if word)
        return text.replace(" \n ", "\n").replace("\n ", "\n").replace(" \n", "\n")

    def unknown_in(self, text: str) -> set[str]:
        return set(split_words(text, eos="none").to_pylist()) - self.id_of.keys()

    def safe_cut(self, data: bytes, start: int) -> int | None:
        newline = data.find(b"\n", start - 1)
        return newline + 1 if 0 <= newline < len(data) - 1 else None


def split_words(text: str, *, eos: str) -> pa.Array:
    """The words of ``text``; with ``eos="line"``, ``<eos>`` at each line's end, a last line without one included."""
    if eos == "line":
        text = (text if text.endswith("\n") or not text else text + "\n").replace("\n", f" {EOS} ")
    # arrow's splitter makes empty strings of white space at either end
    stripped = pc.utf8_trim_whitespace(pa.array([text], type=pa.large_string()))
    if not stripped[0].as_py():
        return pa.array([], type=pa.large_string())
    return pc.utf8_split_whitespace(stripped).values

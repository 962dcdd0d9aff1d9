"""Characters: one look-up in a table of code points."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from pipeline.data.tokenizer.base import Ids, TypesTokenizer


class CharTokenizer(TypesTokenizer):
    """Unicode characters."""

    kind = "char"

    @cached_property
    def table(self) -> Ids:
        """Code point → id."""
        table = np.zeros(0x110000, dtype=self.dtype)
        characters = self.types[self.num_special :]
        table[[ord(character) for character in characters]] = np.arange(self.num_special, self.vocab_size)
        return table

    def encode(self, text: str) -> Ids:
        if text.isascii():  # a quarter of the bytes
            return self.table[np.frombuffer(text.encode(), dtype=np.uint8)]
        return self.table[np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), dtype=np.uint32)]

    def decode(self, ids: Ids | list[int]) -> str:
        # <unk> is shown as the replacement character
        return "".join("\ufffd" if i == 0 else "" if i == self.eos_id else self.types[i] for i in np.asarray(ids))

    def unknown_in(self, text: str) -> set[str]:
        return set(text) - self._characters

    @cached_property
    def _characters(self) -> frozenset[str]:
        return frozenset(self.types[self.num_special :])

    def is_type(self, value: Any) -> bool:
        return isinstance(value, str) and len(value) == 1

    def _unknown_parts(self, text: str) -> list[str]:
        return [text[place] for place in np.flatnonzero(self.encode(text) == self.unk_id)]

"""Characters: one lookup in a table of code points."""

from __future__ import annotations

from collections.abc import Sequence
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
        if text.isascii():  # a quarter of the bytes to convert
            return self.table[np.frombuffer(text.encode(), dtype=np.uint8)]
        return self.table[np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), dtype=np.uint32)]

    def encode_utf8(self, texts: Sequence[bytes], *, ends: Sequence[bool] | None = None) -> tuple[Ids, Ids]:
        data = b"".join(texts)
        found = self.encode(data.decode())
        stops = np.cumsum(np.fromiter(map(len, texts), dtype=np.int64, count=len(texts)))
        if len(found) < len(data):  # count the first bytes of characters, not all bytes
            begins = np.frombuffer(data, dtype=np.uint8) & 0xC0 != 0x80
            stops = np.cumsum(begins, dtype=np.int64)[stops - 1] * (stops > 0)
        has_end = np.array([True] * len(texts) if ends is None else ends, dtype=bool)
        if self.eos != "document" or not has_end.any():
            return found, np.diff(stops, prepend=0)
        ids = np.empty(len(found) + np.count_nonzero(has_end), dtype=self.dtype)
        stops += np.cumsum(has_end)
        is_end = np.zeros(len(ids), dtype=bool)
        is_end[stops[has_end] - 1] = True
        ids[is_end], ids[~is_end] = self.eos_id, found
        return ids, np.diff(stops, prepend=0)

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

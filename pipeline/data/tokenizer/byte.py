"""Bytes: every text has ids, and each id is its own byte."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.data.tokenizer.base import Ids, Tokenizer
from pipeline.data.tokenizer.characters import END

LONG_TEXT = 1 << 14  # bytes


class ByteTokenizer(Tokenizer):
    """The 256 bytes of UTF-8, and ``<eos>`` = 256 if documents end with one."""

    kind = "byte"

    def __init__(self, eos: str) -> None:
        super().__init__(eos)
        self.eos_id = 256 if eos == "document" else None

    @property
    def vocab_size(self) -> int:
        return 256 if self.eos_id is None else 257

    def encode(self, text: str) -> Ids:
        return np.frombuffer(text.encode(), dtype=np.uint8).astype(np.uint16)

    def encode_documents(self, texts: Sequence[str], *, ends: Sequence[bool] | None = None) -> tuple[Ids, Ids]:
        return self.encode_utf8([text.encode() for text in texts], ends=ends)

    def encode_utf8(self, texts: Sequence[bytes], *, ends: Sequence[bool] | None = None) -> tuple[Ids, Ids]:
        has_end = np.array([True] * len(texts) if ends is None else ends, dtype=bool) & (self.eos_id is not None)
        lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts)) + has_end
        ids = np.empty(lengths.sum(), dtype=np.uint16)
        ends_at = np.cumsum(lengths)
        if len(ids) > LONG_TEXT * len(texts):  # faster one by one than joined
            for text, end, length in zip(texts, ends_at.tolist(), lengths.tolist(), strict=True):
                ids[end - length : end - length + len(text)] = np.frombuffer(text, dtype=np.uint8)
        else:
            parts = (text + END * end for text, end in zip(texts, has_end.tolist(), strict=True))
            data = END.join([*texts, b""]) if has_end.all() else b"".join(parts)
            ids[:] = np.frombuffer(data, dtype=np.uint8)
        ids[ends_at[has_end] - 1] = 256
        return ids, lengths

    def decode(self, ids: Ids | list[int]) -> str:
        values = np.asarray(ids)
        return values[values < 256].astype(np.uint8).tobytes().decode(errors="replace")

    def decode_bytes(self, token: int) -> bytes:
        return bytes([token]) if token < 256 else b""

    def _content(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_content(cls, eos: str, content: dict[str, Any]) -> ByteTokenizer:
        return cls(eos)

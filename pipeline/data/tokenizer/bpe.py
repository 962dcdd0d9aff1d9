"""Byte-level byte-pair encoding."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from tokenizers import Tokenizer as HuggingFaceTokenizer
from tokenizers import decoders, models, pre_tokenizers, trainers

from pipeline.config import TokenizerConfig
from pipeline.data.tokenizer.base import Ids, Tokenizer

DEFAULT_BPE_VOCAB_SIZE = 8192
# Hugging Face encodes a batch of pieces on all threads, one long string on a single one
BPE_PIECE_CHARACTERS = 16_384


class BpeTokenizer(Tokenizer):
    """Byte-level byte-pair encoding (Sennrich et al. 2016; Radford et al. 2019) by Hugging Face ``tokenizers``."""

    kind = "bpe"

    def __init__(self, eos: str, engine: HuggingFaceTokenizer) -> None:
        super().__init__(eos)
        self.engine = engine
        # beside the engine's own types, so that a text that spells it out is not taken for it
        self.eos_id = engine.get_vocab_size() if eos == "document" else None

    @property
    def vocab_size(self) -> int:
        return self.engine.get_vocab_size() + (self.eos_id is not None)

    def encode(self, text: str) -> Ids:
        encodings = self.engine.encode_batch_fast(list(self._pieces(text)), add_special_tokens=False)
        parts = [np.array(encoding.ids, dtype=self.dtype) for encoding in encodings]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=self.dtype)

    def _pieces(self, text: str) -> Iterator[str]:
        start = 0
        while start < len(text):
            end = start + BPE_PIECE_CHARACTERS
            while (end := text.find("\n", end) + 1) and not _is_between_words(text, end):
                pass
            yield text[start : end or len(text)]
            start = end or len(text)

    def decode(self, ids: Ids | list[int]) -> str:
        known = [int(i) for i in np.asarray(ids) if i != self.eos_id]
        return self.engine.decode(known, skip_special_tokens=False)

    def decode_bytes(self, token: int) -> bytes:
        if token == self.eos_id:
            return b""
        return bytes(BYTE_OF[character] for character in str(self.engine.id_to_token(token)))

    def safe_cut(self, data: bytes, start: int) -> int | None:
        offset = start - 1
        while (offset := data.find(b"\n", offset) + 1) and offset < len(data):
            # decode a character either side: a space may be more than one byte
            before = data[max(0, offset - 5) : offset - 1].decode(errors="ignore")[-1:]
            after = data[offset : offset + 4].decode(errors="ignore")[:1]
            if before and after and not before.isspace() and not after.isspace():
                return offset
        return None

    def _content(self) -> dict[str, Any]:
        return {"engine": json.loads(self.engine.to_str())}

    @classmethod
    def from_content(cls, eos: str, content: dict[str, Any]) -> BpeTokenizer:
        return cls(eos, HuggingFaceTokenizer.from_str(json.dumps(content["engine"])))


def _is_between_words(text: str, cut: int) -> bool:
    """Whether ``cut``, just after a newline, stands between two characters that are not white space."""
    return 2 <= cut < len(text) and not text[cut - 2].isspace() and not text[cut].isspace()


def _byte_alphabet() -> dict[str, int]:
    """Byte-level BPE's printable stand-in for each byte → the byte (Radford et al. 2019)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}


BYTE_OF = _byte_alphabet()


def train_bpe(config: TokenizerConfig, eos: str, documents: Iterable[str]) -> BpeTokenizer:
    """Merges learnt from ``documents``. Raises ``ValueError`` for a vocabulary that cannot hold the bytes."""
    vocab_size = (config.vocab_size or DEFAULT_BPE_VOCAB_SIZE) - (eos == "document")
    if vocab_size < 257:
        raise ValueError(f"tokenizer.vocab_size: bpe needs at least 258 types (256 bytes), not {config.vocab_size}")
    engine = HuggingFaceTokenizer(models.BPE())
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    engine.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=max(2, config.min_count),
        initial_alphabet=sorted(BYTE_OF),
        show_progress=False,
    )
    engine.train_from_iterator(documents, trainer)
    return BpeTokenizer(eos, engine)

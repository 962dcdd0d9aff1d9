"""Text in, token ids out, and back: bytes, characters, words and byte-pair encoding behind one interface.

train on the training documents → encode each document → decode ids to text; saved as one JSON file, never a pickle.

A tokenizer also says where a text may be cut so that the pieces, encoded apart, give the tokens of the whole
(``safe_cut``): that is what lets many workers share one file and still write the same shards as one.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Tokenizer as HuggingFaceTokenizer
from tokenizers import decoders, models, pre_tokenizers, trainers

from pipeline.config import TokenizerConfig

Ids = np.ndarray[Any, np.dtype[Any]]

UNK, EOS = "<unk>", "<eos>"
DEFAULT_BPE_VOCAB_SIZE = 8192
# Hugging Face encodes a batch of pieces on all threads, one long string on a single one
BPE_PIECE_CHARACTERS = 16_384


class Tokenizer(ABC):
    """One unit of text a token. Special types: ``unk_id`` (None: cannot occur), ``eos_id`` (None: not used)."""

    kind: str
    unk_id: int | None = None
    eos_id: int | None = None
    is_lossless: bool = True  # decoding gives back the encoded text, where no <unk> is in it

    def __init__(self, eos: str) -> None:
        self.eos = eos  # where <eos> stands: line, document or none

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """Types, special ones included."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The smallest type that holds every id: uint16, or uint32 beyond 65,536 types."""
        return np.dtype(np.uint16 if self.vocab_size <= 1 << 16 else np.uint32)

    @abstractmethod
    def encode(self, text: str) -> Ids:
        """The ids of ``text``, without the ``<eos>`` that ends a document."""

    @abstractmethod
    def decode(self, ids: Ids | list[int]) -> str:
        """The text of ``ids``; ``<eos>`` of a document is nothing, bytes that are not UTF-8 become U+FFFD."""

    def decode_bytes(self, token: int) -> bytes:
        """The UTF-8 bytes that one token stands for."""
        return self.decode([token]).encode()

    @abstractmethod
    def _content(self) -> dict[str, Any]:
        """What ``from_content`` needs beside ``kind`` and ``eos``."""

    @classmethod
    @abstractmethod
    def from_content(cls, eos: str, content: dict[str, Any]) -> Tokenizer: ...

    def unknown_in(self, text: str) -> set[str]:
        """The parts of ``text`` that would become ``<unk>``."""
        return set()

    def safe_cut(self, data: bytes, start: int) -> int | None:
        """The first offset ≥ ``start`` > 0 at which ``data``, UTF-8, may be cut; None if there is none within."""
        for offset in range(start, len(data)):
            if data[offset] & 0xC0 != 0x80:  # the first byte of a character
                return offset
        return None

    def encode_document(self, text: str, *, ends: bool = True) -> Ids:
        """The ids of a document, or of a part of it that ``ends`` the document or not."""
        ids = self.encode(text)
        if ends and self.eos == "document" and self.eos_id is not None:
            return np.append(ids, np.array(self.eos_id, dtype=ids.dtype))
        return ids

    @cached_property
    def serialized(self) -> bytes:
        """The bytes of the saved file, the same for the same tokenizer."""
        values = {"kind": self.kind, "eos": self.eos, **self._content()}
        return json.dumps(values, ensure_ascii=False, sort_keys=True).encode()

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the saved file."""
        return hashlib.sha256(self.serialized).hexdigest()

    def save(self, path: str | Path) -> None:
        Path(path).write_bytes(self.serialized)


class ByteTokenizer(Tokenizer):
    """The 256 bytes of UTF-8, and ``<eos>`` = 256 where documents end with one."""

    kind = "byte"

    def __init__(self, eos: str) -> None:
        super().__init__(eos)
        self.eos_id = 256 if eos == "document" else None

    @property
    def vocab_size(self) -> int:
        return 256 if self.eos_id is None else 257

    def encode(self, text: str) -> Ids:
        return np.frombuffer(text.encode(), dtype=np.uint8).astype(np.uint16)

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


class TypesTokenizer(Tokenizer):
    """A list of types; id 0 is ``<unk>``, id 1 ``<eos>`` where it is used, then by falling count."""

    unk_id = 0

    def __init__(self, eos: str, types: list[str]) -> None:
        super().__init__(eos)
        self.types = types
        self.eos_id = 1 if eos != "none" else None

    @property
    def vocab_size(self) -> int:
        return len(self.types)

    @property
    def num_special(self) -> int:
        return 1 if self.eos_id is None else 2

    def _content(self) -> dict[str, Any]:
        return {"types": self.types}

    @classmethod
    def from_content(cls, eos: str, content: dict[str, Any]) -> TypesTokenizer:
        return cls(eos, content["types"])


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
        return self.table[np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), dtype=np.uint32)]

    def decode(self, ids: Ids | list[int]) -> str:
        # <unk> is shown as the replacement character
        return "".join("\ufffd" if i == 0 else "" if i == self.eos_id else self.types[i] for i in np.asarray(ids))

    def unknown_in(self, text: str) -> set[str]:
        return set(text) - set(self.types[self.num_special :])


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
        return ids[words.indices.to_numpy()]

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

TOKENIZERS: dict[str, type[Tokenizer]] = {
    kind.kind: kind for kind in (ByteTokenizer, CharTokenizer, WordTokenizer, BpeTokenizer)
}


def train_tokenizer(config: TokenizerConfig, documents: Iterable[str], *, num_documents: int) -> Tokenizer:
    """The tokenizer of the training ``documents``, the same whatever their order is cut into.

    Raises:
        ValueError: settings that do not go together.
    """
    eos = config.eos
    if eos == "auto":
        eos = "line" if config.kind == "word" else "document" if num_documents > 1 else "none"
    if eos == "line" and config.kind != "word":
        raise ValueError(f"tokenizer.eos: line is for words; with tokenizer.kind={config.kind} line ends are tokens")
    if config.kind == "byte":
        if config.vocab_size is not None:
            raise ValueError("tokenizer.vocab_size: bytes have a vocabulary of their own; leave it null")
        return ByteTokenizer(eos)
    if config.kind == "bpe":
        return _train_bpe(config, eos, documents)
    counts: Counter[str] = Counter()
    for text in documents:
        if config.kind == "char":
            counts.update(text)
            continue
        found = split_words(text, eos="none").value_counts()
        counts.update(dict(zip(found.field(0).to_pylist(), found.field(1).to_pylist(), strict=True)))
    special = [UNK] if eos == "none" else [UNK, EOS]
    common = sorted((-count, text) for text, count in counts.items() if count >= config.min_count)
    types = special + [text for _, text in common if text not in special]
    kind = CharTokenizer if config.kind == "char" else WordTokenizer
    return kind(eos, types[: config.vocab_size])


def _train_bpe(config: TokenizerConfig, eos: str, documents: Iterable[str]) -> BpeTokenizer:
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


def load_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer saved at ``path``. Raises ``ValueError`` naming a file that is missing or is none."""
    try:
        values = json.loads(Path(path).read_bytes())
        return TOKENIZERS[values.pop("kind")].from_content(values.pop("eos"), values)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such tokenizer file") from None
    except Exception:
        raise ValueError(f"{path}: not a tokenizer that this program saved") from None

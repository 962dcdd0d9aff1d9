"""The interface of every tokenizer, and the part that tokenizers with a list of types share."""

from __future__ import annotations

import copy
import hashlib
import json
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa

from pipeline.errors import UserError

Ids = np.ndarray[Any, np.dtype[Any]]

UNK, EOS = "<unk>", "<eos>"
CONTEXT = 64  # bytes on either side of a cut that a tokenizer may look at, to tell whether it is safe


class UnknownTextError(UserError):
    """A text has something for which a tokenizer has no type, and no type for the unknown."""


class Tokenizer(ABC):
    """Each token is one unit of text. Special types: ``unk_id`` (None: cannot occur), ``eos_id`` (None: not used)."""

    kind: str
    unk_id: int | None = None
    eos_id: int | None = None
    is_lossless: bool = True  # decoding gives back the encoded text, unless it has <unk>
    normal_form: Literal["NFC", "NFKC"] | None = None  # of the texts that its model was trained on (corpus.normalize)

    def __init__(self, eos: str) -> None:
        self.eos = eos  # where <eos> is put: line, document or none

    @property
    def unit(self) -> str:
        """What its tokens are, for sentences."""
        return self.kind

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
        """The ids of ``text``, without the ``<eos>`` that ends a document.

        Raises:
            UnknownTextError: there is no type for something in it, and none for the unknown.
        """

    @abstractmethod
    def decode(self, ids: Ids | list[int]) -> str:
        """The text of ``ids``; the ``<eos>`` of a document becomes nothing, bytes that are not UTF-8 become U+FFFD."""

    def decode_bytes(self, token: int) -> bytes:
        """The UTF-8 bytes that one token stands for."""
        return self.decode([token]).encode()

    @abstractmethod
    def _content(self) -> dict[str, Any]:
        """What ``from_content`` needs besides ``kind`` and ``eos``."""

    @classmethod
    @abstractmethod
    def from_content(cls, eos: str, content: dict[str, Any]) -> Tokenizer: ...

    @property
    def start_ids(self) -> Ids:
        """The one token that is read before a text if nothing else comes before it: the end of a document or line.

        If there is none, white space; if that is not a token either, ``<unk>`` or whatever is type 0.
        """
        if self.eos_id is not None:
            return np.array([self.eos_id])
        space = self.encode(self.known_of("\n "))[:1]
        return space if len(space) else np.array([self.unk_id or 0])

    def of_form(self, form: Literal["NFC", "NFKC"] | None) -> Self:
        """The same tokenizer, for a model whose texts were brought to ``form``; None: they were left as they were."""
        if form == self.normal_form:
            return self
        found = copy.copy(self)
        found.normal_form = form
        return found

    def normalized(self, text: str) -> str:
        """``text``, which a model is asked about, in the normal form of the model's training texts."""
        return text if self.normal_form is None else unicodedata.normalize(self.normal_form, text)

    def known_of(self, text: str) -> str:
        """``text`` without the characters that ``encode`` refuses."""
        return text

    def unknown_in(self, text: str) -> set[str]:
        """The parts of ``text`` that would become ``<unk>``."""
        return set()

    def texts_of_unknown(self, text: str) -> list[str | None]:
        """What ``text`` has in place of each ``<unk>`` of ``encode(text)``; None if that is not known."""
        if self.unk_id is None:
            return []
        found, number = self._unknown_parts(text), int((self.encode(text) == self.unk_id).sum())
        return [*found] if len(found) == number else [None] * number

    def _unknown_parts(self, text: str) -> list[str]:
        """The parts of ``text`` that become ``<unk>``, in order; empty if that is not known."""
        return []

    def safe_cut(self, data: bytes, start: int) -> int | None:
        """The first offset ≥ ``start`` > 0 at which ``data``, UTF-8, may be cut; None if there is none."""
        return before_character(data, start)

    def encode_document(self, text: str, *, ends: bool = True) -> Ids:
        """The ids of a document, or of a part of one; ``ends``: whether it ends the document."""
        ids = self.encode(text)
        if ends and self.eos == "document" and self.eos_id is not None:
            return np.append(ids, np.array(self.eos_id, dtype=ids.dtype))
        return ids

    def encode_documents(self, texts: Sequence[str], *, ends: Sequence[bool] | None = None) -> tuple[Ids, Ids]:
        """The ids of many documents, one after another as from ``encode_document``, and how many each document has.

        Args:
            ends: whether each text ends its document, or is a part that does not; None: all of them do.
        """
        found = [self.encode_document(t, ends=e) for t, e in zip(texts, ends or [True] * len(texts), strict=True)]
        lengths = np.array([len(ids) for ids in found], dtype=np.int64)
        return np.concatenate([np.zeros(0, dtype=self.dtype), *found]).astype(self.dtype, copy=False), lengths

    def encode_utf8(self, texts: Sequence[bytes], *, ends: Sequence[bool] | None = None) -> tuple[Ids, Ids]:
        """As ``encode_documents``, from their UTF-8."""
        return self.encode_documents([text.decode() for text in texts], ends=ends)

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


class TypesTokenizer(Tokenizer):
    """A list of types: id 0 is ``<unk>``, id 1 is ``<eos>`` if it is used, then by falling count."""

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
        found = cls(eos, content["types"])
        special, own = found.types[: found.num_special], found.types[found.num_special :]
        if special != [UNK, EOS][: found.num_special] or not all(map(found.is_type, own)):
            raise ValueError("types of another tokenizer")
        return found

    def is_type(self, value: Any) -> bool:
        """Whether ``value`` may be in the list of types, after the special ones."""
        return isinstance(value, str)


def before_character(data: bytes, start: int) -> int | None:
    """The first place at or after ``start`` where a character of ``data``, UTF-8, begins; None: there is none."""
    return next((place for place in range(start, len(data)) if data[place] & 0xC0 != 0x80), None)


def after_newline(data: bytes, start: int) -> int | None:
    """The first start of a line at or after ``start`` > 0 that has anything after it; None: there is none."""
    newline = data.find(b"\n", start - 1)
    return newline + 1 if 0 <= newline < len(data) - 1 else None


# Arrow's own conversions to and from numpy import pandas first: half a second, and some 40 MB of memory
def values_of(indices: pa.Int32Array) -> Ids:
    """The numbers in ``indices``."""
    return np.frombuffer(indices.buffers()[1], dtype=np.int32, count=len(indices), offset=4 * indices.offset)


def as_arrow(numbers: Ids) -> pa.Array:
    """An array of the same ``numbers``, without a copy."""
    buffers = [None, pa.py_buffer(np.ascontiguousarray(numbers))]
    return pa.Array.from_buffers(pa.from_numpy_dtype(numbers.dtype), len(numbers), buffers)

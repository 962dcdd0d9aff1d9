"""The bytes that each type of a ``tokenizer.json`` stands for, although its decoder only decodes whole texts.

A decoder joins types into a text. Here it decodes a type between two others. Types that are parts of a character
(byte-level, or ``<0xC3>``) would be lost on the way, so those are read here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tokenizers import Tokenizer as HuggingFaceTokenizer
from tokenizers import models

from pipeline.data.tokenizer.bpe import BYTE_OF
from pipeline.errors import UserError

BYTE_TYPE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
# noncharacters, which occur in no type: what is put before a type, and after it
BEFORE, AFTER = "\ufdd0\ufdd1", "\ufdd1\ufdd0"
Decode = Callable[[list[str]], str]


class TypeBytes:
    """Type → its bytes in the middle of a text, according to ``decoder``, the section of that name.

    Raises:
        UserError: the decoder is CTC, which joins equal neighbours, so that a type alone stands for nothing.
    """

    def __init__(self, decoder: dict[str, Any] | None) -> None:
        parts = list(_flatten(decoder))
        kinds = [part["type"] for part in parts]
        if "CTC" in kinds:
            raise UserError("its decoder, CTC, is for speech: it leaves out a type that follows itself")
        at = next((i for i, kind in enumerate(kinds) if kind in ("ByteLevel", "ByteFallback")), len(parts))
        self.is_byte_level = kinds[at : at + 1] == ["ByteLevel"]
        self.is_byte_fallback = kinds[at : at + 1] == ["ByteFallback"]
        self.first = " ".join if decoder is None else _decode_by(parts[:at])
        self.rest = _decode_by(parts[at + 1 :])

    def __call__(self, content: str) -> bytes:
        content = _between(self.first, content)
        if self.is_byte_fallback and (found := BYTE_TYPE.fullmatch(content)):
            return bytes.fromhex(found[1])
        data = content.encode()
        if self.is_byte_level and all(character in BYTE_OF for character in content):
            data = bytes(BYTE_OF[character] for character in content)
        try:
            return _between(self.rest, data.decode()).encode()
        except UnicodeDecodeError:
            return data


def _flatten(decoder: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    """The steps of a decoder, one after another."""
    if decoder is None:
        return
    if decoder["type"] != "Sequence":
        yield decoder
    for part in decoder.get("decoders", []):
        yield from _flatten(part)


def _decode_by(parts: Sequence[dict[str, Any]]) -> Decode:
    if not parts:
        return "".join
    values = json.loads(HuggingFaceTokenizer(models.BPE()).to_str())
    values["decoder"] = {"type": "Sequence", "decoders": list(parts)}
    decode: Decode = HuggingFaceTokenizer.from_str(json.dumps(values)).decoder.decode
    return decode


def _between(decode: Decode, content: str) -> str:
    """What ``decode`` returns for ``content`` between two other types."""
    after = decode([BEFORE, AFTER]).removeprefix(BEFORE)  # with whatever is put before any type
    return decode([BEFORE, content, AFTER]).removeprefix(BEFORE).removesuffix(after)

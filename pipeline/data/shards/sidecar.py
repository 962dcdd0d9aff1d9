"""The sidecar of a shard: a line of JSON, then where its documents begin; its own xxh3 last.

A document may have only ten tokens: where they begin is packed, and unpacked only if someone asks for it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import xxhash

from pipeline.data.packing import pack, unpack
from pipeline.data.tokenizer import Ids
from pipeline.errors import UserError

SUFFIX = ".index"
CHECKSUM_BYTES = 8


def sidecar_name(shard: str) -> str:
    return f"{shard}{SUFFIX}"


@dataclass(frozen=True)
class Sidecar:
    """``facts``: what a shard was ``made_of``, the ``entry`` of its tokens, its counts, its ``batches``."""

    facts: Mapping[str, Any]
    packed_starts: bytes

    @classmethod
    def of(cls, facts: Mapping[str, Any], document_starts: Ids) -> Sidecar:
        """
        Args:
            document_starts: tokens of the shard that come before each document, int64, ascending.
        """
        return cls(facts, pack(document_starts))

    @classmethod
    def from_bytes(cls, data: bytes) -> Sidecar:
        """Raises ``UserError`` for data that is not a whole sidecar."""
        content = data[:-CHECKSUM_BYTES]
        if xxhash.xxh3_64_digest(content) != data[-CHECKSUM_BYTES:]:
            raise UserError("cut short or altered since it was written (its checksum does not match)")
        line, _, packed = content.partition(b"\n")
        return cls(json.loads(line), packed)

    def to_bytes(self) -> bytes:
        content = json.dumps(self.facts, ensure_ascii=False).encode() + b"\n" + self.packed_starts
        return content + xxhash.xxh3_64_digest(content)

    @cached_property
    def document_starts(self) -> Ids:
        """As given to ``of``."""
        return unpack(self.packed_starts)

    @property
    def shard_entry(self) -> dict[str, Any]:
        """The manifest's entry of the shard: the numbers in ``facts``, and the size and checksum of this sidecar."""
        numbers = {name: value for name, value in self.facts.items() if isinstance(value, int)}
        data = self.to_bytes()
        own = {"bytes": len(data), "xxh3": xxhash.xxh3_64_hexdigest(data)}
        return {**self.facts["entry"], **numbers, "sidecar": own}

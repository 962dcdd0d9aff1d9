"""A piece: a stretch of a source, small enough to be described in a line of JSON and read anywhere."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xxhash

from pipeline.data.corpus.sources import Source
from pipeline.data.tokenizer import Ids

ALL = (0.0, 1.0)


@dataclass(frozen=True)
class Piece:
    """Units ``start`` to ``stop`` of a source; of its documents those whose hash lies in ``share``, but ``dropped``."""

    source: Source
    start: int
    stop: int
    share: tuple[float, float] = ALL
    dropped: bytes = b""  # int64 places of documents, ascending

    @classmethod
    def whole(cls, source: Source) -> Piece:
        return cls(source, 0, source.extent)

    @property
    def is_whole(self) -> bool:
        return self.start == 0 and self.stop == self.source.extent

    @property
    def num_bytes(self) -> int:
        """Bytes of its text, a guess where those of the source are."""
        low, high = self.share
        return round(self.source.num_bytes * (self.stop - self.start) * (high - low) / max(1, self.source.extent))

    @property
    def dropped_places(self) -> Ids:
        return np.frombuffer(self.dropped, dtype="<i8")

    def part(self, start: int, stop: int) -> Piece:
        """Its units from ``start`` to ``stop``."""
        places = self.dropped_places
        if len(places):
            units = np.array([self.source.unit_of(int(place)) for place in places])
            places = places[(units >= start) & (units < stop)]
        return replace(self, start=start, stop=stop, dropped=places.tobytes())

    def without(self, places: Ids) -> Piece:
        """Without the documents at ``places``, int64, ascending."""
        return replace(self, dropped=places.astype("<i8").tobytes())

    def has(self, place: int) -> bool:
        """Whether the hash of the document at ``place`` lies in its share."""
        if self.share == ALL:
            return True
        chance = xxhash.xxh3_64_intdigest(f"{self.source.name}\0{place}".encode()) / 2**64
        return self.share[0] <= chance < self.share[1]

    @property
    def identity(self) -> list[Any]:
        """What its documents depend on, short."""
        digest = xxhash.xxh3_64_hexdigest(self.dropped) if self.dropped else ""
        source = self.source
        return [source.name, source.form, source.extent, source.size, self.start, self.stop, *self.share, digest]

    def to_json(self) -> list[Any]:
        dropped = base64.b64encode(self.dropped).decode()
        return [list(vars(self.source).values()), self.start, self.stop, list(self.share), dropped]

    @classmethod
    def from_json(cls, values: Sequence[Any]) -> Piece:
        source, start, stop, (low, high), dropped = values
        return cls(Source(*source), start, stop, (low, high), base64.b64decode(dropped))


def num_bytes_of(pieces: Sequence[Piece]) -> int:
    return sum(piece.num_bytes for piece in pieces)

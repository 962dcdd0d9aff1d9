"""A slice: a stretch of a source, small enough to be sent anywhere and read there; and slices of slices."""

from __future__ import annotations

import math
import warnings
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, TypeVar

import numpy as np
import xxhash

from pipeline.data.readers import Cut, Reader
from pipeline.data.readers.base import Mask
from pipeline.data.tokenizer import Ids
from pipeline.errors import Notice, UserError

# share of what a weight asks for by which a text in few parts may be rounded
WEIGHT_TOLERANCE = 0.05
SAMPLE_PARTS, SAMPLE_PART_BYTES = 128, 4096
ALL = (0.0, 1.0)
T = TypeVar("T")


@dataclass(frozen=True)
class Slice:
    """Units ``start`` to ``stop`` of a source; only documents whose hash is in ``share``, without ``dropped``.

    ``most_bytes``: of a sample, how much of its text is read, from its beginning; None: all of it.
    """

    reader: Reader
    start: int
    stop: int
    share: tuple[float, float] = ALL
    dropped: bytes = b""  # int64 places of documents, ascending
    most_bytes: int | None = None

    @classmethod
    def whole(cls, reader: Reader) -> Slice:
        return cls(reader, 0, reader.extent)

    @property
    def num_bytes(self) -> int:
        """Bytes of its text; a guess if those of the source are."""
        low, high = self.share
        whole = round(self.reader.num_bytes * (self.stop - self.start) * (high - low) / max(1, self.reader.extent))
        return whole if self.most_bytes is None else min(whole, self.most_bytes)

    @property
    def dropped_places(self) -> Ids:
        return np.frombuffer(self.dropped, dtype="<i8")

    def part(self, start: int, stop: int) -> Slice:
        """Its units from ``start`` to ``stop``."""
        places = self.dropped_places
        units = self.reader.units_of(places)
        return replace(self, start=start, stop=stop, dropped=places[(units >= start) & (units < stop)].tobytes())

    def without(self, places: Ids) -> Slice:
        """Return it without the documents at ``places``, int64, ascending."""
        return replace(self, dropped=places.astype("<i8").tobytes())

    def has(self, places: Ids) -> Mask:
        """Whether the hash of the document at each of ``places`` is in its share."""
        low, high = self.share
        name = self.reader.name.encode()
        names = [b"%b\0%d" % (name, place) for place in places.tolist()]
        chances = np.fromiter(map(xxhash.xxh3_64_intdigest, names), dtype=np.uint64, count=len(names)) / 2**64
        return (low <= chances) & (chances < high)

    @property
    def identity(self) -> list[Any]:
        """What its documents depend on, in short."""
        digest = xxhash.xxh3_64_hexdigest(self.dropped) if self.dropped else ""
        reader = self.reader
        return [reader.name, reader.form, reader.extent, reader.size, self.start, self.stop, *self.share, digest]

    def cut_after(self, num_bytes: int, safe_cut: Cut | None = None) -> int | None:
        """Where it may be cut in two so that about ``num_bytes`` of text come before; None: nowhere from there on.

        Args:
            safe_cut: where a document may be cut; None: at line starts.
        """
        units = (self.stop - self.start) * num_bytes / self.num_bytes
        return self.reader.find_cut(self.start, self.stop, self.start + max(1, round(units)), safe_cut)


def num_bytes_of(slices: Sequence[Slice]) -> int:
    return sum(item.num_bytes for item in slices)


def group(slices: Sequence[Slice], num_bytes: int, safe_cut: Cut | None = None) -> Iterator[list[Slice]]:
    """Consecutive slices in groups of about ``num_bytes``, one cut in two where it would not fit."""
    found: list[Slice] = []
    room = num_bytes
    for item in slices:
        rest = item
        while rest.num_bytes > room and (where := rest.cut_after(room, safe_cut)) is not None:
            yield [*found, rest.part(rest.start, where)]
            found, room = [], num_bytes
            rest = rest.part(where, rest.stop)
        found.append(rest)
        room -= rest.num_bytes
        if room <= 0:
            yield found
            found, room = [], num_bytes
    if found:
        yield found


def in_batches(items: Iterable[T], num_bytes: int, bytes_of: Callable[[T], int]) -> Iterator[list[T]]:
    """``items``, whole, in lists that reach ``num_bytes``, except for the last."""
    found: list[T] = []
    total = 0
    for item in items:
        found.append(item)
        total += bytes_of(item)
        if total >= num_bytes:
            yield found
            found, total = [], 0
    if found:
        yield found


def blocks(slices: Sequence[Slice], num_bytes: int) -> Iterator[Slice]:
    """``slices`` in parts of about ``num_bytes``, each from a single slice."""
    for item in slices:
        for (part,) in group([item], num_bytes):
            yield part


def between(slices: Sequence[Slice], start: int, stop: int) -> list[Slice]:
    """What lies between bytes ``start`` and ``stop`` of ``slices`` taken one after another."""
    found, offset = [], 0
    for item in slices:
        begin, end = (_near(item, cut - offset) for cut in (start, stop))
        if begin < end:
            found.append(item.part(begin, end))
        offset += item.num_bytes
    return found


def _near(item: Slice, num_bytes: int) -> int:
    """The first place with at least ``num_bytes`` of text before it where ``item`` may be cut, or its end."""
    if num_bytes <= 0:
        return item.start
    if num_bytes >= item.num_bytes:
        return item.stop
    cut = item.cut_after(num_bytes)
    return item.stop if cut is None else cut


def mixture_of(slices: Sequence[Slice], weights: Sequence[float] | None) -> list[list[Slice]]:
    """The lists that are mixed evenly: each pattern's slices as often as its weight says; None: all slices in one list.

    2.5 is all of them twice, and the first half once more.

    Raises:
        UserError: a part of a text is wanted that cannot be cut.
    """
    if weights is None:
        return [list(slices)]
    mixture = []
    for origin, weight in enumerate(weights):
        own = [item for item in slices if item.reader.origin == origin]
        mixture.append(own * int(weight) + (first_part(own, weight) if weight % 1 else []))
    return mixture


def first_part(own: Sequence[Slice], weight: float) -> list[Slice]:
    """The first half of ``own`` for a ``weight`` of 0.5 or 2.5: what follows whole copies of it.

    Raises:
        UserError: there is no place to cut it, so all of it or nothing would be taken.
    """
    num_bytes, rest = num_bytes_of(own), weight % 1
    part = between(own, 0, round(rest * num_bytes))
    excess = num_bytes_of(part) - rest * num_bytes
    if abs(excess) <= WEIGHT_TOLERANCE * weight * num_bytes:
        return part
    if not part:
        raise UserError(f"corpus.weights: {weight:g} of {own[0].reader.name} is less than a byte; give a larger weight")
    last = part[-1]
    whole = next(item for item in own if item.reader == last.reader)
    name = whole.reader.name
    if not whole.reader.is_cut_by_bytes:
        return [*part[:-1], share_of(whole, (last.num_bytes - excess) / whole.num_bytes)]
    if last.stop == whole.stop:
        raise UserError(
            f"corpus.weights: {name} has no place between documents or lines where it could be cut for a weight of "
            f"{weight:g}; give a whole number, or divide it into smaller documents (corpus.document)"
        )
    warnings.warn(
        f"corpus.weights: {name} is cut between documents or lines only, so a weight of {weight:g} becomes "
        f"{weight + excess / num_bytes:.2f}",
        Notice,
        stacklevel=2,
    )
    return part


def share_of(item: Slice, fraction: float) -> Slice:
    """A ``fraction`` of the documents of ``item``, by their hashes. Raises ``UserError`` if it is a single one."""
    if item.reader.is_one_document:
        raise UserError(
            f"corpus.weights: {item.reader.name} is a single document and cannot be cut, so no part of it can be "
            "taken; give a whole number, or set corpus.document to line or paragraph"
        )
    low, high = item.share
    return replace(item, share=(low, low + fraction * (high - low)))


def sample(slices: Sequence[Slice], num_bytes: int) -> list[Slice]:
    """About ``num_bytes`` in parts spread evenly over ``slices``; all of them if there are no more.

    A compressed file, or a row group, that is larger than a part cannot be cut: what the parts would take from anywhere
    in it is taken from its beginning.
    """
    total = num_bytes_of(slices)
    if total <= num_bytes:
        return list(slices)
    stops = list(accumulate(item.num_bytes for item in slices))
    num_parts = max(1, min(SAMPLE_PARTS, num_bytes // SAMPLE_PART_BYTES))
    length = num_bytes // num_parts
    found, beginnings = list[Slice](), Counter[Slice]()
    for part in range(num_parts):
        start = part * total // num_parts
        for index in range(bisect_right(stops, start), bisect_left(stops, start + length) + 1):
            item = slices[index]
            begin = start - (stops[index] - item.num_bytes)  # in bytes of this slice
            if is_coarse(item, length):
                beginnings.update(bytes_by_unit(item, begin, begin + length))
            else:
                found += between([item], begin, begin + length)
    found += [replace(unit, most_bytes=most) for unit, most in beginnings.items()]
    return found or list(slices[:1])


def is_coarse(item: Slice, num_bytes: int) -> bool:
    """Whether ``item`` is in units, such as whole files, of more than ``num_bytes``."""
    return not item.reader.is_cut_by_bytes and item.num_bytes > num_bytes * (item.stop - item.start)


def bytes_by_unit(item: Slice, start: int, stop: int) -> dict[Slice, int]:
    """How many of the bytes ``start`` to ``stop`` of ``item`` lie in each of its units."""
    size = item.num_bytes / (item.stop - item.start)
    start, stop = max(start, 0), min(stop, item.num_bytes)
    found = {}
    for unit in range(int(start / size), min(math.ceil(stop / size), item.stop - item.start)):
        own = round(min(stop, (unit + 1) * size) - max(start, unit * size))
        if own > 0:
            found[item.part(item.start + unit, item.start + unit + 1)] = own
    return found

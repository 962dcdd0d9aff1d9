"""The class of every byte's character (white space, letter …) for a whole text at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from pipeline.data.tokenizer.base import Ids

# put after each text; bytes that do not occur in UTF-8
END, CUT = b"\xff", b"\xfe"  # after the end of a document; after a part of one
UNSEEN = 255


class CharacterClasses:
    """Bytes of UTF-8 → the class of the character that each belongs to.

    Args:
        classify: the class of each of some characters, below 255; called once for each character that occurs.
        edge: the class of ``END`` and ``CUT``.
    """

    def __init__(self, classify: Callable[[str], Ids], *, edge: int) -> None:
        self.classify = classify
        self.of_point = np.full(0x110000, UNSEEN, dtype=np.uint8)
        self.of_point[:128] = classify("".join(map(chr, range(128))))
        self.of_byte = self.of_point[:128].tobytes() + bytes([edge]) * 128

    def __call__(self, data: bytes) -> Ids:
        values = np.frombuffer(data, dtype=np.uint8)
        classes = np.frombuffer(bytearray(data.translate(self.of_byte)), dtype=np.uint8)
        first = np.flatnonzero((values >= 0xC0) & (values < 0xF8))
        if not len(first):
            return classes
        length = 2 + (values[first] >= 0xE0) + (values[first] >= 0xF0)
        points = (values[first] & (0x7F >> length)).astype(np.uint32)
        for i in range(1, 4):
            more = np.flatnonzero(length > i)
            points[more] = points[more] << 6 | values[first[more] + i] & 0x3F
        found = self.of_points(points)
        for i in range(4):
            more = np.flatnonzero(length > i)
            classes[first[more] + i] = found[more]
        return classes

    def of_points(self, points: Ids) -> Ids:
        """The class of each code point."""
        found = self.of_point[points]
        if UNSEEN in found:
            unseen = np.unique(points[found == UNSEEN])
            self.of_point[unseen] = self.classify("".join(map(chr, unseen.tolist())))
            found = self.of_point[points]
        return found


def binary_array(values: Ids, starts: Ids) -> pa.BinaryArray:
    """The byte strings in ``values`` that begin at ``starts``, without a copy."""
    offsets = np.append(starts, len(values)).astype(np.int32)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(values)]
    return pa.Array.from_buffers(pa.binary(), len(starts), buffers)


def binary_array_of(texts: Sequence[bytes]) -> pa.BinaryArray:
    """``texts`` as an Arrow array."""
    lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    return binary_array(np.frombuffer(b"".join(texts), dtype=np.uint8), np.cumsum(lengths) - lengths)

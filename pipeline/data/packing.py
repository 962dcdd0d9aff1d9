"""Ascending numbers in a byte or less each: the gaps between them, compressed."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from pipeline.data.tokenizer import Ids

CODEC = "zstd"
HEAD = np.dtype([("width", "u1"), ("count", "<u8")])


def pack(values: Ids) -> bytes:
    """Pack ``values`` ≥ 0, ascending, repeats allowed: bytes per gap and their number, then the gaps, little-endian."""
    gaps = np.diff(values, prepend=0)
    dtype = np.min_scalar_type(int(gaps.max(initial=0))).newbyteorder("<")
    head = np.array((dtype.itemsize, len(gaps)), dtype=HEAD)
    compressed: bytes = pa.compress(gaps.astype(dtype).tobytes(), codec=CODEC, asbytes=True)
    return head.tobytes() + compressed


def unpack(data: bytes) -> Ids:
    """Return the values given to ``pack``, int64."""
    width, count = np.frombuffer(data, dtype=HEAD, count=1)[0].tolist()
    gaps = pa.decompress(data[HEAD.itemsize :], decompressed_size=width * count, codec=CODEC, asbytes=True)
    return np.cumsum(np.frombuffer(gaps, dtype=f"<u{width}"), dtype=np.int64)

"""What was read of a source, so that it can be told later whether the same would be read again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import xxhash

ROWS_AT_ONCE = 8  # joined, for a call takes as long as to hash a kilobyte


class Digest:
    """xxh3 of what is read, in whatever blocks: the bytes of a text after decompression, or the texts of rows."""

    def __init__(self) -> None:
        self.hash = xxhash.xxh3_64()
        self.tag = ""  # what its store calls this version of it

    def opened(self, file: pa.NativeFile) -> None:
        """Note the tag of the file that is going to be read."""
        self.tag = tag_of(file)

    def update(self, data: bytes) -> None:
        self.hash.update(data)

    def rows(self, texts: Sequence[Any]) -> None:
        """The texts of the next rows."""
        for start in range(0, len(texts), ROWS_AT_ONCE):
            part = texts[start : start + ROWS_AT_ONCE]
            try:
                data = "\0".join(part)
            except TypeError:  # a row without a text, which is refused when its turn comes
                data = repr(part)
            self.hash.update(data.encode(errors="surrogatepass"))
            self.hash.update(b"\0")

    def hexdigest(self) -> str:
        return self.hash.hexdigest()


def tag_of(file: pa.NativeFile) -> str:
    """What its store calls this version of an open file (its ETag), empty where that has no name."""
    return next((value.decode() for name, value in file.metadata().items() if name.lower() == "etag"), "")

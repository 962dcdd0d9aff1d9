"""Digests of what was read from a source, to tell later whether the same would be read again."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import xxhash


class Digest:
    """xxh3 of what is read, in whatever blocks: the bytes of a text after decompression, or the texts of rows."""

    def __init__(self) -> None:
        self.hash = xxhash.xxh3_64()
        self.tag = ""  # the name that the store gives to this version of it

    def opened(self, file: pa.NativeFile) -> None:
        """Note the tag of the file that is about to be read."""
        self.tag = tag_of(file)

    def update(self, data: bytes) -> None:
        self.hash.update(data)

    def update_rows(self, texts: Sequence[bytes | None]) -> None:
        """Take in the texts of the next rows, each with a zero after it."""
        if not texts:
            return
        try:
            data = b"\0".join(texts)  # type: ignore[arg-type]
        except TypeError:  # a row without a text, which is refused when its turn comes
            data = b"\0".join([text or b"" for text in texts])
        self.hash.update(data)
        self.hash.update(b"\0")

    def hexdigest(self) -> str:
        return self.hash.hexdigest()


def tag_of(file: pa.NativeFile) -> str:
    """The name that the store gives to this version of an open file (its ETag), empty if it has none."""
    return next((value.decode() for name, value in file.metadata().items() if name.lower() == "etag"), "")

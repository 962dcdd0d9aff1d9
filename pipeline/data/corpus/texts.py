"""Bytes of plain and compressed texts, in blocks that are cut where it is safe: a large file need not fit in memory."""

from __future__ import annotations

import codecs
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import storage
from pipeline.data.corpus import builtin
from pipeline.data.corpus.digests import Digest
from pipeline.data.corpus.sources import Source, location, read_bytes
from pipeline.errors import UserError

# text held in memory at a time
BLOCK_BYTES = 4 << 20
# how far before the end of a block its cut is first looked for
TAIL_BYTES = 1 << 16

# what editors put before a UTF-8 text to say that it is one; no part of it
MARK = codecs.BOM_UTF8

# (data, start) → the first place at or after start > 0 where data may be cut, None if there is none within
Cut = Callable[[bytes, int], int | None]


def read_blocks(
    source: Source, start: int, stop: int, cut: Cut, digest: Digest | None = None
) -> Iterator[tuple[int, bytes]]:
    """(offset, bytes) of a text from ``start`` to ``stop``, in blocks of about ``BLOCK_BYTES`` that end at a ``cut``.

    Offsets are those of the text as read; a compressed source is always read whole. A ``MARK`` at its beginning is
    left out. ``digest`` takes in all that is read.
    """
    offset, rest = start if source.is_plain else 0, b""
    for chunk in chunks(source, start, stop, digest):
        before = len(rest)
        rest += chunk
        if offset == before == 0 and rest.startswith(MARK):
            offset, rest = len(MARK), rest[len(MARK) :]
        if len(rest) < BLOCK_BYTES:
            continue
        where = cut(rest, max(1, len(rest) - TAIL_BYTES)) or cut(rest, max(1, before))
        if where is not None and where < len(rest):
            yield offset, rest[:where]
            offset, rest = offset + where, rest[where:]
    if rest:
        yield offset, rest


def chunks(source: Source, start: int, stop: int, digest: Digest | None = None) -> Iterator[bytes]:
    """The bytes of a text from ``start`` to ``stop``, ``BLOCK_BYTES`` at a time; ``digest`` takes in all of them."""
    with _open(source, start, stop, digest) as read:
        while chunk := read(BLOCK_BYTES):
            if digest is not None:
                digest.update(chunk)
            yield chunk


@contextmanager
def _open(source: Source, start: int, stop: int, digest: Digest | None) -> Iterator[Callable[[int], bytes]]:
    """A function that gives the next bytes of the piece."""
    if source.name.startswith(builtin.PYTHON_DOCS + "/"):
        yield io.BytesIO(read_bytes(source, start, stop)).read
        return
    path = location(source)
    with storage.open_file(path) as file:
        source.check_size(file.size())
        if digest is not None and storage.is_uri(path):
            digest.opened(file)
        if source.is_plain:
            yield _Stretch(file, path, start, stop).read
        else:
            with storage.decompressed(file, path) as stream:
                yield stream.read


class _Stretch:
    """A stretch of an open file, read on and on."""

    def __init__(self, file: Any, path: str, start: int, stop: int) -> None:
        self.file, self.path, self.position, self.stop = file, path, start, stop

    def read(self, num_bytes: int) -> bytes:
        data = storage.read_open(self.file, self.path, self.position, min(num_bytes, self.stop - self.position))
        self.position += len(data)
        return data


def is_utf8(data: bytes) -> bool:
    """Whether ``data`` is UTF-8, by Arrow: many times quicker than making a text of it."""
    if data.isascii():
        return True
    buffers = [None, pa.py_buffer(np.array([0, len(data)])), pa.py_buffer(data)]
    try:
        pa.Array.from_buffers(pa.large_utf8(), 1, buffers).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def decode(data: bytes, name: str, *, offset: int = 0) -> str:
    """``data`` as text. Raises ``UserError`` naming the file and the byte offset of what is not UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: not UTF-8 at byte offset {offset + error.start:,}") from None


def is_text(text: str) -> bool:
    """Whether UTF-8 can hold ``text``: JSON, and bytes on a command line, may give half of a character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def parse_json(data: bytes | str, *, unique: bool = False) -> Any:
    """The value in ``data``, which a user wrote. Raises ``ValueError`` saying why it is not JSON.

    Args:
        unique: take no object that has a name twice, of which JSON keeps the last.
    """
    try:
        return json.loads(data, object_pairs_hook=_object if unique else None)
    except RecursionError:
        raise ValueError("it is nested too deep to be read") from None


def _object(items: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(items)
    if len(found) < len(items):
        names = [name for name, _ in items]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is there twice")
    return found


def read_file(path: str) -> str:
    """A whole text file, without a ``MARK``. Raises ``UserError`` if it cannot be read or is not UTF-8."""
    try:
        return decode(Path(path).read_bytes(), path).removeprefix(MARK.decode())
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None

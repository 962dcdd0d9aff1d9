"""UTF-8: what is valid and what is not, and a user's files that are read whole."""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.errors import UserError

# what editors put before a text to mark it as UTF-8; not part of the text
MARK = codecs.BOM_UTF8
REPLACEMENT = "\ufffd"


def is_utf8(data: bytes) -> bool:
    """Whether ``data`` is UTF-8, checked by Arrow: many times faster than decoding it."""
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
    """Whether UTF-8 can hold ``text``: JSON, and bytes on a command line, can contain lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def parse_json(data: bytes | str, *, unique: bool = False) -> Any:
    """Parse ``data``, which a user wrote. Raises ``ValueError`` saying why it is not JSON.

    Args:
        unique: refuse objects that have a name twice, of which JSON keeps the last.
    """
    try:
        return json.loads(data, object_pairs_hook=_object if unique else None)
    except RecursionError:
        raise ValueError("it is nested too deeply to be read") from None


def _object(items: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(items)
    if len(found) < len(items):
        names = [name for name, _ in items]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is given twice")
    return found


def read_file(path: str) -> str:
    """Read a whole text file, without a ``MARK``. Raises ``UserError`` if it cannot be read or is not UTF-8."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        return decode(data, path).removeprefix(MARK.decode())
    except UserError as error:
        raise UserError(f"{error}; save it as UTF-8") from None

"""JSON objects that carry the SHA-256 of their other content, so that a change to any byte is noticed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

CHECKSUM = "checksum"


def sign(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``content`` with its checksum as the last value."""
    return {**content, CHECKSUM: content_checksum(content)}


def parse(data: bytes) -> dict[str, Any]:
    """Return the JSON object in ``data``. Raises ``ValueError`` if it is not one, is cut short, or was altered."""
    try:
        values = json.loads(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(values, dict):
        raise ValueError("not a JSON object")
    return values


def is_intact(signed: Mapping[str, Any]) -> bool:
    """Return whether ``signed`` carries the checksum of its other content."""
    content = {name: value for name, value in signed.items() if name != CHECKSUM}
    return signed.get(CHECKSUM) == content_checksum(content)


def content_checksum(content: Mapping[str, Any]) -> str:
    """Return the hexadecimal SHA-256 of ``content``, whatever the order of its names."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

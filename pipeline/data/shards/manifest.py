"""The manifest of a prepared corpus: the last file of a preparation, and the sign that it is complete."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pipeline import storage
from pipeline.errors import UserError

FORMAT = 2
MANIFEST, TOKENIZER = "manifest.json", "tokenizer.json"


def write_manifest(directory: str, content: dict[str, Any]) -> None:
    """``content`` with its own checksum. Raises ``UnwritableError``."""
    whole = {"format": FORMAT, **content}
    signed = {**whole, "checksum": content_checksum(whole)}
    storage.write(storage.join(directory, MANIFEST), json.dumps(signed, ensure_ascii=False).encode())


def read_manifest(directory: str) -> dict[str, Any] | None:
    """The manifest of a prepared corpus, None if there is none.

    Raises:
        UserError: a manifest that is cut short, altered or of another format.
    """
    path = storage.join(directory, MANIFEST)
    if storage.size(path) is None:
        return None
    try:
        content = json.loads(storage.read(path))
        checksum = content.pop("checksum")
    except storage.UnreadableError:
        raise
    except (ValueError, LookupError, AttributeError, TypeError):
        raise UserError(f"{path}: not a whole manifest (cut short or foreign); prepare the corpus again") from None
    if checksum != content_checksum(content):
        raise UserError(f"{path}: altered since it was written (its checksum does not match)")
    if content["format"] != FORMAT:
        raise UserError(
            f"{path}: format {content['format']}, but this version reads format {FORMAT}; remove the folder and "
            "prepare the corpus again"
        )
    return {**content, "checksum": checksum}


def content_checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()

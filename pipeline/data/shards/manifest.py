"""The manifest of a prepared corpus: the last file of a preparation, and the sign that it is complete."""

from __future__ import annotations

import json
from typing import Any

from pipeline import signing, storage
from pipeline.errors import UserError

FORMAT = 2
MANIFEST, TOKENIZER = "manifest.json", "tokenizer.json"


def write_manifest(directory: str, content: dict[str, Any]) -> None:
    """Write ``content`` with its own checksum. Raises ``UnwritableError``."""
    signed = signing.sign({"format": FORMAT, **content})
    storage.write(storage.join(directory, MANIFEST), json.dumps(signed, ensure_ascii=False).encode())


def read_manifest(directory: str) -> dict[str, Any] | None:
    """The manifest of a prepared corpus, None if there is none.

    Raises:
        UserError: the manifest is cut short, altered or of another format.
    """
    path = storage.join(directory, MANIFEST)
    if storage.size(path) is None:
        return None
    data = storage.read(path)
    try:
        content = signing.parse(data)
    except ValueError:
        content = {}
    if signing.CHECKSUM not in content:
        raise UserError(f"{path}: not a whole manifest (cut short or foreign); prepare the corpus again")
    if not signing.is_intact(content):
        raise UserError(f"{path}: altered since it was written (its checksum does not match)")
    if content.get("format") != FORMAT:
        raise UserError(
            f"{path}: format {content.get('format')}, but this version reads format {FORMAT}; remove the folder and "
            "prepare the corpus again"
        )
    return content

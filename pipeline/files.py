"""Directories that are made for a purpose and go again when it comes to nothing."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def make_directory(path: Path) -> list[Path]:
    """Make ``path`` and what is missing above it; returns what was made, the deepest first. Raises ``OSError``."""
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    return made


def remove_if_empty(folders: list[Path]) -> None:
    """Remove those of ``folders`` that hold nothing, in order."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()

"""The same text under two names, recognised by the files that hold it and by which of their rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

from pipeline.data.readers import Rows

T = TypeVar("T")


class Owners(Generic[T]):
    """Remembers which owner each added row belongs to."""

    def __init__(self) -> None:
        self.of_file: dict[str, list[tuple[Rows, T]]] = {}

    def find(self, rows: Sequence[Rows]) -> T | None:
        """The first owner of any of ``rows``."""
        for part in rows:
            others = {id(other): (other, owner) for file in part.files for other, owner in self.of_file.get(file, ())}
            for other, owner in others.values():
                if part.overlaps(other):
                    return owner
        return None

    def add(self, rows: Sequence[Rows], owner: T) -> None:
        for part in rows:
            for file in part.files:
                self.of_file.setdefault(file, []).append((part, owner))

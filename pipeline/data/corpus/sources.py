"""Patterns in, the sources that they name out: one reader for each source, and each source once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain

from pipeline import storage
from pipeline.config import CorpusConfig
from pipeline.data import readers
from pipeline.data.corpus.overlaps import Owners
from pipeline.data.readers import Reader, Rows
from pipeline.errors import UserError

SPLITS = ("train", "valid", "test")


def find_sources(split: str, config: CorpusConfig) -> list[Reader]:
    """The sources that ``corpus.<split>`` names, each once, in the order of its patterns and sorted within each.

    Raises:
        UserError: a pattern that matches nothing, a table without the text field, or rows that two patterns name.
    """
    found: list[Reader] = []
    for origin, pattern in enumerate(getattr(config, split)):
        try:
            sources = readers.find(pattern, config, split=split, origin=origin)
        except storage.UnreadableError as error:
            raise storage.UnreadableError(f"corpus.{split}: {error}") from None
        except UserError as error:
            raise UserError(f"corpus.{split}: {error}") from None
        if not sources:
            raise storage.UnreadableError(f"corpus.{split}: no file matches {pattern}")
        found += sources
    return _each_once(found, split)


def _each_once(sources: Sequence[Reader], split: str) -> list[Reader]:
    """``sources`` without those that came before under another path."""
    owners: Owners[tuple[Reader, Sequence[Rows]]] = Owners()
    found = []
    for source, rows in with_rows(sources):
        other = owners.find(rows)
        if other is None:
            owners.add(rows, (source, rows))
            found.append(source)
        elif other[1] != rows:
            raise UserError(
                f"corpus.{split}: {source.name} has rows of {other[0].name}, which would occur twice; leave them out "
                "of one of them"
            )
    return found


def reachable(config: CorpusConfig) -> list[Reader]:
    """The sources of those patterns of ``config`` that still match any."""
    found = []
    for split in SPLITS:
        for pattern in getattr(config, split):
            with suppress(storage.UnreadableError):
                found += find_sources(split, config.model_copy(update={split: [pattern]}))
    return found


def with_rows(sources: Sequence[Reader]) -> Iterator[tuple[Reader, Sequence[Rows]]]:
    """Each source, and which rows of which files it reads."""
    folders: dict[str, str] = {}
    for source in sources:
        yield source, source.rows(folders)


def changed_since(sources: Iterable[Reader], config: CorpusConfig) -> list[Reader]:
    """The sources that were written to since they were found, as far as that can be told now."""
    in_stores: dict[str, int] = {}
    for pattern in chain(config.train, config.valid, config.test):
        if storage.is_uri(pattern):
            with suppress(storage.UnreadableError):
                in_stores.update({file.path: file.changed for file in storage.find(pattern)})
    found = []
    for source in sources:
        with suppress(OSError, LookupError):  # one that is gone
            if source.changed != (in_stores[source.name] if storage.is_uri(source.name) else source.changed_now()):
                found.append(source)
    return found


def total_bytes(sources: Sequence[Reader]) -> int:
    return sum(source.num_bytes for source in sources)

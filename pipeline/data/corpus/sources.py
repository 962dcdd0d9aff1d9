"""Patterns in, sources out: what each of them is and how far it can be cut."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal

from pipeline import storage
from pipeline.config import CorpusConfig
from pipeline.data.corpus import builtin, hub, records
from pipeline.data.corpus.overlaps import Owners, Rows
from pipeline.errors import UserError

Form = Literal["text", "jsonl", "parquet", "dataset"]
FORMS: dict[str, Form] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".parquet": "parquet"}
# what a compressed text is guessed to be larger when read
EXPANSION = 3


@dataclass(frozen=True)
class Source:
    """A text, or a table with a text in every row.

    ``extent`` counts the places it can be cut into: bytes of a plain file, row groups of Parquet, rows (or, streamed,
    shards) of a dataset; 1 for a compressed file. ``size``, bytes as stored, tells whether it has changed since.
    ``num_bytes`` is the size of its text, a guess where it is compressed or a table. ``changed`` is another number
    whenever it was written again since, even if with the same text; 0 where that cannot be told.
    """

    name: str
    form: Form
    extent: int
    size: int
    num_bytes: int
    origin: int = 0  # number of the pattern that it came from
    changed: int = field(default=0, compare=False)

    @property
    def has_records(self) -> bool:
        return self.form != "text"

    @property
    def is_plain(self) -> bool:
        """Whether it is cut by bytes."""
        return self.form in ("text", "jsonl") and storage.compression_of(self.name) is None

    def unit_of(self, place: int) -> int:
        """In which of the ``extent`` units the document at ``place`` lies."""
        return place if self.is_plain else place >> records.ROW_BITS if self.extent > 1 else 0

    def check_size(self, found: int) -> None:
        """Raises ``UserError`` if it is not as large as when the corpus was planned."""
        if found != self.size:
            raise UserError(
                f"{self.name}: {found:,} bytes where there were {self.size:,} when the corpus was planned "
                "(it has changed since, or this node holds another)"
            )


def find_sources(split: str, config: CorpusConfig) -> list[Source]:
    """The sources that ``corpus.<split>`` names, each once, in the order of its patterns and sorted within each.

    Raises:
        UserError: a pattern that nothing matches, a table without the text field, or rows that two patterns name.
    """
    found: list[Source] = []
    for origin, pattern in enumerate(getattr(config, split)):
        try:
            sources = _of_pattern(pattern, split, config, origin)
        except storage.UnreadableError as error:
            raise storage.UnreadableError(f"corpus.{split}: {error}") from None
        except UserError as error:
            raise UserError(f"corpus.{split}: {error}") from None
        if not sources:
            raise storage.UnreadableError(f"corpus.{split}: no file matches {pattern}")
        found += sources
    return _each_once(found, split)


def _each_once(sources: Sequence[Source], split: str) -> list[Source]:
    """``sources`` without those that are there before by another path."""
    owners: Owners[tuple[Source, Sequence[Rows]]] = Owners()
    found = []
    for source, rows in with_rows(sources):
        other = owners.find(rows)
        if other is None:
            owners.add(rows, (source, rows))
            found.append(source)
        elif other[1] != rows:
            raise UserError(
                f"corpus.{split}: {source.name} has rows of {other[0].name}, which would come twice; leave them out "
                "of one of them"
            )
    return found


def with_rows(sources: Sequence[Source]) -> Iterator[tuple[Source, Sequence[Rows]]]:
    """Each source, and what of which files it reads."""
    folders: dict[str, str] = {}
    for source in sources:
        if source.form == "dataset":
            yield source, hub.load_dataset(source.name).rows
        else:
            yield source, [Rows((_real_path(location(source), folders),))]


def _real_path(path: str, folders: dict[str, str]) -> str:
    """A local path without ``..`` and symbolic links, ``folders`` those known so far; an address in one spelling."""
    path = path.removeprefix("file://")
    if storage.is_uri(path):
        return path.replace("gcs://", "gs://", 1) if path.startswith("gcs://") else path
    if os.path.islink(path):
        return os.path.realpath(path)
    folder, name = os.path.split(path)
    if folder not in folders:
        folders[folder] = os.path.realpath(folder)
    return os.path.join(folders[folder], name)


def _of_pattern(pattern: str, split: str, config: CorpusConfig, origin: int) -> list[Source]:
    if pattern.startswith("builtin:"):
        return [Source(name, "text", n, n, n, origin, changed_at(name)) for name, n in builtin.builtin(pattern)]
    if (name := _dataset_name(pattern, split)) is not None:
        changed = changed_at(name)
        extent, num_bytes = records.dataset_extent(name, config.text_field)
        return [Source(name, "dataset", extent, num_bytes, num_bytes, origin, changed)]
    files = storage.find(pattern)
    for path, *_ in files:
        if path.endswith(hub.MARKS) and hub.is_saved(folder := os.path.dirname(path)):
            raise UserError(f"{folder} is a dataset that save_to_disk wrote, not text; name it by itself")
    return [_of_file(file, config, origin) for file in files]


def _dataset_name(pattern: str, split: str) -> str | None:
    """The ``hf://`` name of a dataset or of a folder that ``save_to_disk`` wrote, None if ``pattern`` is neither."""
    if pattern.startswith(hub.DATASET):
        return pattern
    folder = os.path.expanduser(pattern)
    if storage.is_uri(pattern) or not hub.is_saved(folder):
        return None
    names = hub.saved_splits(folder)
    if names is not None and split != "train":
        raise UserError(
            f"{pattern} holds the splits {', '.join(names)}; write which one, such as {pattern.rstrip('/')}/{names[-1]}"
        )
    return hub.DATASET + folder


def _of_file(file: storage.Found, config: CorpusConfig, origin: int) -> Source:
    path, size, changed = file
    compression = storage.compression_of(path)
    suffix = os.path.splitext(path if compression is None else os.path.splitext(path)[0])[1].lower()
    form = FORMS.get(suffix, "text") if config.format == "auto" else config.format
    if form == "parquet":
        extent, num_bytes = records.parquet_extent(path, config.text_field)
        return Source(path, form, extent, size, num_bytes, origin, changed)
    if compression is not None:
        return Source(path, form, 1, size, EXPANSION * size, origin, changed)
    return Source(path, form, size, size, size, origin, changed)


def changed_at(name: str) -> int:
    """``Source.changed`` of what lies here, or of a dataset, by that name now. Raises ``OSError`` if it is gone."""
    if name.startswith(hub.DATASET):
        return hub.version(name)
    if name.startswith(builtin.PYTHON_DOCS + "/"):
        return hub.as_version(builtin.topics()[name.removeprefix(builtin.PYTHON_DOCS + "/")])
    return os.stat(builtin.stdlib_path(name) if name.startswith(builtin.PYTHON_STDLIB + "/") else name).st_ctime_ns


def changed_since(sources: Iterable[Source], config: CorpusConfig) -> list[str]:
    """The names of those that were written again since they were found, as far as that can be told now."""
    in_stores: dict[str, int] = {}
    for pattern in chain(config.train, config.valid, config.test):
        if storage.is_uri(pattern):
            with suppress(storage.UnreadableError):
                in_stores.update({file.path: file.changed for file in storage.find(pattern)})
    found = []
    for source in sources:
        with suppress(OSError, KeyError):  # one that is gone
            if source.changed != (in_stores[source.name] if storage.is_uri(source.name) else changed_at(source.name)):
                found.append(source.name)
    return found


def read_bytes(source: Source, start: int, stop: int) -> bytes:
    """Bytes ``start`` to ``stop`` of a plain source.

    Raises:
        UserError: it is gone, unreadable or of another size than when the corpus was planned.
    """
    if source.name.startswith(builtin.PYTHON_DOCS + "/"):
        data = builtin.topics().get(source.name.removeprefix(builtin.PYTHON_DOCS + "/"), b"")
        source.check_size(len(data))
        return data[start:stop]
    with storage.open_file(location(source)) as file:
        source.check_size(file.size())
        return storage.read_open(file, location(source), start, stop - start)


def location(source: Source) -> str:
    """Where the bytes of a source lie."""
    if source.name.startswith(builtin.PYTHON_STDLIB + "/"):
        return builtin.stdlib_path(source.name)
    return source.name


def total_bytes(sources: Sequence[Source]) -> int:
    return sum(source.num_bytes for source in sources)

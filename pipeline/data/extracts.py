"""Which texts a shard was made of, as they were at that time: written beside it, compared before it is used again.

A text is the same if its size and the time of its last change are unchanged. If only the time differs, the text is read
again and its digest compared; if it has a tag in a store (an ETag), the same tag is enough.

    train-00000.sources   a line of JSON, then its xxh3
    unread.sources        the same for what is in no shard: files left out, the rest of a text with a weight below 1
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import xxhash

from pipeline import storage
from pipeline.data import readers
from pipeline.data.corpus.slices import Slice, group, in_batches, num_bytes_of
from pipeline.data.directory import Say
from pipeline.data.readers import Digest, Reader, TextSettings
from pipeline.data.readers.digests import tag_of
from pipeline.errors import UserError

SUFFIX = ".sources"
UNREAD = "unread"  # in place of a shard's name
# a file changed this recently may change again without a new time: clocks of file systems are coarse
COARSE_NANOSECONDS = 2 * 10**9
COMPARED_BYTES = 64 << 20  # by one task

Compare = Callable[[Sequence["CompareTask"]], Iterable[list[str]]]
Describe = Callable[[Sequence["DescribeTask"]], Iterable[list["Extract"]]]


class Extract(NamedTuple):
    """Units ``start`` to ``stop`` of a source as they were when they were read."""

    name: str
    form: str
    size: int
    changed: int
    tag: str
    start: int
    stop: int
    digest: str

    @classmethod
    def of(cls, item: Slice, digest: Digest) -> Extract:
        """Describe what ``digest`` took in of ``item``."""
        reader, found = item.reader, digest.hexdigest()
        return cls(reader.name, reader.form, reader.size, reader.changed, digest.tag, item.start, item.stop, found)

    def reader(self, settings: TextSettings) -> Reader:
        """A reader like the one that read it, enough to read it again; ``settings`` has the field of records."""
        return readers.reopen(self.name, self.form, settings, extent=self.stop, size=self.size)

    def is_same(self, reader: Reader) -> bool:
        """Whether ``reader`` would read the same now. Raises ``UserError`` if it is gone."""
        return reader.digest(self.start, self.stop).hexdigest() == self.digest

    def has_same_tag(self) -> bool:
        """Whether its store still has the version that was read."""
        if not self.tag:
            return False
        with storage.open_file(self.name) as file:
            return tag_of(file) == self.tag


def settled_before(path: str) -> float:
    """A time, in nanoseconds since 1970: if a source last changed before it, any later change would show.

    ``path`` was written after the sources that it describes had been read.
    """
    return storage.modified(path) * 1e9 - COARSE_NANOSECONDS


def bytes_of(extract_and_reader: tuple[Extract, Reader]) -> int:
    """Bytes of text of an extract; a guess for a table."""
    extract, reader = extract_and_reader
    return Slice(reader, extract.start, extract.stop).num_bytes


@dataclass(frozen=True)
class CompareTask:
    """Reads texts again; calling it returns the names of those that have changed."""

    extracts: tuple[tuple[Extract, Reader], ...]

    @property
    def num_bytes(self) -> int:
        return sum(map(bytes_of, self.extracts))

    def __call__(self) -> list[str]:
        return [extract.name for extract, reader in self.extracts if not is_unchanged(extract, reader)]


@dataclass(frozen=True)
class DescribeTask:
    """Reads slices that are in no shard; calling it returns what they are now."""

    slices: tuple[Slice, ...]

    @property
    def num_bytes(self) -> int:
        return num_bytes_of(self.slices)

    def __call__(self) -> list[Extract]:
        return [Extract.of(item, item.reader.digest(item.start, item.stop)) for item in self.slices]


def is_unchanged(extract: Extract, reader: Reader) -> bool:
    """Whether its store still has the version that was read, or ``reader`` reads the same of it."""
    return extract.has_same_tag() or extract.is_same(reader)


def write_extracts(directory: str, shard: str, made_of: str, extracts: Sequence[Extract]) -> None:
    """Write ``extracts`` beside the shard that is ``made_of`` them. Raises ``UnwritableError``."""
    line = json.dumps({"made_of": made_of, "extracts": extracts}).encode()
    data = line + b"\n" + xxhash.xxh3_64_hexdigest(line).encode() + b"\n"
    path = storage.join(directory, shard + SUFFIX)
    if storage.is_uri(path):
        storage.write(path, data)
        return
    # directly to its place, in a fifth of the time: a half-written file has no sidecar yet, nor a matching checksum
    with storage.telling_of_writes(path):
        Path(path).write_bytes(data)


def write_unread(directory: str, made_of: str, slices: Sequence[Slice], map_tasks: Describe) -> None:
    """Write what ``slices`` are now, which are in no shard; remove what an earlier preparation wrote."""
    tasks = [DescribeTask(tuple(part)) for part in group(slices, COMPARED_BYTES)]
    if tasks:
        write_extracts(directory, UNREAD, made_of, sorted(chain.from_iterable(map_tasks(tasks))))
    else:
        storage.remove(storage.join(directory, UNREAD + SUFFIX))


def read_extracts(directory: str, shard: str, made_of: str) -> list[Extract]:
    """What a shard was made of; empty if the file describes another shard.

    If a later change of a text might not show in its time, ``changed`` is 0.

    Raises:
        UserError: the file is damaged, or cannot be read.
    """
    path = storage.join(directory, shard + SUFFIX)
    line, _, checksum = storage.read(path).partition(b"\n")
    if xxhash.xxh3_64_hexdigest(line).encode() != checksum.strip():
        raise UserError(f"{path}: altered since it was written (its checksum does not match)")
    content = json.loads(line)
    if content["made_of"] != made_of:
        return []
    limit = settled_before(path)
    extracts = [Extract(*values) for values in content["extracts"]]
    return [extract if extract.changed < limit else extract._replace(changed=0) for extract in extracts]


def changed_texts(
    extracts: Iterable[Extract], sources: Mapping[str, Reader], *, map_tasks: Compare, say: Say
) -> list[str]:
    """The names of those ``sources`` that have changed since ``extracts``. Those that are gone cannot be checked.

    Args:
        map_tasks: does each task somewhere and yields the results, in any order.
        say: receives a sentence if texts have to be read again.
    """
    changed, doubtful = set(), {}
    for extract in extracts:
        source = sources.get(extract.name)
        if source is None:
            continue
        if extract.size != source.size:
            changed.add(extract.name)
        elif not extract.changed or extract.changed != source.changed:
            doubtful[extract.name, extract.start, extract.stop, extract.digest] = extract, source
    if changed or not doubtful:
        return sorted(changed)
    names = sorted({extract.name for extract, _ in doubtful.values()})
    say(f"reading {some(names)} again, to see whether it is still the text that was prepared")
    tasks = list(compare_tasks(doubtful.values()))
    for found in map_tasks(tasks) if len(tasks) > 1 else [task() for task in tasks]:
        changed.update(found)
    return sorted(changed)


def compare_tasks(extracts: Iterable[tuple[Extract, Reader]]) -> Iterator[CompareTask]:
    """Tasks that compare all ``extracts``, each reading about ``COMPARED_BYTES``."""
    for part in in_batches(extracts, COMPARED_BYTES, bytes_of):
        yield CompareTask(tuple(part))


def some(names: Sequence[str]) -> str:
    """The first of ``names``, and how many more there are."""
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1:,} more"

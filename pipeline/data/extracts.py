"""Which texts a shard was made of, as they were then: written beside it, compared before it is used again.

A text is the same where its size and the time of its last change are those of then. Where only the time is another, it
is read again and its digest compared; where it has a tag in a store (an ETag), that will do.

    train-00000.sources   a line of JSON, then its xxh3
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import xxhash

from pipeline import storage
from pipeline.data.corpus import hub, records
from pipeline.data.corpus.digests import Digest, tag_of
from pipeline.data.corpus.pieces import Piece
from pipeline.data.corpus.sources import Form, Source
from pipeline.data.corpus.texts import chunks
from pipeline.data.directory import Say
from pipeline.errors import UserError

SUFFIX = ".sources"
# a file that was changed so shortly before may be changed again without another time: clocks of file systems are coarse
COARSE_NANOSECONDS = 2 * 10**9
COMPARED_BYTES = 64 << 20  # by one task

Compare = Callable[[Sequence["CompareTask"]], Iterable[dict[str, Any]]]


class Extract(NamedTuple):
    """Units ``start`` to ``stop`` of a source as they were when they were read."""

    name: str
    form: Form
    size: int
    changed: int
    tag: str
    start: int
    stop: int
    digest: str

    @classmethod
    def of(cls, piece: Piece, digest: Digest) -> Extract:
        """What ``digest`` took in of ``piece``."""
        source, found = piece.source, digest.hexdigest()
        return cls(source.name, source.form, source.size, source.changed, digest.tag, piece.start, piece.stop, found)

    @property
    def num_bytes(self) -> int:
        """What it takes to read it again; a guess for a table."""
        return self.stop - self.start if self.source.is_plain else self.size

    @property
    def source(self) -> Source:
        """Where it was read, as far as that is needed to read it again."""
        return Source(self.name, self.form, self.stop, self.size, self.size)

    def is_same(self, field: str) -> bool:
        """Whether the same would be read now, the text of rows in ``field``. Raises ``UserError`` if it is gone."""
        digest = Digest()
        if self.form == "parquet":
            rows = records.parquet_rows(self.name, field, self.start, self.stop, size=self.size, digest=digest)
            deque(rows, maxlen=0)
        elif self.form == "dataset":
            hub.load_dataset.cache_clear()  # its files may have been replaced since
            deque(records.dataset_rows(self.name, field, self.start, self.stop, digest=digest), maxlen=0)
        else:
            deque(chunks(self.source, self.start, self.stop, digest), maxlen=0)
        return digest.hexdigest() == self.digest

    def has_same_tag(self) -> bool:
        """Whether its store still has the version that was read."""
        if not self.tag:
            return False
        with storage.open_file(self.name) as file:
            return tag_of(file) == self.tag


def settled_before(path: str) -> float:
    """The time, in nanoseconds since 1970, before which a source was changed last whose later changes would show.

    What ``path`` says of it was written when it had been read.
    """
    return storage.modified(path) * 1e9 - COARSE_NANOSECONDS


@dataclass(frozen=True)
class CompareTask:
    """Reads texts again; calling it returns the names of those that are others now as ``{"changed": …}``."""

    extracts: tuple[Extract, ...]
    field: str

    @property
    def num_bytes(self) -> int:
        return sum(extract.num_bytes for extract in self.extracts)

    def to_json(self) -> list[Any]:
        return [self.extracts, self.field]

    @classmethod
    def from_json(cls, values: Sequence[Any]) -> CompareTask:
        extracts, field = values
        return cls(tuple(Extract(*extract) for extract in extracts), field)

    def __call__(self) -> dict[str, Any]:
        changed = [item.name for item in self.extracts if not item.has_same_tag() and not item.is_same(self.field)]
        return {"changed": changed}


def write_extracts(directory: str, shard: str, made_of: str, extracts: Sequence[Extract]) -> None:
    """Write them beside the shard, which is ``made_of`` them. Raises ``UnwritableError``."""
    line = json.dumps({"made_of": made_of, "extracts": extracts}).encode()
    data = line + b"\n" + xxhash.xxh3_64_hexdigest(line).encode() + b"\n"
    storage.write(storage.join(directory, shard + SUFFIX), data)


def read_extracts(directory: str, shard: str, made_of: str) -> list[Extract]:
    """What a shard was made of; empty for what another one was made of.

    Where a later change might not show in its time, ``changed`` is 0.

    Raises:
        UserError: a file that is damaged, or cannot be read.
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
    extracts: Iterable[Extract], sources: Mapping[str, Source], *, field: str, map_tasks: Compare, say: Say
) -> list[str]:
    """The names of those of ``sources`` that are not as in ``extracts`` any more. What is gone cannot be told.

    Args:
        map_tasks: does each task somewhere and yields the results, in any order.
        say: told in a sentence where texts have to be read again.
    """
    changed, doubtful = set(), {}
    for extract in extracts:
        source = sources.get(extract.name)
        if source is None:
            continue
        if extract.size != source.size:
            changed.add(extract.name)
        elif not extract.changed or extract.changed != source.changed:
            doubtful[extract.name, extract.start, extract.stop, extract.digest] = extract
    if changed or not doubtful:
        return sorted(changed)
    names = sorted({extract.name for extract in doubtful.values()})
    say(f"reading {some(names)} again, to see whether it still is the text that was prepared")
    tasks = list(compare_tasks(list(doubtful.values()), field))
    for result in map_tasks(tasks) if len(tasks) > 1 else [task() for task in tasks]:
        changed.update(result["changed"])
    return sorted(changed)


def compare_tasks(extracts: Sequence[Extract], field: str) -> Iterator[CompareTask]:
    """Tasks that compare all ``extracts``, each reading about ``COMPARED_BYTES``."""
    part: list[Extract] = []
    num_bytes = 0
    for extract in extracts:
        part.append(extract)
        num_bytes += extract.num_bytes
        if num_bytes >= COMPARED_BYTES:
            yield CompareTask(tuple(part), field)
            part, num_bytes = [], 0
    if part:
        yield CompareTask(tuple(part), field)


def some(names: Sequence[str]) -> str:
    """The first of ``names``, and how many there are."""
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1:,} more"

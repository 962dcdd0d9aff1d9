"""What a worker does for a corpus: count, survey, or make one shard. A task is a line of JSON, and so is its result.

A task names all that it needs, so it may run anywhere, and again where a worker was lost.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import chdir, nullcontext
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np

from pipeline import storage
from pipeline.data.corpus.cutting import cut_rule
from pipeline.data.corpus.digests import Digest
from pipeline.data.corpus.documents import Part, Reading, Tally, documents
from pipeline.data.corpus.pieces import Piece, num_bytes_of
from pipeline.data.corpus.survey import SurveyTask
from pipeline.data.extracts import CompareTask, Extract, write_extracts
from pipeline.data.planning import Range
from pipeline.data.shards import TOKENIZER, ShardWriter
from pipeline.data.shards.sequence import load_from
from pipeline.data.tokenizer import Ids, Tokenizer
from pipeline.data.tokenizer.training import count

# of documents that are encoded in one call
BATCH_BYTES = 1 << 20


@dataclass(frozen=True)
class RangeTask:
    """Makes the shard of a range; calling it returns the manifest's entry. ``made_of`` goes into the sidecar."""

    directory: str
    range: Range
    reading: Reading
    made_of: str

    @property
    def num_bytes(self) -> int:
        return self.range.num_bytes

    def to_json(self) -> list[Any]:
        return [self.directory, self.range.to_json(), self.reading.to_json(), self.made_of]

    @classmethod
    def from_json(cls, values: Sequence[Any]) -> RangeTask:
        directory, item, reading, made_of = values
        return cls(directory, Range.from_json(item), Reading(**reading), made_of)

    def __call__(self) -> dict[str, Any]:
        tokenizer, item, tally = tokenizer_in(self.directory), self.range, Tally()
        num_unknown, extracts = 0, list[Extract]()
        with ShardWriter(self.directory, item.name, tokenizer.dtype) as writer:
            for ids, starts in encoded(tokenizer, item, self.reading, tally, extracts):
                writer.append(ids, starts)
                if tokenizer.unk_id is not None:
                    num_unknown += int(np.count_nonzero(ids == tokenizer.unk_id))
            facts = {"source_bytes": item.num_bytes, "num_unknown": num_unknown, **asdict(tally)}
            keep_extracts = partial(write_extracts, self.directory, item.name, self.made_of, extracts)
            return writer.finish({"made_of": self.made_of, **facts}, before_sidecar=keep_extracts)


@dataclass(frozen=True)
class CountTask:
    """Counts the words or characters of some pieces; calling it returns ``{"counts": …}``."""

    pieces: tuple[Piece, ...]
    kind: str
    reading: Reading

    @property
    def num_bytes(self) -> int:
        return num_bytes_of(self.pieces)

    def to_json(self) -> list[Any]:
        return [[piece.to_json() for piece in self.pieces], self.kind, self.reading.to_json()]

    @classmethod
    def from_json(cls, values: Sequence[Any]) -> CountTask:
        pieces, kind, reading = values
        return cls(tuple(map(Piece.from_json, pieces)), kind, Reading(**reading))

    def __call__(self) -> dict[str, Any]:
        return {"counts": dict(count(self.kind, texts_of(self.pieces, self.reading)))}


Task = RangeTask | CountTask | SurveyTask | CompareTask
KINDS: dict[str, type[Task]] = {kind.__name__: kind for kind in (RangeTask, CountTask, SurveyTask, CompareTask)}
MapTasks = Callable[[Sequence[Task]], Iterable[dict[str, Any]]]


def to_line(task: Task) -> str:
    """``task`` for a worker, with the folder that its relative paths are meant from: a worker has another."""
    return json.dumps([type(task).__name__, task.to_json(), os.getcwd()])


def run_line(line: str) -> dict[str, Any]:
    """Do the task of ``to_line``; returns its result."""
    kind, values, root = json.loads(line)
    with chdir(root) if os.path.isdir(root) else nullcontext():
        return KINDS[kind].from_json(values)()


@lru_cache(maxsize=1)
def _load(directory: str, facts: object) -> Tokenizer:
    return load_from(directory)


def tokenizer_in(directory: str) -> Tokenizer:
    """The tokenizer of a corpus, kept for the next task of this process."""
    path = storage.join(directory, TOKENIZER)
    return _load(directory, (storage.size(path), storage.modified(path)))


def texts_of(pieces: Iterable[Piece], reading: Reading) -> Iterator[str]:
    """The texts of ``pieces``, cut at line starts where a document is long."""
    for piece in pieces:
        for part in documents(piece, reading, cut_rule(piece.source, reading), Tally()):
            yield part.text


def encoded(
    tokenizer: Tokenizer, item: Range, reading: Reading, tally: Tally, extracts: list[Extract] | None = None
) -> Iterator[tuple[Ids, Ids]]:
    """(token ids, at which of them documents begin) of a range, in batches; ``extracts`` takes what was read."""
    parts = parts_of(tokenizer, item, reading, tally, extracts)
    for batch in batches(parts if item.shuffle_seed is None else shuffled(parts, f"{item.shuffle_seed} {item.name}")):
        ids, lengths = tokenizer.encode_utf8([part.data for part in batch], ends=[part.ends for part in batch])
        starts = np.cumsum([0, *lengths])[:-1]
        yield ids, starts[[part.begins for part in batch]]


def parts_of(
    tokenizer: Tokenizer, item: Range, reading: Reading, tally: Tally, extracts: list[Extract] | None
) -> Iterator[Part]:
    """The documents of all pieces of a range, cut where ``tokenizer`` says."""
    for piece in item.pieces:
        digest = None if extracts is None else Digest()
        yield from documents(piece, reading, cut_rule(piece.source, reading, tokenizer.safe_cut), tally, digest)
        if extracts is not None and digest is not None:
            extracts.append(Extract.of(piece, digest))


def shuffled(parts: Iterable[Part], seed: str) -> Iterator[Part]:
    """``parts`` with whole documents in random order."""
    groups: list[list[Part]] = []
    for part in parts:
        if part.begins or not groups:
            groups.append([])
        groups[-1].append(part)
    random.Random(seed).shuffle(groups)
    for group in groups:
        yield from group


def batches(parts: Iterable[Part]) -> Iterator[list[Part]]:
    """``parts`` in groups of about ``BATCH_BYTES``."""
    batch: list[Part] = []
    num_bytes = 0
    for part in parts:
        batch.append(part)
        num_bytes += len(part.data)
        if num_bytes >= BATCH_BYTES:
            yield batch
            batch, num_bytes = [], 0
    if batch:
        yield batch

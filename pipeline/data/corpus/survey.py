"""What must be known of all documents before any is tokenized: which ones are duplicates, or not wanted.

pieces → one task for each group of them: 16 bytes of hash a document, and its place → in corpus order, the first of
equal ones stays → the pieces without the others

Only exact duplicates are found, after decoding and normalisation. The hashes, 16 bytes a document, are held in the
memory of this process; beside them a byte for what is repeated, and a byte or less for the places, packed.
"""

from __future__ import annotations

import base64
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xxhash

from pipeline.config import CorpusConfig
from pipeline.data.corpus.cutting import cut_rule, group
from pipeline.data.corpus.documents import Reading, Tally, UndecodableError, documents
from pipeline.data.corpus.pieces import Piece, num_bytes_of
from pipeline.data.packing import pack, unpack
from pipeline.data.tokenizer import Ids
from pipeline.errors import UserError

SURVEY_BYTES = 64 << 20
NUM_BUCKETS = 256  # of hashes, by their first byte
MapTasks = Callable[[Sequence["SurveyTask"]], Iterable[dict[str, Any]]]


@dataclass(frozen=True)
class SurveyTask:
    """Hash the documents of ``pieces``, which have these ``numbers`` in the corpus."""

    pieces: tuple[Piece, ...]
    numbers: tuple[int, ...]
    reading: Reading

    @property
    def num_bytes(self) -> int:
        return num_bytes_of(self.pieces)

    def to_json(self) -> list[Any]:
        return [[piece.to_json() for piece in self.pieces], list(self.numbers), self.reading.to_json()]

    @classmethod
    def from_json(cls, values: Sequence[Any]) -> SurveyTask:
        pieces, numbers, reading = values
        return cls(tuple(map(Piece.from_json, pieces)), tuple(numbers), Reading(**reading))

    def __call__(self) -> dict[str, Any]:
        hashes, numbers, places, unwanted = bytearray(), array("q"), array("q"), []
        for number, piece in zip(self.numbers, self.pieces, strict=True):
            for place, digest in self._hashes(piece):
                if digest is None:
                    unwanted.append(number)
                    continue
                hashes += digest
                numbers.append(number)
                places.append(place)
        return {
            "hashes": base64.b64encode(hashes).decode(),
            "numbers": base64.b64encode(pack(np.array(numbers))).decode(),
            "places": base64.b64encode(pack(np.array(places))).decode(),
            "unwanted": unwanted,
        }

    def _hashes(self, piece: Piece) -> Iterable[tuple[int, bytes | None]]:
        """(place, hash) of the documents of ``piece``; (0, None) for a file that is not wanted."""
        cut = cut_rule(piece.source, self.reading)
        if not self.reading.is_one_document(piece):
            for part in documents(piece, self.reading, cut, Tally()):
                yield part.place, xxhash.xxh3_128_digest(part.data)
            return
        digest, num_characters, wanted = xxhash.xxh3_128(), 0, True
        try:
            for part in documents(piece, self.reading, cut, Tally()):
                digest.update(part.data)
                num_characters += len(part.text)
        except UndecodableError:
            if self.reading.encoding_errors != "skip":
                raise
            wanted = False
        yield 0, digest.digest() if wanted and self.reading.wants(num_characters) else None


@dataclass(frozen=True)
class Surveyed:
    """What a task found, (documents, 16) hashes in corpus order; their pieces and places are packed."""

    hashes: Ids
    packed_numbers: bytes
    packed_places: bytes
    unwanted: Sequence[int]

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Surveyed:
        hashes, numbers, places = (base64.b64decode(values[name]) for name in ("hashes", "numbers", "places"))
        return cls(np.frombuffer(hashes, dtype=np.uint8).reshape(-1, 16), numbers, places, values["unwanted"])

    @property
    def numbers(self) -> Ids:
        return unpack(self.packed_numbers)

    @property
    def places(self) -> Ids:
        return unpack(self.packed_places)

    @property
    def first(self) -> tuple[int, int]:
        """Where its documents stand among those of the others."""
        return (int(self.numbers[0]), int(self.places[0])) if len(self.hashes) else (-1, -1)


def is_needed(config: CorpusConfig) -> bool:
    chooses_files = config.min_characters or config.max_characters or config.encoding_errors == "skip"
    return config.deduplicate or (config.document == "file" and bool(chooses_files))


def survey(
    splits: Mapping[str, Sequence[Piece]], config: CorpusConfig, map_tasks: MapTasks
) -> tuple[dict[str, list[Piece]], int]:
    """The pieces of each split without files and documents that are not wanted, and how many files were left out.

    Of equal documents the first in the order train, valid, test stays: what was trained on is not held out too.

    Raises:
        UserError: nothing is left of a split.
    """
    reading = Reading.of(config)
    numbered: dict[int, Piece] = {}
    number_of: dict[Any, int] = {}
    for pieces in splits.values():
        for piece in pieces:
            item = Piece.whole(piece.source) if reading.is_one_document(piece) else piece
            if item not in number_of:
                number_of[item] = len(number_of)
                numbered[number_of[item]] = item
    found = _surveyed(numbered, reading, map_tasks)
    dropped: dict[int, list[Ids]] = {number: [] for part in found for number in part.unwanted}
    if config.deduplicate:
        for part, is_repeated in zip(found, repeated([part.hashes for part in found]), strict=True):
            numbers, first = np.unique(part.numbers[is_repeated], return_index=True)
            for number, own in zip(numbers.tolist(), np.split(part.places[is_repeated], first[1:]), strict=False):
                dropped.setdefault(number, []).append(own)
    kept: dict[str, list[Piece]] = {split: [] for split in splits}
    for split, pieces in splits.items():
        for piece in pieces:
            is_file = reading.is_one_document(piece)
            places = dropped.get(number_of[Piece.whole(piece.source) if is_file else piece])
            if places is None:
                kept[split].append(piece)
            elif not is_file:
                kept[split].append(piece.without(np.concatenate(places)))
        if not kept[split]:
            raise UserError(f"corpus.{split}: no document of it is left (too short, too long, or there before)")
    return kept, sum(reading.is_one_document(numbered[number]) for number in dropped)


def _surveyed(numbered: Mapping[int, Piece], reading: Reading, map_tasks: MapTasks) -> list[Surveyed]:
    """What the tasks found, in corpus order."""
    tasks, numbers = [], {id(piece): number for number, piece in numbered.items()}
    plain = [piece for piece in numbered.values() if not reading.is_one_document(piece)]
    files = [piece for piece in numbered.values() if reading.is_one_document(piece)]
    for piece in plain:
        for (part,) in group([piece], SURVEY_BYTES, reading):
            tasks.append(SurveyTask((part,), (numbers[id(piece)],), reading))
    batch: list[Piece] = []
    for piece in files:
        batch.append(piece)
        if sum(p.num_bytes for p in batch) >= SURVEY_BYTES or piece is files[-1]:
            tasks.append(SurveyTask(tuple(batch), tuple(numbers[id(p)] for p in batch), reading))
            batch = []
    return sorted((Surveyed.from_json(result) for result in map_tasks(tasks)), key=lambda part: part.first)


def repeated(parts: Sequence[Ids]) -> list[Ids]:
    """Of (documents, 16) hashes in corpus order: (documents,) bool, whether an equal one comes before.

    One bucket after the other, for putting all in order at once would take as much memory again.
    """
    flags = [np.zeros(len(part), dtype=bool) for part in parts]
    for bucket in range(NUM_BUCKETS if parts else 0):
        rows = [np.flatnonzero(part[:, 0] == bucket) for part in parts]
        hashes = np.concatenate([part[found] for part, found in zip(parts, rows, strict=True)])
        low, high = hashes.view(np.uint64).T
        order = np.lexsort((low, high))  # equal ones stay in order
        is_equal = (low[order[1:]] == low[order[:-1]]) & (high[order[1:]] == high[order[:-1]])
        again = np.zeros(len(order), dtype=bool)
        again[order[1:][is_equal]] = True
        ends = np.cumsum([len(found) for found in rows])
        for flag, found, own in zip(flags, rows, np.split(again, ends[:-1]), strict=True):
            flag[found[own]] = True
    return flags

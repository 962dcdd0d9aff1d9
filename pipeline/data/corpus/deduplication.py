"""Documents that repeat an earlier one, and files that are not wanted: found in all texts before any is tokenized.

slices → one task for each group of them: 16 bytes of hash a document, and its place → in corpus order, the first of
equal ones stays → the slices without the others

Only exact duplicates are found, after decoding and normalisation. The hashes, 16 bytes a document, are held in the
memory of this process, with one more byte that says what is repeated, and a byte or less for the packed place.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import xxhash

from pipeline.config import CorpusConfig
from pipeline.data.corpus.documents import documents
from pipeline.data.corpus.slices import Slice, group, in_batches, num_bytes_of
from pipeline.data.packing import pack, unpack
from pipeline.data.readers import Tally, UndecodableError
from pipeline.data.tokenizer import Ids
from pipeline.errors import UserError

HASHED_BYTES = 64 << 20  # by one task
NUM_BUCKETS = 256  # of hashes, by their first byte
MapTasks = Callable[[Sequence["HashTask"]], Iterable["Hashes"]]


@dataclass(frozen=True)
class Hashes:
    """What a task found: (documents, 16) hashes in corpus order; the numbers of their slices and places are packed."""

    hashes: Ids
    packed_numbers: bytes
    packed_places: bytes
    unwanted: Sequence[int]  # the numbers of files that are left out

    @property
    def numbers(self) -> Ids:
        return unpack(self.packed_numbers)

    @property
    def places(self) -> Ids:
        return unpack(self.packed_places)

    @property
    def first(self) -> tuple[int, int]:
        """The place of its documents among those of the other tasks."""
        return (int(self.numbers[0]), int(self.places[0])) if len(self.hashes) else (-1, -1)


@dataclass(frozen=True)
class HashTask:
    """Hashes the documents of ``slices``, whose numbers in the corpus are ``numbers``."""

    slices: tuple[Slice, ...]
    numbers: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        return num_bytes_of(self.slices)

    def __call__(self) -> Hashes:
        hashes, numbers, places, unwanted = bytearray(), array("q"), array("q"), []
        for number, item in zip(self.numbers, self.slices, strict=True):
            if not item.reader.is_one_document:
                for own, digests in hashes_of(item):
                    hashes += b"".join(digests)
                    numbers.extend([number] * len(own))
                    places.frombytes(own.tobytes())
            elif (digest := hash_of_file(item)) is not None:
                hashes += digest
                numbers.append(number)
                places.append(0)
            else:
                unwanted.append(number)
        of_documents = np.frombuffer(bytes(hashes), dtype=np.uint8).reshape(-1, 16)
        return Hashes(of_documents, pack(np.array(numbers)), pack(np.array(places)), unwanted)


def hashes_of(item: Slice) -> Iterator[tuple[Ids, list[bytes]]]:
    """Places and hashes of the documents of ``item``."""
    for batch in documents(item, Tally()):
        yield batch.places, [xxhash.xxh3_128_digest(text) for text in batch.texts]


def hash_of_file(item: Slice) -> bytes | None:
    """The hash of a file that is one document, None if it is not wanted."""
    digest, num_characters, settings = xxhash.xxh3_128(), 0, item.reader.settings
    try:
        for batch in documents(item, Tally()):
            for text in batch.texts:
                digest.update(text)
                num_characters += len(text.decode())
    except UndecodableError:
        if settings.encoding_errors != "skip":
            raise
        return None
    return digest.digest() if settings.wants(num_characters) else None


def is_needed(config: CorpusConfig) -> bool:
    chooses_files = config.min_characters or config.max_characters or config.encoding_errors == "skip"
    return config.deduplicate or (config.document == "file" and bool(chooses_files))


def deduplicated(
    splits: Mapping[str, Sequence[Slice]], config: CorpusConfig, map_tasks: MapTasks
) -> tuple[dict[str, list[Slice]], int]:
    """The slices of each split without unwanted files and documents, and how many files were left out.

    Of equal documents the first in the order train, valid, test stays: what was trained on is not held out too.

    Raises:
        UserError: nothing is left of a split.
    """
    number_of: dict[Slice, int] = {}
    for slices in splits.values():
        for item in slices:
            number_of.setdefault(_counted(item), len(number_of))
    found = hashed(number_of, map_tasks)
    dropped: dict[int, list[Ids]] = {number: [] for part in found for number in part.unwanted}
    if config.deduplicate:
        for part, is_repeated in zip(found, repeated([part.hashes for part in found]), strict=True):
            numbers, first = np.unique(part.numbers[is_repeated], return_index=True)
            for number, own in zip(numbers.tolist(), np.split(part.places[is_repeated], first[1:]), strict=False):
                dropped.setdefault(number, []).append(own)
    kept: dict[str, list[Slice]] = {split: [] for split in splits}
    for split, slices in splits.items():
        for item in slices:
            places = dropped.get(number_of[_counted(item)])
            if places is None:
                kept[split].append(item)
            elif not item.reader.is_one_document:
                kept[split].append(item.without(np.concatenate(places)))
        if not kept[split]:
            raise UserError(f"corpus.{split}: no document of it is left (too short, too long, or duplicates)")
    return kept, sum(item.reader.is_one_document and number in dropped for item, number in number_of.items())


def _counted(item: Slice) -> Slice:
    """What is counted as one: a file that is one document, wherever it is cut, or a slice."""
    return Slice.whole(item.reader) if item.reader.is_one_document else item


def hashed(number_of: Mapping[Slice, int], map_tasks: MapTasks) -> list[Hashes]:
    """What the tasks found, in corpus order."""
    tasks: list[HashTask] = []
    # files are hashed together only if nothing lies between them in the corpus: a task has one place in its order
    for are_files, items in groupby(number_of, key=lambda item: item.reader.is_one_document):
        if are_files:
            for batch in in_batches(items, HASHED_BYTES, lambda item: item.num_bytes):
                tasks.append(HashTask(tuple(batch), tuple(number_of[own] for own in batch)))
            continue
        for item in items:
            tasks += [HashTask(tuple(part), (number_of[item],)) for part in group([item], HASHED_BYTES)]
    return sorted(map_tasks(tasks), key=lambda part: part.first)


def repeated(parts: Sequence[Ids]) -> list[Ids]:
    """(documents, 16) hashes in corpus order → (documents,) bool, whether an equal one comes before.

    One bucket after another, because sorting all at once would take as much memory again.
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

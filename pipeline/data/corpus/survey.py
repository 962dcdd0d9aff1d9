"""What must be known of all documents before any is tokenized: which ones are duplicates, or not wanted.

pieces → one task for each group of them: (piece, place, 16 bytes of hash, wanted) a document → in corpus order, the
first of equal ones stays → the pieces without the others

Only exact duplicates are found, after decoding and normalisation. The table of hashes, 32 bytes a document, is held in
the memory of this process.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xxhash

from pipeline.config import CorpusConfig
from pipeline.data.corpus.cutting import cut_rule, group
from pipeline.data.corpus.documents import Reading, Tally, UndecodableError, documents
from pipeline.data.corpus.pieces import Piece
from pipeline.data.tokenizer import Ids

SURVEY_BYTES = 64 << 20
ROW = np.dtype([("piece", "<i8"), ("place", "<i8"), ("low", "<u8"), ("high", "<u8"), ("wanted", "?")])
MapTasks = Callable[[Sequence["SurveyTask"]], Iterable[dict[str, Any]]]


@dataclass(frozen=True)
class SurveyTask:
    """Hash the documents of ``pieces``, which have these ``numbers`` in the corpus."""

    pieces: tuple[Piece, ...]
    numbers: tuple[int, ...]
    reading: Reading

    def to_json(self) -> list[Any]:
        return [[piece.to_json() for piece in self.pieces], list(self.numbers), self.reading.to_json()]

    @classmethod
    def from_json(cls, values: Sequence[Any]) -> SurveyTask:
        pieces, numbers, reading = values
        return cls(tuple(map(Piece.from_json, pieces)), tuple(numbers), Reading(**reading))

    def __call__(self) -> dict[str, Any]:
        rows = [
            row for number, piece in zip(self.numbers, self.pieces, strict=True) for row in self._rows(number, piece)
        ]
        return {"rows": base64.b64encode(np.array(rows, dtype=ROW).tobytes()).decode()}

    def _rows(self, number: int, piece: Piece) -> Iterable[tuple[int, int, int, int, bool]]:
        cut = cut_rule(piece.source, self.reading)
        if not self.reading.is_one_document(piece):
            for part in documents(piece, self.reading, cut, Tally()):
                yield (number, part.place, *_halves(xxhash.xxh3_128_intdigest(part.data)), True)
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
        yield (number, -1, *_halves(digest.intdigest()), wanted and self.reading.wants(num_characters))


def _halves(digest: int) -> tuple[int, int]:
    return digest & (1 << 64) - 1, digest >> 64


def is_needed(config: CorpusConfig) -> bool:
    chooses_files = config.min_characters or config.max_characters or config.encoding_errors == "skip"
    return config.deduplicate or (config.document == "file" and bool(chooses_files))


def survey(
    splits: Mapping[str, Sequence[Piece]], config: CorpusConfig, map_tasks: MapTasks
) -> tuple[dict[str, list[Piece]], int]:
    """The pieces of each split without files and documents that are not wanted, and how many files were left out.

    Of equal documents the first in the order train, valid, test stays: what was trained on is not held out too.

    Raises:
        ValueError: nothing is left of a split.
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
    rows = _hashes(numbered, reading, map_tasks)
    left_out = ~rows["wanted"]
    if config.deduplicate:
        left_out |= _is_repeated(rows)
    rows = rows[left_out]
    kept: dict[str, list[Piece]] = {split: [] for split in splits}
    for split, pieces in splits.items():
        for piece in pieces:
            is_file = reading.is_one_document(piece)
            number = number_of[Piece.whole(piece.source) if is_file else piece]
            first, last = np.searchsorted(rows["piece"], [number, number + 1])
            places = rows["place"][first:last]
            if not is_file:
                kept[split].append(piece.without(places) if len(places) else piece)
            elif not len(places):
                kept[split].append(piece)
        if not kept[split]:
            raise ValueError(f"corpus.{split}: no document of it is left (too short, too long, or there before)")
    return kept, int(np.count_nonzero(rows["place"] < 0))


def _hashes(numbered: Mapping[int, Piece], reading: Reading, map_tasks: MapTasks) -> Ids:
    """A row for every document, in corpus order."""
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
    parts = [np.frombuffer(base64.b64decode(result["rows"]), dtype=ROW) for result in map_tasks(tasks)]
    rows = np.concatenate([np.zeros(0, dtype=ROW), *parts])
    return rows[np.lexsort((rows["place"], rows["piece"]))]


def _is_repeated(rows: Ids) -> Ids:
    """(rows,) bool: whether an equal document, itself wanted, comes before."""
    order = np.lexsort((np.arange(len(rows)), ~rows["wanted"], rows["high"], rows["low"]))
    ordered = rows[order]
    equal = (ordered["low"][1:] == ordered["low"][:-1]) & (ordered["high"][1:] == ordered["high"][:-1])
    repeated = np.zeros(len(rows), dtype=bool)
    repeated[order[1:]] = equal
    return repeated

"""What a worker does for a corpus: count, find duplicates, compare, or make one shard.

A task is a plain value that names all that it needs, so it can be sent anywhere, and sent again if a worker is lost.
Calling a task does it, and returns a plain value too.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain, groupby
from typing import Any

import numpy as np

from pipeline import storage
from pipeline.data.corpus import Slice, documents
from pipeline.data.corpus.deduplication import HashTask
from pipeline.data.corpus.slices import num_bytes_of
from pipeline.data.extracts import CompareTask, Extract, write_extracts
from pipeline.data.planning import Range, is_file
from pipeline.data.readers import Batch, Digest, Tally
from pipeline.data.shards import TOKENIZER, ShardWriter
from pipeline.data.shards.sequence import load_from
from pipeline.data.tokenizer import Ids, Tokenizer
from pipeline.data.tokenizer.training import Counts, count

# of the documents encoded in one call
BATCH_BYTES = 1 << 20


@dataclass(frozen=True)
class RangeTask:
    """Makes the shard of a range; calling it returns the manifest's entry. ``made_of`` goes into the sidecar."""

    directory: str
    range: Range
    made_of: str

    @property
    def num_bytes(self) -> int:
        return self.range.num_bytes

    def __call__(self) -> dict[str, Any]:
        tokenizer, item, tally = tokenizer_in(self.directory), self.range, Tally()
        num_unknown, extracts = 0, list[Extract]()
        with ShardWriter(self.directory, item.name, tokenizer.dtype) as writer:
            for ids, starts in encoded(tokenizer, item, tally, extracts):
                writer.append(ids, starts)
                if tokenizer.unk_id is not None:
                    num_unknown += int(np.count_nonzero(ids == tokenizer.unk_id))
            facts = {"source_bytes": item.num_bytes, "num_unknown": num_unknown, **asdict(tally)}
            keep_extracts = partial(write_extracts, self.directory, item.name, self.made_of, extracts)
            return writer.finish({"made_of": self.made_of, **facts}, before_sidecar=keep_extracts)


@dataclass(frozen=True)
class CountTask:
    """Counts the words or characters (``kind``) of some slices; calling it returns how often each occurs."""

    slices: tuple[Slice, ...]
    kind: str

    @property
    def num_bytes(self) -> int:
        return num_bytes_of(self.slices)

    def __call__(self) -> Counts:
        batches = chain.from_iterable(documents(item, Tally()) for item in self.slices)
        return count(self.kind, (texts for texts, _, _ in of_one_size(batches)))


Task = RangeTask | CountTask | HashTask | CompareTask
MapTasks = Callable[[Sequence[Any]], Iterable[Any]]


# of the corpus that this process last worked for: the state of its tokenizer's file, and the tokenizer in it
KEPT: dict[tuple[object, ...], Tokenizer] = {}


def tokenizer_in(directory: str) -> Tokenizer:
    """The tokenizer of a corpus, kept for the next task of this process."""
    if (file := _file_of(directory)) not in KEPT:
        keep(directory, load_from(directory))
    return KEPT[file]


def keep(directory: str, tokenizer: Tokenizer) -> None:
    """Spare the tasks of this process reading ``tokenizer`` from its file in ``directory``, written just now."""
    KEPT.clear()
    KEPT[_file_of(directory)] = tokenizer


def _file_of(directory: str) -> tuple[object, ...]:
    path = storage.join(directory, TOKENIZER)
    return path, storage.size(path), storage.modified(path)


def encoded(
    tokenizer: Tokenizer, item: Range, tally: Tally, extracts: list[Extract] | None = None
) -> Iterator[tuple[Ids, Ids]]:
    """(token ids, places in them where documents begin) of a range, in batches; ``extracts`` takes what was read."""
    begins_anew = item.is_resumed  # a document that another one has interrupted begins anew
    for texts, begins, ends in of_one_size(read(tokenizer, item, tally, extracts)):
        begins[0] |= begins_anew
        begins_anew = False
        ids, lengths = tokenizer.encode_utf8(texts, ends=ends)
        starts = np.cumsum(lengths) - lengths
        yield ids, starts[begins]


def read(tokenizer: Tokenizer, item: Range, tally: Tally, extracts: list[Extract] | None) -> Iterator[Batch]:
    """The documents of a range, cut where ``tokenizer`` says; consecutive records in random order if that is asked."""
    for number, (are_files, own) in enumerate(groupby(item.slices, is_file)):
        batches = chain.from_iterable(read_slice(tokenizer, each, tally, extracts) for each in own)
        if item.shuffle_seed is None or are_files:
            yield from batches
        else:
            yield from shuffled(batches, f"{item.shuffle_seed} {item.name}" + f" {number}" * (number > 0))


def read_slice(tokenizer: Tokenizer, own: Slice, tally: Tally, extracts: list[Extract] | None) -> Iterator[Batch]:
    """The documents of a slice; ``extracts`` takes what was read."""
    digest = None if extracts is None else Digest()
    yield from documents(own, tally, safe_cut=tokenizer.safe_cut, digest=digest)
    if extracts is not None and digest is not None:
        extracts.append(Extract.of(own, digest))


def shuffled(batches: Iterable[Batch], seed: str) -> Iterator[Batch]:
    """Whole documents in random order."""
    texts = [text for batch in batches for text in batch.texts]
    random.Random(seed).shuffle(texts)
    yield Batch(np.zeros(0, dtype=np.int64), texts)


def of_one_size(batches: Iterable[Batch]) -> Iterator[tuple[list[bytes], list[bool], list[bool]]]:
    """Texts in groups of about ``BATCH_BYTES``, and which of them begin and end a document."""
    texts, begins, ends, num_bytes = list[bytes](), list[bool](), list[bool](), 0
    for batch in batches:
        size = sum(map(len, batch.texts))
        step = max(1, len(batch.texts) * BATCH_BYTES // max(1, size))
        for start in range(0, len(batch.texts), step):
            part = batch.texts[start : start + step]
            texts += part
            # only a batch of a single text holds a part of a document
            begins += [batch.begins] * len(part)
            ends += [batch.ends] * len(part)
            num_bytes += size * len(part) // len(batch.texts)
            if num_bytes >= BATCH_BYTES:
                yield texts, begins, ends
                texts, begins, ends, num_bytes = [], [], [], 0
    if texts:
        yield texts, begins, ends

"""The documents of a slice: normalised, and only those that are wanted.

batches of a reader → in normal form → only those of wanted length, without duplicates
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from itertools import compress

import numpy as np

from pipeline.data.corpus.slices import ALL, Slice
from pipeline.data.readers import Batch, Cut, Digest, Tally, TextSettings
from pipeline.data.readers.text import in_text


def documents(
    item: Slice, tally: Tally, *, safe_cut: Cut | None = None, digest: Digest | None = None
) -> Iterator[Batch]:
    """The documents of ``item`` in order; a document that is a whole file comes in parts that end at a ``safe_cut``.

    A file that is one document is chosen as a whole beforehand (``deduplication``); the others are chosen here.

    Args:
        tally: counts what became of them.
        safe_cut: where a document that is too long may be cut; None: at line starts.
        digest: takes in all that is read.

    Raises:
        UserError: as ``Reader.read``.
    """
    reader, wanted = item.reader, None if item.share == ALL else item.has
    num_left = item.most_bytes
    for batch in reader.read(item.start, item.stop, tally, wanted, safe_cut, digest):
        batch = batch._replace(texts=normalised(batch.texts, reader.settings))
        if not reader.is_one_document:
            batch = chosen(batch, item, tally)
        if num_left is not None:
            batch = beginning(batch, num_left)
            num_left -= sum(map(len, batch.texts))
        tally.num_bytes += sum(map(len, batch.texts))
        if batch.texts:
            yield batch
        if num_left is not None and num_left <= 0:
            return


def beginning(batch: Batch, num_bytes: int) -> Batch:
    """The first documents of ``batch`` that reach ``num_bytes``; the last is cut there, at a line or word."""
    stops = np.cumsum([len(text) for text in batch.texts])
    number = int(np.searchsorted(stops, num_bytes)) + 1
    if number > len(stops):
        return batch
    *texts, last = batch.texts[:number]
    most = num_bytes - sum(map(len, texts))
    return batch._replace(places=batch.places[:number], texts=[*texts, last[: in_text(last, most)]])


def utf8_of(slices: Iterable[Slice], *, safe_cut: Cut | None = None) -> Iterator[bytes]:
    """The texts of ``slices`` as UTF-8; long documents are cut."""
    for item in slices:
        for batch in documents(item, Tally(), safe_cut=safe_cut):
            yield from batch.texts


def texts_of(slices: Iterable[Slice], *, safe_cut: Cut | None = None) -> Iterator[str]:
    """The texts of ``slices``; long documents are cut."""
    return (text.decode() for text in utf8_of(slices, safe_cut=safe_cut))


def normalised(texts: list[bytes], settings: TextSettings) -> list[bytes]:
    """``texts`` in the normal form that is set; ASCII text is in every form."""
    form = settings.normalize
    if form is None:
        return texts
    return [text if text.isascii() else unicodedata.normalize(form, text.decode()).encode() for text in texts]


def chosen(batch: Batch, item: Slice, tally: Tally) -> Batch:
    """``batch`` without the documents that are empty, too short or too long, or dropped from ``item``."""
    places, texts, settings = batch.places, batch.texts, item.reader.settings
    keep = np.fromiter(map(bool, texts), dtype=bool, count=len(texts))
    if settings.is_bounded:
        has_length = np.array([settings.wants(len(text.decode())) for text in texts], dtype=bool)
        tally.num_unwanted += int(np.count_nonzero(keep & ~has_length))
        keep &= has_length
    if item.dropped and len(places):
        dropped = item.dropped_places
        first, last = np.searchsorted(dropped, [places[0], places[-1] + 1])
        is_dropped = np.isin(places, dropped[first:last])
        tally.num_duplicates += int(np.count_nonzero(keep & is_dropped))
        keep &= ~is_dropped
    return batch if keep.all() else Batch(places[keep], list(compress(texts, keep)))

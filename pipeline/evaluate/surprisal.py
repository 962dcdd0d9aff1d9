"""A table of the nats of every token and every word of a text: Parquet, CSV or TSV.

A word is what stands between white space, with the white space before it; that at the very end goes to the last word.
``<eos>``, and every token of a word tokenizer, is a word of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from pipeline.data.documents import document_starts
from pipeline.data.scoring import ScoringStreams
from pipeline.data.streams import NO_RESETS, ResetRule
from pipeline.data.tokenizer import EOS, Tokenizer
from pipeline.data.windows import ArrayTokens
from pipeline.errors import UserError
from pipeline.evaluate.held_out import HeldOut
from pipeline.files import new_file
from pipeline.model.language_model import LanguageModel
from pipeline.scoring import scored_windows

SCHEMA = pa.schema(
    [("level", pa.string()), ("text", pa.string()), ("document", pa.int64()), ("position", pa.int64()),
     ("nats", pa.float64()), ("unknown", pa.string())]
)  # fmt: skip
# what opens a table, by the ending of its file
WRITERS: dict[str, Callable[[Path], Any]] = {
    ".parquet": partial(pq.ParquetWriter, schema=SCHEMA),
    ".csv": partial(csv.CSVWriter, schema=SCHEMA),
    ".tsv": partial(csv.CSVWriter, schema=SCHEMA, write_options=csv.WriteOptions(delimiter="\t")),
}
WINDOW_TOKENS, ROWS_AT_ONCE = 512, 1 << 14


@dataclass
class Row:
    """A token or word, the number of its document, its place in it among its like, and its nats."""

    level: str
    data: bytes  # as the model has it
    document: int
    position: int
    nats: float
    own: bytes | None = None  # what the text has there, where part of it is unknown to the model

    def to_json(self) -> dict[str, object]:
        """The row of the table."""
        unknown = None if self.own is None else self._shown(self.own)
        return {**vars(self), "text": self._shown(self.data), "unknown": unknown}

    def _shown(self, data: bytes) -> str:
        """``data`` as a text, without white space around a word."""
        text = data.decode(errors="replace")
        return text if self.level == "token" else text.strip() or text


class Words:
    """Puts tokens together to words, and yields each word as soon as it is whole."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.open: Row | None = None  # the word being put together
        self.space, self.space_nats = b"", 0.0  # tokens after it that are white space only
        self.document = self.num_words = 0

    def push(self, token: int, data: bytes, document: int, nats: float, own: bytes | None = None) -> Iterator[Row]:
        """Yield the words that end before ``token``, and ``token`` itself where it is one."""
        if document != self.document:
            yield from self.finish()
            self.document, self.num_words = document, 0
        if self.tokenizer.kind == "word" or token == self.tokenizer.eos_id:
            yield from self.finish()
            yield self._new(data, nats, own)
        elif self.open is None:
            self.open = self._new(data, nats, own)
        elif self.open.data.strip() and not data.strip():
            self.space, self.space_nats = self.space + data, self.space_nats + nats
        elif self.open.data.strip() and (self.space or self.open.data[-1:].isspace() or data[:1].isspace()):
            space, space_nats = self.space, self.space_nats
            self.space, self.space_nats = b"", 0.0
            yield from self.finish()
            self.open = self._new(space + data, space_nats + nats, None if own is None else space + own)
        else:
            self._extend(data, own)
            self.open.nats += nats

    def finish(self) -> Iterator[Row]:
        """The last word."""
        if self.open is not None:
            self._extend(self.space, None)
            self.open.nats += self.space_nats
            yield self.open
        self.open, self.space, self.space_nats = None, b"", 0.0

    def _new(self, data: bytes, nats: float, own: bytes | None) -> Row:
        self.num_words += 1
        return Row("word", data, self.document, self.num_words - 1, nats, own)

    def _extend(self, data: bytes, own: bytes | None) -> None:
        assert self.open is not None
        if own is not None or self.open.own is not None:
            before = self.open.data if self.open.own is None else self.open.own
            self.open.own = before + (data if own is None else own)
        self.open.data += data


def surprisal_rows(
    model: LanguageModel, tokenizer: Tokenizer, text: HeldOut, *, reset: ResetRule = NO_RESETS
) -> Iterator[Row]:
    """A row for each token of ``text``, and for each word after the last of its tokens.

    One stream, read after the end of a text or line, so that the first token has its nats, too; documents by themselves
    are read so each.
    """
    ids, starts = text.tokens[0 : len(text.tokens)], document_starts(text.tokens)
    if text.begin_id is None:
        begins, begin_ids = np.zeros(1, dtype=np.int64), tokenizer.start_ids
        resets = starts + (starts > 0)
    else:
        begins, begin_ids = starts, np.array([text.begin_id])
        reset, resets = ResetRule(at_documents=True), starts + np.arange(len(starts))
    whole = np.insert(ids.astype(np.int64), begins, begin_ids)  # with what is read before, which is not scored
    places = np.insert(np.arange(len(ids)), begins, -1)  # of each of them in the text
    own_texts = text.own_texts()
    words = Words(tokenizer)
    position = document = -1
    parts = ScoringStreams(ArrayTokens(whole, resets), num_streams=1, bptt=WINDOW_TOKENS, reset=reset)
    for part in scored_windows(model, parts.windows()):
        targets = part.window.targets[:, 0].tolist()
        targets_at = places[part.window.position + 1 :][: len(targets)].tolist()
        for token, place, nats in zip(targets, targets_at, part.nats[:, 0].tolist(), strict=True):
            if place < 0:
                continue
            found = int(np.searchsorted(starts, place, side="right")) - 1
            position = position + 1 if found == document else 0
            document = found
            data = EOS.encode() if token == tokenizer.eos_id else tokenizer.decode_bytes(token)
            own = next(own_texts, None) if token == tokenizer.unk_id else None
            own_data = None if own is None else own.encode(errors="replace")
            yield from words.push(token, data, document, nats, own_data)
            yield Row("token", data, document, position, nats, own_data)
    yield from words.finish()


def check_ending(path: str) -> None:
    """Raise ``UserError`` unless the ending of ``path`` names a kind of table."""
    if Path(path).suffix.lower() not in WRITERS:
        raise UserError(f"{path} must end with {', '.join(WRITERS)}", argument="surprisal")


def write_rows(path: str, rows: Iterable[Row]) -> dict[str, int]:
    """Write ``rows`` whole or not at all, as the ending of ``path`` says; returns how many there are of each level.

    Raises:
        UserError: the ending of ``path`` names no kind of table.
        UnwritableError: the file cannot be written; a former one is kept.
    """
    check_ending(path)
    counts = {"token": 0, "word": 0}
    writer_of = WRITERS[Path(path).suffix.lower()]
    with new_file(path, argument="surprisal") as temporary, writer_of(temporary) as writer:
        batch: list[dict[str, object]] = []
        for row in rows:
            counts[row.level] += 1
            batch.append(row.to_json())
            if len(batch) == ROWS_AT_ONCE:
                writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=SCHEMA))
                batch = []
        writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=SCHEMA))
    return counts

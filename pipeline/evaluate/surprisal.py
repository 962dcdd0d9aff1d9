"""The nats of every token and every word of a text, a row each, into a Parquet file.

A word is what stands between white space, with the white space before it; that at the very end goes to the last word.
``<eos>``, and every token of a word tokenizer, is a word of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.data.scoring import ScoringStreams
from pipeline.data.streams import NO_RESETS, ResetRule
from pipeline.data.tokenizer import EOS, Tokenizer
from pipeline.data.windows import ArrayTokens
from pipeline.evaluate.held_out import HeldOut
from pipeline.evaluate.scoring import scored_windows
from pipeline.files import new_file
from pipeline.model.language_model import LanguageModel

SCHEMA = pa.schema(
    [("level", pa.string()), ("text", pa.string()), ("document", pa.int64()), ("position", pa.int64()),
     ("nats", pa.float64())]
)  # fmt: skip
WINDOW_TOKENS, ROWS_AT_ONCE = 512, 1 << 14


@dataclass
class Row:
    """A token or word, the number of its document, its place in it among its like, and its nats."""

    level: str
    data: bytes
    document: int
    position: int
    nats: float


class Words:
    """Tokens in, one by one; words out as soon as they are whole."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.open: Row | None = None  # the word being put together
        self.space, self.space_nats = b"", 0.0  # tokens after it that are white space only
        self.document = self.num_words = 0

    def push(self, token: int, data: bytes, document: int, nats: float) -> Iterator[Row]:
        """The words that end before ``token``, and ``token`` itself where it is one."""
        if document != self.document:
            yield from self.finish()
            self.document, self.num_words = document, 0
        if self.tokenizer.kind == "word" or token == self.tokenizer.eos_id:
            yield from self.finish()
            yield self._new(data, nats)
        elif self.open is None:
            self.open = self._new(data, nats)
        elif self.open.data.strip() and not data.strip():
            self.space, self.space_nats = self.space + data, self.space_nats + nats
        elif self.open.data.strip() and (self.space or self.open.data[-1:].isspace() or data[:1].isspace()):
            space, space_nats = self.space, self.space_nats
            self.space, self.space_nats = b"", 0.0
            yield from self.finish()
            self.open = self._new(space + data, space_nats + nats)
        else:
            self.open.data += data
            self.open.nats += nats

    def finish(self) -> Iterator[Row]:
        """The last word."""
        if self.open is not None:
            self.open.data += self.space
            self.open.nats += self.space_nats
            yield self.open
        self.open, self.space, self.space_nats = None, b"", 0.0

    def _new(self, data: bytes, nats: float) -> Row:
        self.num_words += 1
        return Row("word", data, self.document, self.num_words - 1, nats)


def surprisal_rows(
    model: LanguageModel, tokenizer: Tokenizer, text: HeldOut, *, reset: ResetRule = NO_RESETS
) -> Iterator[Row]:
    """A row for each token of ``text``, and for each word after the last of its tokens.

    One stream, read after the end of a text or line, so that the first token has its nats, too.
    """
    ids, starts = text.tokens[0 : len(text.tokens)], text.tokens.document_starts(0, len(text.tokens))
    resets = starts + (starts > 0)
    if text.begin_id is not None:
        # of documents by themselves, before the <eos> that is read before each
        reset, resets = ResetRule(at_documents=True), starts
    whole = ArrayTokens(np.concatenate([tokenizer.start_ids, ids]).astype(np.int64), resets)
    words = Words(tokenizer)
    position = document = -1
    for part in scored_windows(model, ScoringStreams(whole, num_streams=1, bptt=WINDOW_TOKENS, reset=reset)):
        first = part.window.position
        targets = part.window.targets[:, 0].tolist()
        for offset, (token, nats) in enumerate(zip(targets, part.nats[:, 0].tolist(), strict=True)):
            found = int(np.searchsorted(starts, first + offset, side="right")) - 1
            position = position + 1 if found == document else 0
            document = found
            data = EOS.encode() if token == tokenizer.eos_id else tokenizer.decode_bytes(token)
            yield from words.push(token, data, document, nats)
            yield Row("token", data, document, position, nats)
    yield from words.finish()


def write_rows(path: str, rows: Iterable[Row]) -> dict[str, int]:
    """Write ``rows`` whole or not at all; returns how many there are of each level.

    Raises:
        UnwritableError: the file cannot be written; a former one is kept.
    """
    counts = {"token": 0, "word": 0}
    with new_file(path, option="--surprisal") as temporary, pq.ParquetWriter(temporary, SCHEMA) as writer:
        batch: list[dict[str, object]] = []
        for row in rows:
            counts[row.level] += 1
            text = row.data.decode(errors="replace")
            batch.append({**vars(row), "text": text if row.level == "token" else text.strip() or text})
            if len(batch) == ROWS_AT_ONCE:
                writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=SCHEMA))
                batch = []
        writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=SCHEMA))
    return counts

"""A piece in, its documents out: decoded, normalised, and only those that are wanted.

bytes or rows → (place, text) → decoded → normalised → of the wanted length and not a duplicate → parts
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pipeline.config import CorpusConfig
from pipeline.data.corpus import records
from pipeline.data.corpus.pieces import Piece
from pipeline.data.corpus.texts import Cut, decode, read_blocks

REPLACEMENT = "\ufffd"


@dataclass(frozen=True)
class Reading:
    """How texts become documents: the settings of ``corpus`` that a worker needs."""

    document: Literal["file", "line", "paragraph"] = "file"
    text_field: str = "text"
    normalize: Literal["NFC", "NFKC"] | None = None
    min_characters: int | None = None
    max_characters: int | None = None
    encoding_errors: Literal["refuse", "replace", "skip"] = "refuse"

    @classmethod
    def of(cls, config: CorpusConfig) -> Reading:
        return cls(**{name: getattr(config, name) for name in cls.__dataclass_fields__})

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def is_one_document(self, piece: Piece) -> bool:
        """Whether the whole source of ``piece`` is one document."""
        return self.document == "file" and not piece.source.has_records

    def wants(self, num_characters: int) -> bool:
        """Whether a document of this length is kept."""
        return (self.min_characters or 0) <= num_characters <= (self.max_characters or num_characters)


@dataclass(frozen=True)
class Part:
    """A document, or a part of one that is too long to be held: whether it ``begins`` and ``ends`` there."""

    text: str
    place: int
    begins: bool = True
    ends: bool = True


@dataclass
class Tally:
    """What became of the documents that were read."""

    num_bytes: int = 0  # of the text that was kept, as UTF-8
    num_duplicates: int = 0
    num_unwanted: int = 0  # too short or too long
    num_undecodable: int = 0
    num_replaced: int = 0  # U+FFFD put where bytes were not UTF-8

    @classmethod
    def names(cls) -> list[str]:
        return list(cls.__dataclass_fields__)


class UndecodableError(ValueError):
    """A document has bytes that are not UTF-8."""


def documents(piece: Piece, reading: Reading, cut: Cut, tally: Tally) -> Iterator[Part]:
    """The documents of ``piece`` in order, those of a whole file in parts that end at a ``cut``.

    A file that is one document is chosen as a whole beforehand (``survey``); here the others are.

    Raises:
        ValueError: the text is gone or has changed, is not UTF-8 (unless set otherwise), or a record has no text.
    """
    for part in (
        _parts_of_file(piece, reading, cut, tally)
        if reading.is_one_document(piece)
        else _chosen(piece, reading, cut, tally)
    ):
        tally.num_bytes += len(part.text if part.text.isascii() else part.text.encode())
        yield part


def _parts_of_file(piece: Piece, reading: Reading, cut: Cut, tally: Tally) -> Iterator[Part]:
    blocks = read_blocks(piece.source, piece.start, piece.stop, cut)
    block = next(blocks, None)
    while block is not None:
        offset, data = block
        block = next(blocks, None)
        text = _normal(_decoded(data, piece.source.name, offset, reading, tally), reading)
        yield Part(text, offset, begins=offset == 0, ends=block is None and piece.stop == piece.source.extent)


def _chosen(piece: Piece, reading: Reading, cut: Cut, tally: Tally) -> Iterator[Part]:
    dropped = set(piece.dropped_places.tolist())
    for place, content in _raw(piece, reading, cut):
        if not piece.has(place):
            continue
        try:
            text = content if isinstance(content, str) else _text(content, piece, place, reading, tally)
        except UndecodableError:
            if reading.encoding_errors != "skip":
                raise
            tally.num_undecodable += 1
            continue
        text = _normal(text, reading)
        if not text:
            continue
        if not reading.wants(len(text)):
            tally.num_unwanted += 1
        elif place in dropped:
            tally.num_duplicates += 1
        else:
            yield Part(text, place)


def _raw(piece: Piece, reading: Reading, cut: Cut) -> Iterable[tuple[int, Any]]:
    """(place, bytes of a text document or line of JSON, or text of a row) of every document of ``piece``."""
    source = piece.source
    if source.form == "parquet":
        rows = records.parquet_rows(source.name, reading.text_field, piece.start, piece.stop, size=source.size)
    elif source.form == "dataset":
        rows = records.dataset_rows(source.name, reading.text_field, piece.start, piece.stop)
    else:
        by_line = source.form == "jsonl" or reading.document == "line"
        split = _lines if by_line else _paragraphs
        for offset, block in read_blocks(source, piece.start, piece.stop, cut):
            yield from split(block, offset)
        return
    for place, text in rows:
        if not isinstance(text, str):
            unit, row = divmod(place, 1 << records.ROW_BITS)
            raise ValueError(
                f"{source.name}: {reading.text_field} of row {row:,} of part {unit:,} is not a text but {text!r:.50} "
                "(corpus.text_field)"
            )
        yield place, text


def _lines(block: bytes, offset: int) -> Iterator[tuple[int, bytes]]:
    for line in block.split(b"\n"):
        if content := line.removesuffix(b"\r"):
            yield offset, content
        offset += len(line) + 1


def _paragraphs(block: bytes, offset: int) -> Iterator[tuple[int, bytes]]:
    start = 0
    for separator in [*re.finditer(rb"\n[ \t\r]*\n[ \t\r\n]*", block), None]:
        content = block[start : separator.start() if separator else len(block)]
        if content.strip():
            yield offset + start, content.strip(b"\r\n")
        start = separator.end() if separator else 0


def _text(content: bytes, piece: Piece, place: int, reading: Reading, tally: Tally) -> str:
    """The text of a document's bytes: themselves, or a field of the JSON that they are."""
    name = piece.source.name
    text = _decoded(content, name, place, reading, tally)
    if piece.source.form != "jsonl":
        return text
    if not text.strip():
        return ""
    try:
        record = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{name}: the line at byte offset {place:,} is not JSON: {error}") from None
    if not isinstance(record, dict) or reading.text_field not in record:
        there = f"there are {', '.join(record)}" if isinstance(record, dict) else "it is no object"
        raise ValueError(
            f"{name}: the record at byte offset {place:,} has no field {reading.text_field!r} "
            f"(corpus.text_field; {there})"
        )
    value = record[reading.text_field]
    if not isinstance(value, str):
        raise ValueError(f"{name}: {reading.text_field} of the record at byte offset {place:,} is not a text")
    return value


def _decoded(data: bytes, name: str, offset: int, reading: Reading, tally: Tally) -> str:
    try:
        return decode(data, name, offset=offset)
    except ValueError as error:
        if reading.encoding_errors != "replace":
            raise UndecodableError(str(error)) from None
    text = data.decode(errors="replace")
    tally.num_replaced += text.count(REPLACEMENT) - data.count(REPLACEMENT.encode())
    return text


def _normal(text: str, reading: Reading) -> str:
    return unicodedata.normalize(reading.normalize, text) if reading.normalize else text

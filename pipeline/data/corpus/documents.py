"""A piece in, its documents out: checked, normalised, and only those that are wanted.

bytes or rows → (place, content) → UTF-8 → normalised → of the wanted length and not a duplicate → parts
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

from pipeline.config import CorpusConfig
from pipeline.data.corpus import records
from pipeline.data.corpus.digests import Digest
from pipeline.data.corpus.pieces import Piece
from pipeline.data.corpus.texts import Cut, decode, is_utf8, parse_json, read_blocks
from pipeline.errors import UserError

REPLACEMENT = "\ufffd"
# up to the start of the next line that is not blank, whose indentation is its own
BLANK_LINES = re.compile(rb"\n[ \t\r]*\n(?:[ \t\r]*\n)*")


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

    @property
    def is_bounded(self) -> bool:
        """Whether short or long documents are left out."""
        return self.min_characters is not None or self.max_characters is not None

    def wants(self, num_characters: int) -> bool:
        """Whether a document of this length is kept."""
        return (self.min_characters or 0) <= num_characters <= (self.max_characters or num_characters)


class Part(NamedTuple):
    """A document, or a part of one that is too long to be held: whether it ``begins`` and ``ends`` there."""

    data: bytes  # UTF-8
    place: int
    begins: bool = True
    ends: bool = True

    @property
    def text(self) -> str:
        """``data`` decoded, where someone asks for it."""
        return self.data.decode()


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


class UndecodableError(UserError):
    """A document has bytes that are not UTF-8."""


def documents(piece: Piece, reading: Reading, cut: Cut, tally: Tally, digest: Digest | None = None) -> Iterator[Part]:
    """The documents of ``piece`` in order, those of a whole file in parts that end at a ``cut``.

    A file that is one document is chosen as a whole beforehand (``survey``); here the others are. ``digest`` takes in
    all that is read.

    Raises:
        UserError: the text is gone or has changed, is not UTF-8 (unless set otherwise), or a record has no text.
    """
    for part in (
        _parts_of_file(piece, reading, cut, tally, digest)
        if reading.is_one_document(piece)
        else _chosen(piece, reading, cut, tally, digest)
    ):
        tally.num_bytes += len(part.data)
        yield part


def _parts_of_file(piece: Piece, reading: Reading, cut: Cut, tally: Tally, digest: Digest | None) -> Iterator[Part]:
    blocks = read_blocks(piece.source, piece.start, piece.stop, cut, digest)
    block, begins = next(blocks, None), piece.start == 0
    while block is not None:
        offset, data = block
        block = next(blocks, None)
        data = _normal(_utf8(data, piece.source.name, offset, reading, tally), reading)
        yield Part(data, offset, begins, ends=block is None and piece.stop == piece.source.extent)
        begins = False


def _chosen(piece: Piece, reading: Reading, cut: Cut, tally: Tally, digest: Digest | None) -> Iterator[Part]:
    dropped = set(piece.dropped_places.tolist())
    is_bounded = reading.is_bounded
    for place, content, is_checked in _raw(piece, reading, cut, digest):
        if not piece.has(place):
            continue
        try:
            data = _normal(_data(content, piece, place, reading, tally, is_checked=is_checked), reading)
        except UndecodableError:
            if reading.encoding_errors != "skip":
                raise
            tally.num_undecodable += 1
            continue
        if not data:
            continue
        if is_bounded and not reading.wants(len(data.decode())):
            tally.num_unwanted += 1
        elif place in dropped:
            tally.num_duplicates += 1
        else:
            yield Part(data, place)


def _raw(piece: Piece, reading: Reading, cut: Cut, digest: Digest | None) -> Iterable[tuple[int, Any, bool]]:
    """(place, content, whether that is known to be UTF-8) of every document of ``piece``.

    The content is the bytes of a text document or of a line of JSON, or the text of a row.
    """
    source = piece.source
    if source.form == "parquet":
        rows = records.parquet_rows(
            source.name, reading.text_field, piece.start, piece.stop, size=source.size, digest=digest
        )
    elif source.form == "dataset":
        rows = records.dataset_rows(source.name, reading.text_field, piece.start, piece.stop, digest=digest)
    else:
        by_line = source.form == "jsonl" or reading.document == "line"
        split = _lines if by_line else _paragraphs
        for offset, block in read_blocks(source, piece.start, piece.stop, cut, digest):
            is_checked = is_utf8(block)  # far quicker than to look at each line
            for place, content in split(block, offset):
                yield place, content, is_checked
        return
    for place, text in rows:
        if not isinstance(text, str):
            unit, row = divmod(place, 1 << records.ROW_BITS)
            raise UserError(
                f"{source.name}: {reading.text_field} of row {row:,} of part {unit:,} is not a text but {text!r:.50} "
                "(corpus.text_field)"
            )
        yield place, text, False


def _lines(block: bytes, offset: int) -> Iterator[tuple[int, bytes]]:
    for line in block.split(b"\n"):
        if content := line.removesuffix(b"\r"):
            yield offset, content
        offset += len(line) + 1


def _paragraphs(block: bytes, offset: int) -> Iterator[tuple[int, bytes]]:
    start = 0
    for separator in [*BLANK_LINES.finditer(block), None]:
        content = block[start : separator.start() if separator else len(block)]
        if content.strip():
            yield offset + start, content.strip(b"\r\n")
        start = separator.end() if separator else 0


def _data(content: bytes | str, piece: Piece, place: int, reading: Reading, tally: Tally, *, is_checked: bool) -> bytes:
    """The UTF-8 of a document: its bytes, or a field of the JSON that they are, or the text of a row."""
    name = piece.source.name
    if isinstance(content, bytes):
        if not is_checked:
            content = _utf8(content, name, place, reading, tally)
        if piece.source.form != "jsonl":
            return content
        content = _field(content, name, place, reading.text_field)
    try:
        return content.encode()
    except UnicodeEncodeError:  # half of a surrogate pair may stand in JSON, but is no text
        return _utf8(content.encode(errors="surrogatepass"), name, place, reading, tally)


def _field(data: bytes, name: str, place: int, field: str) -> str:
    """The text in a line of JSON; that of an empty line is empty."""
    if not data.strip():
        return ""
    try:
        record = parse_json(data)
    except ValueError as error:
        raise UserError(f"{name}: the line at byte offset {place:,} is not JSON: {error}") from None
    if not isinstance(record, dict) or field not in record:
        there = f"there are {', '.join(record)}" if isinstance(record, dict) else "it is no object"
        raise UserError(
            f"{name}: the record at byte offset {place:,} has no field {field!r} (corpus.text_field; {there})"
        )
    value = record[field]
    if not isinstance(value, str):
        raise UserError(f"{name}: {field} of the record at byte offset {place:,} is not a text")
    return value


def _utf8(data: bytes, name: str, offset: int, reading: Reading, tally: Tally) -> bytes:
    """``data`` itself, or with U+FFFD put where it is not UTF-8. Raises ``UndecodableError`` unless that is set."""
    if is_utf8(data):
        return data
    try:
        decode(data, name, offset=offset)
    except UserError as error:
        if reading.encoding_errors != "replace":
            raise UndecodableError(str(error)) from None
    text = data.decode(errors="replace")
    tally.num_replaced += text.count(REPLACEMENT) - data.count(REPLACEMENT.encode())
    return text.encode()


def _normal(data: bytes, reading: Reading) -> bytes:
    """``data`` in the normal form that is set; ASCII is in every one."""
    if not reading.normalize or data.isascii():
        return data
    return unicodedata.normalize(reading.normalize, data.decode()).encode()

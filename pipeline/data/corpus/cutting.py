"""Where pieces may be cut in two: between documents, and within one only where its tokens do not notice."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from pipeline.data.corpus.documents import BLANK_LINES, Reading
from pipeline.data.corpus.pieces import Piece
from pipeline.data.corpus.sources import Source, read_bytes
from pipeline.data.corpus.texts import MARK, Cut

# where a cut is looked for at first
CUT_BYTES = 1 << 16
NOT_BLANK = re.compile(rb"[^ \t\r]")


def after_newline(data: bytes, start: int) -> int | None:
    newline = data.find(b"\n", start - 1)
    return newline + 1 if 0 <= newline < len(data) - 1 else None


def after_blank_line(data: bytes, start: int) -> int | None:
    found = BLANK_LINES.search(data, start - 1)
    # a line that is blank as far as ``data`` goes may be blank to its end
    return found.end() if found and NOT_BLANK.search(data, found.end()) else None


def in_text(data: bytes, start: int) -> int | None:
    """A line start; with none in reach, the start of a word, else of a character."""
    for end in (b"\n", b" "):
        if 0 <= (found := data.find(end, start - 1)) < len(data) - 1:
            return found + 1
    return next((i for i in range(start, len(data)) if data[i] & 0xC0 != 0x80), None)


def cut_rule(source: Source, reading: Reading, safe_cut: Cut = in_text) -> Cut:
    """Where the bytes of ``source`` may be cut; ``safe_cut`` says so within a document (a tokenizer's)."""
    if source.form == "jsonl" or reading.document == "line":
        return after_newline
    if reading.document == "paragraph":
        return after_blank_line
    if not reading.normalize:
        return safe_cut

    def between_lines(data: bytes, start: int) -> int | None:
        # a character may be combined with the one before it, but not with a newline
        while (cut := after_newline(data, start)) is not None:
            if safe_cut(data, cut) == cut:
                return cut
            start = cut + 1
        return None

    return between_lines


def find_cut(piece: Piece, offset: int, cut: Cut) -> int | None:
    """The first place at or after ``offset`` where ``piece`` may be cut, None if there is none before its end."""
    if not piece.source.is_plain:
        return offset if piece.start < offset < piece.stop else None
    length = CUT_BYTES
    start = max(piece.start, offset - 8)
    while True:
        stop = min(piece.stop, start + length)
        data = read_bytes(piece.source, start, stop)
        # text must come before a cut: a mark alone would be a piece without a document
        is_marked = start == 0 and data.startswith(MARK)
        found = cut(data, max(1 + len(MARK) * is_marked, offset - start))
        if found is not None:
            return start + found
        if stop == piece.stop:
            return None
        length *= 4


def group(pieces: Sequence[Piece], num_bytes: int, reading: Reading, safe_cut: Cut = in_text) -> Iterator[list[Piece]]:
    """Consecutive pieces in groups of about ``num_bytes``, a piece cut in two where it would not fit."""
    found: list[Piece] = []
    room = num_bytes
    for piece in pieces:
        rest = piece
        while rest.num_bytes > room and (where := _cut_at(rest, room, reading, safe_cut)) is not None:
            yield [*found, rest.part(rest.start, where)]
            found, room = [], num_bytes
            rest = rest.part(where, rest.stop)
        found.append(rest)
        room -= rest.num_bytes
        if room <= 0:
            yield found
            found, room = [], num_bytes
    if found:
        yield found


def _cut_at(piece: Piece, num_bytes: int, reading: Reading, safe_cut: Cut) -> int | None:
    """Where to cut ``piece`` so that about ``num_bytes`` of text come before."""
    units = (piece.stop - piece.start) * num_bytes / piece.num_bytes
    return find_cut(piece, piece.start + max(1, round(units)), cut_rule(piece.source, reading, safe_cut))


def blocks(pieces: Sequence[Piece], num_bytes: int, reading: Reading) -> Iterator[Piece]:
    """``pieces`` in parts of about ``num_bytes``, each of one piece."""
    for piece in pieces:
        for (part,) in group([piece], num_bytes, reading):
            yield part

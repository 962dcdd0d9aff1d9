"""Plain and compressed texts, read in blocks that are cut at safe places: a large file need not fit in memory."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import compress
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import storage
from pipeline.data.readers.base import Batch, Cut, Reader, Tally, TextSettings, UndecodableError, Wanted
from pipeline.data.readers.digests import Digest
from pipeline.data.tokenizer import Ids
from pipeline.data.tokenizer.base import CONTEXT, after_newline, before_character
from pipeline.data.utf8 import MARK, is_utf8
from pipeline.errors import UserError

# text held in memory at a time
BLOCK_BYTES = 4 << 20
# how far before the end of a block a cut is first looked for; how far after a place one is first looked for
TAIL_BYTES, CUT_BYTES = 1 << 16, 1 << 16
# factor by which a compressed text is guessed to grow when read
EXPANSION = 3

ARCHIVE = re.compile(r"\.tar(\.gz|\.bz2|\.zst)?$", re.IGNORECASE)
# up to the start of the next line that is not blank, whose indentation belongs to it
BLANK_LINES = re.compile(rb"\n[ \t\r]*\n(?:[ \t\r]*\n)*")
NOT_BLANK = re.compile(rb"[^ \t\r]")


class TextReader(Reader):
    """A file of text: one document, or one in each line, or one between blank lines."""

    form = "text"

    @classmethod
    def of_file(cls, file: storage.Found, settings: TextSettings, origin: int) -> TextReader:
        """Raises ``UserError`` for an archive, whose headers would pass for text."""
        path, size, changed = file
        if ARCHIVE.search(path):
            raise UserError(f"{path}: an archive is not read; unpack it, and name the files in it")
        if storage.compression_of(path) is not None:
            return cls(path, cls.locate(path), settings, 1, size, EXPANSION * size, origin, changed)
        return cls(path, cls.locate(path), settings, size, size, size, origin, changed)

    @property
    def document(self) -> str:
        """What a document is: file, line or paragraph."""
        return self.settings.document

    @property
    def is_one_document(self) -> bool:
        return self.document == "file"

    @property
    def is_cut_by_bytes(self) -> bool:
        return storage.compression_of(self.name) is None

    def units_of(self, places: Ids) -> Ids:
        return places if self.is_cut_by_bytes else np.zeros_like(places)

    def find_cut(self, start: int, stop: int, offset: int, safe_cut: Cut | None = None) -> int | None:
        if not self.is_cut_by_bytes:
            return super().find_cut(start, stop, offset)
        cut, length = self.cuts(safe_cut), CUT_BYTES
        begin = max(start, offset - CONTEXT)
        with self._opened() as file:
            while True:
                end = min(stop, max(start, offset - 8) + length)  # as in all versions: where cuts are depends on it
                data = storage.read_open(file, self.path, begin, end - begin)
                # text must come before a cut: a mark alone would be a part without a document
                is_marked = begin == 0 and data.startswith(MARK)
                found = cut(data, max(1 + len(MARK) * is_marked, offset - begin))
                if found is not None:
                    return begin + found
                if end == stop:
                    return None
                length *= 4

    def cuts(self, safe_cut: Cut | None) -> Cut:
        """Where its bytes may be cut: between documents, and within one where ``safe_cut`` says so."""
        if self.document == "line":
            return after_newline
        if self.document == "paragraph":
            return after_blank_line
        return between_lines(safe_cut or in_text) if self.settings.normalize else safe_cut or in_text

    def read(
        self, start: int, stop: int, tally: Tally, wanted: Wanted | None, safe_cut: Cut | None, digest: Digest | None
    ) -> Iterator[Batch]:
        blocks = self._blocks_between_cuts(start, stop, self.cuts(safe_cut), digest)
        if self.is_one_document:
            yield from self._parts(blocks, start, stop, tally)
            return
        for offset, block in blocks:
            places, contents = self.split(block, offset)
            if wanted is not None:
                mask = wanted(places)
                places, contents = places[mask], list(compress(contents, mask))
            texts = self._texts(contents, places, tally, is_utf8=is_utf8(block))
            kept = [text for text in texts if text is not None]
            if len(kept) < len(texts):
                places = places[[text is not None for text in texts]]
            yield Batch(places, kept)

    def _parts(self, blocks: Iterator[tuple[int, bytes]], start: int, stop: int, tally: Tally) -> Iterator[Batch]:
        """The only document in parts."""
        block, begins = next(blocks, None), start == 0
        while block is not None:
            offset, data = block
            block = next(blocks, None)
            ends = block is None and stop == self.extent
            yield Batch(np.array([offset]), [self.as_utf8(data, offset, tally)], begins, ends)
            begins = False

    def split(self, block: bytes, offset: int) -> tuple[Ids, list[bytes]]:
        """The places and the bytes of the documents in a block that begins at ``offset``."""
        return (lines if self.document == "line" else paragraphs)(block, offset)

    def _texts(self, contents: list[bytes], places: Ids, tally: Tally, *, is_utf8: bool) -> Sequence[bytes | None]:
        """The text of each document, None for one that is left out because it is not UTF-8."""
        if is_utf8:
            return contents
        return [self._text(content, place, tally) for content, place in zip(contents, places.tolist(), strict=True)]

    def _text(self, content: bytes, place: int, tally: Tally) -> bytes | None:
        try:
            return self._record(content, place, tally)
        except UndecodableError:
            if self.settings.encoding_errors != "skip":
                raise
            tally.num_undecodable += 1
            return None

    def _record(self, content: bytes, place: int, tally: Tally) -> bytes:
        """The text that ``content`` is or holds. Raises ``UserError``."""
        return self.as_utf8(content, place, tally)

    def _blocks_between_cuts(
        self, start: int, stop: int, cut: Cut, digest: Digest | None
    ) -> Iterator[tuple[int, bytes]]:
        """(offset, bytes) of ``start`` to ``stop``, in blocks of about ``BLOCK_BYTES`` that end at a ``cut``.

        Offsets are those of the text as read; a compressed text is always read whole. A ``MARK`` at its beginning is
        left out.
        """
        offset, rest = start if self.is_cut_by_bytes else 0, b""
        for block in self.blocks(start, stop, digest):
            before = len(rest)
            rest += block
            if offset == before == 0 and rest.startswith(MARK):
                offset, rest = len(MARK), rest[len(MARK) :]
            if len(rest) < BLOCK_BYTES:
                continue
            where = cut(rest, max(1, len(rest) - TAIL_BYTES)) or cut(rest, max(1, before))
            if where is not None and where < len(rest):
                yield offset, rest[:where]
                offset, rest = offset + where, rest[where:]
        if rest:
            yield offset, rest

    def blocks(self, start: int, stop: int, digest: Digest | None = None) -> Iterator[bytes]:
        with self._opened() as file:
            if digest is not None and storage.is_uri(self.path):
                digest.opened(file)
            for block in self._stored(file, start, stop):
                if digest is not None:
                    digest.update(block)
                yield block

    def _stored(self, file: pa.NativeFile, start: int, stop: int) -> Iterator[bytes]:
        if self.is_cut_by_bytes:
            for position in range(start, stop, BLOCK_BYTES):
                yield storage.read_open(file, self.path, position, min(BLOCK_BYTES, stop - position))
            return
        with storage.decompressed(file, self.path) as stream:
            while block := stream.read(BLOCK_BYTES):
                yield block

    @contextmanager
    def _opened(self) -> Iterator[pa.NativeFile]:
        """The file, if it still has its former size. Raises ``UserError``."""
        with self._open() as file:
            self.check_size(file.size())
            yield file

    def _open(self) -> Any:
        return storage.open_file(self.path)


def lines(block: bytes, offset: int) -> tuple[Ids, list[bytes]]:
    """The places and the bytes of all lines that are not empty, without line ends."""
    found = block.split(b"\n")
    lengths = np.fromiter(map(len, found), dtype=np.int64, count=len(found))
    places = offset + np.cumsum(lengths + 1) - lengths - 1
    if b"\r" in block:
        found = [line.removesuffix(b"\r") for line in found]
        lengths = np.fromiter(map(len, found), dtype=np.int64, count=len(found))
    return places[lengths > 0], [line for line in found if line]


def paragraphs(block: bytes, offset: int) -> tuple[Ids, list[bytes]]:
    """The places and the bytes of what blank lines separate."""
    places, found, start = [], [], 0
    for separator in [*BLANK_LINES.finditer(block), None]:
        content = block[start : separator.start() if separator else len(block)]
        if content.strip():
            places.append(offset + start)
            found.append(content.strip(b"\r\n"))
        start = separator.end() if separator else 0
    return np.array(places, dtype=np.int64), found


def after_blank_line(data: bytes, start: int) -> int | None:
    found = BLANK_LINES.search(data, start - 1)
    # the last line may be blank up to its end, beyond ``data``, and then belongs to the blank lines
    return found.end() if found and NOT_BLANK.search(data, found.end()) else None


def in_text(data: bytes, start: int) -> int | None:
    """A line start; with none in reach, the start of a word, or else of a character."""
    for end in (b"\n", b" "):
        if 0 <= (found := data.find(end, start - 1)) < len(data) - 1:
            return found + 1
    return before_character(data, start)


def between_lines(safe_cut: Cut) -> Cut:
    """A cut where ``safe_cut`` says so, but only at line starts."""

    def cut(data: bytes, start: int) -> int | None:
        # a character may be combined with the one before it, but not with a newline
        while (found := after_newline(data, start)) is not None:
            if safe_cut(data, found) == found:
                return found
            start = found + 1
        return None

    return cut

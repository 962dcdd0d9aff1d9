"""Settings in, the documents of each split out, as byte ranges that any worker can read.

corpus.train, valid, test → documents (files, or topics of the built-in reference) → pieces of each split
"""

from __future__ import annotations

import glob
import hashlib
import os
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.config import CorpusConfig

PYTHON_DOCS, PYTHON_STDLIB = "builtin:python-docs", "builtin:python-stdlib"
# with fewer documents than this, whole ones make too coarse a split
ENOUGH_DOCUMENTS = 20
BLOCK_BYTES = 1 << 16


@dataclass(frozen=True)
class Document:
    """A named text of ``num_bytes`` UTF-8 bytes: a file, or a topic of the language reference."""

    name: str
    num_bytes: int

    def read(self, start: int = 0, stop: int | None = None) -> bytes:
        """Bytes ``start`` to ``stop`` (default: the end).

        Raises:
            ValueError: the text is gone, unreadable or of another size than when the corpus was planned.
        """
        stop = self.num_bytes if stop is None else stop
        if self.name.startswith(PYTHON_DOCS + "/"):
            data = _topics().get(self.name.removeprefix(PYTHON_DOCS + "/"), "").encode()
            self._check_size(len(data))
            return data[start:stop]
        try:
            with _path(self.name).open("rb") as stream:
                self._check_size(os.fstat(stream.fileno()).st_size)
                stream.seek(start)
                return stream.read(stop - start)
        except OSError as error:
            raise ValueError(
                f"{self.name}: cannot be read: {error.strerror} (on a cluster every node must see it)"
            ) from None

    def _check_size(self, found: int) -> None:
        if found != self.num_bytes:
            raise ValueError(
                f"{self.name}: {found:,} bytes where there were {self.num_bytes:,} when the corpus was planned "
                "(it has changed since, or this node holds another)"
            )


@dataclass(frozen=True)
class Piece:
    """Bytes ``start`` to ``stop`` of a document, between characters."""

    document: Document
    start: int
    stop: int

    @property
    def num_bytes(self) -> int:
        return self.stop - self.start

    @property
    def ends_document(self) -> bool:
        return self.stop == self.document.num_bytes

    def read(self) -> str:
        """The text. Raises ``ValueError`` naming the file and the byte offset of what is not UTF-8."""
        return decode(self.document.read(self.start, self.stop), self.document.name, offset=self.start)

    def to_json(self) -> list[Any]:
        return [self.document.name, self.document.num_bytes, self.start, self.stop]

    @classmethod
    def from_json(cls, values: Sequence[Any]) -> Piece:
        name, num_bytes, start, stop = values
        return cls(Document(name, num_bytes), start, stop)


def decode(data: bytes, name: str, *, offset: int = 0) -> str:
    """``data`` as text. Raises ``ValueError`` naming the file and the byte offset of what is not UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{name}: not UTF-8 at byte offset {offset + error.start:,}") from None


def read_file(path: str) -> str:
    """A whole text file. Raises ``ValueError`` if it cannot be read or is not UTF-8."""
    try:
        return decode(Path(path).read_bytes(), path)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None


def split_corpus(config: CorpusConfig) -> dict[str, list[Piece]]:
    """The pieces of ``train``, and of ``valid`` and ``test`` where there are any, in corpus order.

    Raises:
        ValueError: no file matches, or a split is empty.
    """
    given = {name: _documents(name, getattr(config, name)) for name in ("train", "valid", "test")}
    splits = {name: [Piece(d, 0, d.num_bytes) for d in documents] for name, documents in given.items()}
    fractions = {
        name: 0.0 if given[name] else fraction
        for name, fraction in (("valid", config.valid_fraction), ("test", config.test_fraction))
    }
    if any(fractions.values()):
        by = config.split_by
        if by == "auto":
            by = "document" if len(given["train"]) >= ENOUGH_DOCUMENTS else "fraction"
        divide = _divide_documents if by == "document" else _divide_text
        splits.update(divide(given["train"], fractions))
    for name, pieces in splits.items():
        if not sum(piece.num_bytes for piece in pieces) and (name == "train" or given[name] or fractions[name]):
            raise ValueError(f"corpus.{name}: there is no text in it")
    return {name: pieces for name, pieces in splits.items() if pieces}


def blocks(pieces: Sequence[Piece], num_bytes: int) -> Iterator[Piece]:
    """``pieces`` in parts of about ``num_bytes``, cut at line starts: a large file need not fit into memory."""
    for piece in pieces:
        start = piece.start
        while piece.stop - start > num_bytes:
            stop = min(_line_start(piece.document, start + num_bytes), piece.stop)
            yield Piece(piece.document, start, stop)
            start = stop
        if start < piece.stop:
            yield Piece(piece.document, start, piece.stop)


def _documents(split: str, patterns: Sequence[str]) -> list[Document]:
    """The documents that ``patterns`` name, sorted by name within each pattern, each once."""
    found: dict[str, Document] = {}
    for pattern in patterns:
        if pattern == PYTHON_DOCS:
            documents = [Document(f"{PYTHON_DOCS}/{t}", len(text.encode())) for t, text in sorted(_topics().items())]
        elif pattern == PYTHON_STDLIB:
            documents = list(_stdlib())
        elif pattern.startswith("builtin:"):
            raise ValueError(f"corpus.{split}: no such corpus: {pattern} (there are {PYTHON_DOCS}, {PYTHON_STDLIB})")
        else:
            documents = [Document(str(path), path.stat().st_size) for path in _files(pattern)]
        if not documents:
            raise ValueError(f"corpus.{split}: no file matches {pattern}")
        found.update((document.name, document) for document in documents)
    return list(found.values())


def _files(pattern: str) -> list[Path]:
    """The files of a path, a directory (all below it) or a glob (``**`` crosses directories), sorted.

    Hidden files and folders count only where the pattern itself names them.
    """
    path = Path(pattern)
    if path.is_file():
        return [path]
    if path.is_dir():
        below = (p for p in path.rglob("*") if not any(part.startswith(".") for part in p.relative_to(path).parts))
    else:
        below = (Path(name) for name in glob.glob(pattern, recursive=True))
    return sorted(p for p in below if p.is_file())


def _path(name: str) -> Path:
    if name.startswith(PYTHON_STDLIB + "/"):
        return Path(sysconfig.get_path("stdlib")) / name.removeprefix(PYTHON_STDLIB + "/")
    return Path(name)


@cache
def _topics() -> dict[str, str]:
    from pydoc_data.topics import topics

    return dict(topics)


@cache
def _stdlib() -> tuple[Document, ...]:
    """Modules of the standard library that are UTF-8, without its tests and what was installed beside it."""
    root = Path(sysconfig.get_path("stdlib"))
    left_out = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}
    documents = []
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        if left_out & set(relative.parts):
            continue
        try:
            num_bytes = len(path.read_bytes().decode().encode())
        except UnicodeDecodeError:
            continue
        if num_bytes:
            documents.append(Document(f"{PYTHON_STDLIB}/{relative.as_posix()}", num_bytes))
    return tuple(documents)


def _divide_documents(documents: Sequence[Document], fractions: dict[str, float]) -> dict[str, list[Piece]]:
    """Whole documents in the order of their names' hashes fill the held-out splits up to their share of the bytes.

    One that is larger than what is still wanted is passed over, so that a single large file does not end up held out.
    """
    total = sum(document.num_bytes for document in documents)
    shuffled = sorted(documents, key=lambda document: hashlib.sha256(document.name.encode()).digest())
    owner: dict[str, str] = {}
    for split, fraction in fractions.items():
        wanted = fraction * total
        free = [document for document in shuffled if document.name not in owner and document.num_bytes]
        for document in free:
            if document.num_bytes <= wanted:
                owner[document.name] = split
                wanted -= document.num_bytes
        if fraction and free and split not in owner.values():
            owner[min(free, key=lambda document: document.num_bytes).name] = split
    pieces = {split: [] for split in ("train", *(s for s, f in fractions.items() if f))}  # type: dict[str, list[Piece]]
    for document in documents:
        pieces[owner.get(document.name, "train")].append(Piece(document, 0, document.num_bytes))
    return pieces


def _divide_text(documents: Sequence[Document], fractions: dict[str, float]) -> dict[str, list[Piece]]:
    """The text in order: train, then valid, then test, cut at line starts."""
    total = sum(document.num_bytes for document in documents)
    first = round(total * (1 - sum(fractions.values())))
    cuts = {"train": (0, first), "valid": (first, first + round(total * fractions["valid"]))}
    cuts["test"] = (cuts["valid"][1], total)
    if not fractions["test"]:
        cuts["valid"] = (first, total)
    wanted = ["train", *(split for split, fraction in fractions.items() if fraction)]
    return {split: _between(documents, *cuts[split]) for split in wanted}


def _between(documents: Sequence[Document], start: int, stop: int) -> list[Piece]:
    pieces, offset = [], 0
    for document in documents:
        begin, end = (_line_start(document, cut - offset) for cut in (start, stop))
        if begin < end:
            pieces.append(Piece(document, begin, end))
        offset += document.num_bytes
    return pieces


def _line_start(document: Document, offset: int) -> int:
    """The first start of a line at or after ``offset``; with none in a block, that of a word, else of a character."""
    if offset <= 0 or offset >= document.num_bytes:
        return min(max(offset, 0), document.num_bytes)
    block = document.read(offset - 1, offset + BLOCK_BYTES)
    for end in (b"\n", b" "):
        if (found := block.find(end)) >= 0:
            return offset + found
    return offset + next(i for i, byte in enumerate(block[1:]) if byte & 0xC0 != 0x80)

"""What every reader is: a source of text that knows how far it reaches, where it may be cut, and its documents."""

from __future__ import annotations

import math
import os
import re
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import xxhash

from pipeline import storage
from pipeline.config import CorpusConfig
from pipeline.data.readers.digests import Digest
from pipeline.data.tokenizer import Ids
from pipeline.data.utf8 import REPLACEMENT, decode, is_utf8
from pipeline.errors import UserError

# the place of a record: above these bits the number of its unit (row group, row, shard), below the record in it
PLACE_BITS = 32
# files of programs, whose text is not plain
NO_TEXT = re.compile(r"\.(pdf|docx?|od[ts]|epub|xlsx?|pptx?|zip|7z|rar)$", re.IGNORECASE)

# (data, start) → the first place at or after start > 0 where data may be cut, None if it has none
Cut = Callable[[bytes, int], int | None]
Mask = np.ndarray[Any, np.dtype[np.bool_]]
# the places of documents → which of them are wanted
Wanted = Callable[[Ids], Mask]


@dataclass(frozen=True)
class TextSettings:
    """The settings of ``corpus`` that decide what the documents of a text are."""

    document: Literal["file", "line", "paragraph"] = "file"
    text_field: str = "text"
    normalize: Literal["NFC", "NFKC"] | None = None
    min_characters: int | None = None
    max_characters: int | None = None
    encoding_errors: Literal["refuse", "replace", "skip"] = "refuse"

    @classmethod
    def of(cls, config: CorpusConfig) -> TextSettings:
        return cls(**{name: getattr(config, name) for name in cls.__dataclass_fields__})

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def is_bounded(self) -> bool:
        """Whether short or long documents are left out."""
        return self.min_characters is not None or self.max_characters is not None

    def wants(self, num_characters: int) -> bool:
        """Whether a document of this length is kept."""
        return (self.min_characters or 0) <= num_characters <= (self.max_characters or num_characters)


class Batch(NamedTuple):
    """Documents in order; or part of one that is too long for memory, and whether it ``begins`` and ``ends`` it."""

    places: Ids  # int64, ascending: what tells the documents of a source apart
    texts: list[bytes]  # UTF-8
    begins: bool = True
    ends: bool = True


@dataclass
class Tally:
    """What became of the documents that were read."""

    num_bytes: int = 0  # of the text that was kept, as UTF-8
    num_duplicates: int = 0
    num_unwanted: int = 0  # too short or too long
    num_undecodable: int = 0
    num_replaced: int = 0  # U+FFFD in place of bytes that were not UTF-8

    @classmethod
    def names(cls) -> list[str]:
        return list(cls.__dataclass_fields__)


class UndecodableError(UserError):
    """A document has bytes that are not UTF-8."""


@dataclass(frozen=True)
class Rows:
    """Rows ``start`` to ``stop`` of the contents of ``files``, which are real paths or addresses, in order."""

    files: tuple[str, ...]
    start: int = 0
    stop: float = math.inf

    def overlaps(self, other: Rows) -> bool:
        """Whether both have a row in common; if their ``files`` differ, whether they share one of them."""
        if self.files == other.files:
            return self.start < other.stop and other.start < self.stop
        return not set(self.files).isdisjoint(other.files)


@dataclass(frozen=True)
class Reader(ABC):
    """One source of text, and how it is read; it is sent to whichever worker reads a part of it.

    ``extent`` counts the units that it can be cut into: bytes of a plain file, row groups of Parquet, rows (or,
    streamed, shards) of a dataset; 1 if it cannot be cut. ``size``, bytes as stored, tells whether it has changed
    since. ``num_bytes`` is the size of its text, a guess if it is compressed or a table. ``changed`` is a new number
    whenever the source has been written again, even with the same text; 0 if that cannot be told.
    """

    form: ClassVar[str]  # its name in the files of a prepared corpus
    has_copies: ClassVar[bool] = False  # whether ``has_equal_texts`` can tell that another one is a copy

    name: str  # as the user wrote it; what is held out, and what shards are made of, depends on it
    location: str  # where it is, whatever folder a worker runs in
    settings: TextSettings
    extent: int
    size: int
    num_bytes: int
    origin: int = 0  # number of the pattern that it came from
    changed: int = field(default=0, compare=False)

    @classmethod
    def of_file(cls, file: storage.Found, settings: TextSettings, origin: int) -> Reader:
        """The reader of a file. Raises ``UserError`` if the file cannot be read."""
        raise NotImplementedError(f"{cls.__name__} does not read files")

    @staticmethod
    def locate(name: str) -> str:
        """The ``location`` of what is called ``name`` in this folder."""
        return name if storage.is_uri(name) else os.path.abspath(name)

    @property
    def path(self) -> str:
        """Where it is for this process."""
        return self.location

    @abstractmethod
    def read(
        self, start: int, stop: int, tally: Tally, wanted: Wanted | None, safe_cut: Cut | None, digest: Digest | None
    ) -> Iterator[Batch]:
        """The documents of units ``start`` to ``stop``.

        Args:
            tally: counts what was left out or replaced because of its encoding.
            wanted: which documents to yield; None: all of them.
            safe_cut: where a document that is too long may be cut; None: at line starts.
            digest: takes in all that is read.

        Raises:
            UserError: the text is gone or has changed, is not UTF-8 (unless set otherwise), or a record has no text.
        """

    @abstractmethod
    def blocks(self, start: int, stop: int, digest: Digest | None = None) -> Iterator[Any]:
        """Units ``start`` to ``stop`` as they are stored; ``digest`` takes them in. Raises ``UserError``."""

    @property
    def is_one_document(self) -> bool:
        """Whether all of it is a single document."""
        return False

    @property
    def is_cut_by_bytes(self) -> bool:
        """Whether its units are bytes of text."""
        return False

    @property
    def can_be_cut(self) -> bool:
        return self.is_cut_by_bytes or self.extent > 1

    def find_cut(self, start: int, stop: int, offset: int, safe_cut: Cut | None = None) -> int | None:
        """The first unit at or after ``offset`` where ``start`` to ``stop`` may be cut in two; None: there is none."""
        return offset if start < offset < stop else None

    def units_of(self, places: Ids) -> Ids:
        """The units that hold the documents at ``places``."""
        return places >> PLACE_BITS if self.extent > 1 else np.zeros_like(places)

    def digest(self, start: int, stop: int) -> Digest:
        """The digest of units ``start`` to ``stop`` as read now. Raises ``UserError`` if the source is gone."""
        found = Digest()
        deque(self.blocks(start, stop, found), maxlen=0)
        return found

    def rows(self, folders: dict[str, str]) -> Sequence[Rows]:
        """Which rows of which files it reads; ``folders`` keeps the real paths known so far."""
        return [Rows((real_path(self.path, folders),))]

    def has_equal_texts(self, other: Reader) -> bool:
        """Whether ``other``, in other files, has the same texts in the same order."""
        return False

    def changed_now(self) -> int:
        """``changed`` of the source as it is now. Raises ``OSError`` or ``LookupError`` if it is gone."""
        return os.stat(self.path).st_ctime_ns

    def size_now(self) -> int | None:
        """``size`` of the source as it is now, None if it is gone."""
        try:
            return storage.size(self.path)
        except storage.UnreadableError:
            return None

    def forget(self) -> None:  # noqa: B027
        """Drop what this process keeps of it, because it was written again; most readers keep nothing."""

    def check_size(self, found: int) -> None:
        """Raises ``UserError`` if it is not as large as when the corpus was planned."""
        if found != self.size:
            raise UserError(
                f"{self.name}: {found:,} bytes, but {self.size:,} when the corpus was planned "
                "(it has changed since, or this node holds another)"
            )

    @property
    def remedy(self) -> str:
        """What to do about bytes that are not UTF-8."""
        if (found := NO_TEXT.search(self.name)) is not None:
            return f"a {found[0].lower()} file is not plain text: convert it first"
        return "save it as UTF-8, or set corpus.encoding_errors to replace or skip"

    def as_utf8(self, data: bytes, offset: int, tally: Tally) -> bytes:
        """``data``, with U+FFFD for bytes that are not UTF-8 if that is set. Raises ``UndecodableError`` otherwise."""
        if is_utf8(data):
            return data
        try:
            decode(data, self.name, offset=offset)
        except UserError as error:
            if self.settings.encoding_errors != "replace":
                raise UndecodableError(f"{error}; {self.remedy}") from None
        text = data.decode(errors="replace")
        tally.num_replaced += text.count(REPLACEMENT) - data.count(REPLACEMENT.encode())
        return text.encode()


def as_version(facts: bytes) -> int:
    """A number for ``facts``, smaller than any present time in nanoseconds, so that none looks recent."""
    return xxhash.xxh3_64_intdigest(facts) >> 4


def real_path(path: str, folders: dict[str, str]) -> str:
    """A local path without ``..`` or symbolic links, or an address in one spelling; ``folders``: those known so far."""
    path = path.removeprefix("file://")
    if storage.is_uri(path):
        return path.replace("gcs://", "gs://", 1) if path.startswith("gcs://") else path
    if os.path.islink(path):
        return os.path.realpath(path)
    folder, name = os.path.split(path)
    if folder not in folders:
        folders[folder] = os.path.realpath(folder)
    return os.path.join(folders[folder], name)

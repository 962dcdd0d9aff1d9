"""What a teacher says of every token of a split, stored once: the likeliest types of each, in memory-mapped files.

    teacher.json       whose they are: teacher, tokenizer, corpus, split; k, temperatures, how the text was read; the
                       files with sizes and checksums; its own checksum. Written last
    train-00000.topk   of consecutive tokens: float32 normalizers (n, temperatures), types (n, k) in uint16 or uint32,
                       float16 ln p (n, k) at temperature 1, the likeliest first
    train-00000.json   what that file was made of, so that an interrupted job can continue

Row i is the distribution of token i of the split, given those before it. At temperature τ, ln q of a type is
ln p ÷ τ less the normalizer, ln Σ over all V types of p^(1 ÷ τ): exact for the stored types, whichever are left out.
Letters: n rows, k types, V vocabulary.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from pipeline import signing
from pipeline.errors import UserError
from pipeline.files import new_file, write_file

MANIFEST, FORMAT = "teacher.json", 1
# limits of one file: rows, and numbers in all rows together
MOST_ROWS, MOST_NUMBERS = 1 << 18, 1 << 26
Ids = np.ndarray[Any, np.dtype[Any]]  # as in ``pipeline.data``, which takes longer to import
Rows = tuple[Ids, Ids, Ids]  # normalizers (n, temperatures), types (n, k), ln p (n, k)


@dataclass(frozen=True)
class Origin:
    """Whose distributions these are, of what, and how the text was read: all that decides the bytes."""

    teacher: str  # fingerprint
    tokenizer: str
    corpus: str
    vocab_size: int
    num_tokens: int
    split: str
    top_k: int
    temperatures: list[float]
    layout: str
    reset: list[Any]
    streams: int
    window_tokens: int
    burn_in: int

    @property
    def type_dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint16 if self.vocab_size <= 1 << 16 else np.uint32)

    @property
    def rows_of_a_file(self) -> int:
        """The number of rows that is planned for each file."""
        return max(1, min(MOST_ROWS, MOST_NUMBERS // self.top_k))

    def digest(self, start: int, stop: int) -> str:
        """Hex digest of what rows ``start`` to ``stop`` are made of."""
        return hashlib.sha256(json.dumps([FORMAT, asdict(self), start, stop]).encode()).hexdigest()


@dataclass(frozen=True)
class Entry:
    """One file of rows."""

    name: str
    start: int
    stop: int
    bytes: int
    xxh3: str


def file_name(split: str, number: int) -> str:
    return f"{split}-{number:05d}"


def write_rows(folder: Path, name: str, origin: Origin, start: int, rows: Rows) -> Entry:
    """Write a file of consecutive rows from ``start`` on, whole or not at all. Raises ``UnwritableError``."""
    normalizers, types, log_p = rows
    parts = [
        np.ascontiguousarray(part, dtype=kind)
        for part, kind in ((normalizers, np.float32), (types, origin.type_dtype), (log_p, np.float16))
    ]
    digest = xxhash.xxh3_64()
    with new_file(folder / f"{name}.topk", argument="to") as temporary, temporary.open("wb") as stream:
        for part in parts:
            digest.update(part.data)
            stream.write(part.data)
    stop = start + len(types)
    entry = Entry(name, start, stop, sum(part.nbytes for part in parts), digest.hexdigest())
    facts = signing.sign({"made_of": origin.digest(start, stop), **asdict(entry)})
    write_file(folder / f"{name}.json", json.dumps(facts), argument="to")
    return entry


def finished(folder: Path, name: str, origin: Origin, start: int, stop: int) -> Entry | None:
    """The entry of a file that an earlier, interrupted job wrote of the same; None if there is none."""
    try:
        facts = _facts(folder / f"{name}.json")
        size = (folder / f"{name}.topk").stat().st_size
    except (OSError, ValueError):
        return None
    if facts["made_of"] != origin.digest(start, stop) or facts["bytes"] != size:
        return None
    return Entry(**{field: facts[field] for field in Entry.__dataclass_fields__})


def is_of_another(path: Path, origin: Origin) -> bool:
    """Whether ``path``, which says what a file was made of, is whole and names something other than ``origin``."""
    try:
        facts = _facts(path)
    except (OSError, ValueError):
        return False
    return bool(facts["made_of"] != origin.digest(facts["start"], facts["stop"]))


def _facts(path: Path) -> dict[str, Any]:
    """What a file of rows was made of. Raises ``OSError`` or ``ValueError`` if that cannot be told."""
    facts: dict[str, Any] = signing.parse(path.read_bytes())
    if not signing.is_intact(facts):
        raise ValueError(f"{path}: altered since it was written")
    return facts


def write_manifest(folder: Path, origin: Origin, entries: Sequence[Entry], *, teacher: str) -> None:
    """Write the manifest that makes the folder whole; ``teacher``: its path, for people. Raises ``UnwritableError``."""
    content = {
        "format": FORMAT,
        "path": teacher,
        "origin": asdict(origin),
        "files": [asdict(entry) for entry in entries],
    }
    write_file(folder / MANIFEST, json.dumps(signing.sign(content), indent=1), argument="to")


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest in ``folder``, None if there is none. Raises ``UserError`` for one that is damaged."""
    path = folder / MANIFEST
    if not os.path.isfile(path):  # Path.is_file raises what it finds wrong with a name
        return None
    try:
        content = signing.parse(path.read_bytes())
    except (OSError, ValueError):
        raise UserError(f"{path}: not a whole manifest of stored logits; run jobs.teach again") from None
    if not signing.is_intact(content):
        raise UserError(f"{path}: altered since it was written (its checksum does not match)")
    if content.get("format") != FORMAT:
        raise UserError(f"{path}: format {content.get('format')}, but this version reads format {FORMAT}")
    return content


class StoredLogits:
    """An open folder of rows: mapped into memory, each file checked before its first use."""

    def __init__(self, folder: str | Path) -> None:
        """Raises ``UserError`` for a folder without a manifest, or with a file that is missing or cut short."""
        self.folder = Path(folder)
        manifest = read_manifest(self.folder)
        if manifest is None:
            raise UserError(f"{folder}: no stored logits there (jobs.teach writes them)")
        self.origin = Origin(**manifest["origin"])
        self.fingerprint: str = manifest[signing.CHECKSUM]
        self.entries = [Entry(**entry) for entry in manifest["files"]]
        self.stops = np.array([entry.stop for entry in self.entries])
        self.mapped: dict[int, tuple[Ids, Ids, Ids]] = {}
        for entry in self.entries:
            path = self.path_of(entry)
            found = path.stat().st_size if path.exists() else None
            if found is None:
                raise UserError(f"{path}: missing from the stored logits")
            if found != entry.bytes:
                raise UserError(f"{path}: {found:,} bytes where the manifest says {entry.bytes:,}")

    def path_of(self, entry: Entry) -> Path:
        return self.folder / f"{entry.name}.topk"

    def check(self, *, corpus: str, tokenizer: str) -> None:
        """Raise ``UserError`` unless these are of that corpus and tokenizer, named by fingerprints."""
        if self.origin.tokenizer != tokenizer:
            raise UserError(f"{self.folder} holds logits over another tokenizer's types than the corpus has")
        if self.origin.corpus != corpus:
            raise UserError(f"{self.folder} holds logits of another corpus than the one prepared now")
        if self.origin.split != "train":
            raise UserError(
                f"{self.folder} holds logits of the {self.origin.split} split; training needs those of train"
            )

    def temperature_index(self, temperature: float) -> int:
        """Which of the stored temperatures this is. Raises ``UserError`` naming them."""
        if temperature not in self.origin.temperatures:
            there = ", ".join(f"{value:g}" for value in self.origin.temperatures)
            raise UserError(
                f"{temperature:g}, but {self.folder} was written for {there} (temperatures of jobs.teach)",
                argument="train.teacher_temperature",
            )
        return self.origin.temperatures.index(temperature)

    def rows(self, places: Ids, *, top_k: int, temperature_index: int) -> Rows:
        """Return for (N,) tokens of the split: normalizers (N,) at a temperature, types (N, k), float16 ln p (N, k).

        Raises:
            UserError: a file that was altered since it was written.
        """
        files = np.searchsorted(self.stops, places, side="right")
        needed = np.unique(files)
        if len(needed) == 1:
            return self._rows_of(int(needed[0]), places, top_k, temperature_index)
        normalizers = np.empty(len(places), np.float32)
        types = np.empty((len(places), top_k), self.origin.type_dtype)
        log_p = np.empty((len(places), top_k), np.float16)
        for file in needed.tolist():
            where = np.flatnonzero(files == file)
            normalizers[where], types[where], log_p[where] = self._rows_of(
                file, places[where], top_k, temperature_index
            )
        return normalizers, types, log_p

    def _rows_of(self, file: int, places: Ids, top_k: int, temperature_index: int) -> Rows:
        normalizers, types, log_p = self._file(file)
        index = places - self.entries[file].start
        if top_k < types.shape[1]:
            types, log_p = types[:, :top_k], log_p[:, :top_k]
        return normalizers[index, temperature_index], types[index], log_p[index]

    def _file(self, number: int) -> tuple[Ids, Ids, Ids]:
        if number not in self.mapped:
            entry = self.entries[number]
            data = np.asarray(np.memmap(self.path_of(entry), dtype=np.uint8, mode="r"))
            if xxhash.xxh3_64_hexdigest(data.data) != entry.xxh3:
                raise UserError(f"{self.path_of(entry)}: altered since it was written (its checksum does not match)")
            shapes = self._shapes(entry.stop - entry.start)
            bounds = np.cumsum([0, *(int(np.prod(shape)) * kind.itemsize for shape, kind in shapes)])
            views = (
                data[begin:end].view(kind).reshape(shape)
                for (shape, kind), begin, end in zip(shapes, bounds[:-1], bounds[1:], strict=True)
            )
            a, b, c = views
            self.mapped[number] = a, b, c
        return self.mapped[number]

    def _shapes(self, num_rows: int) -> list[tuple[tuple[int, int], np.dtype[Any]]]:
        origin = self.origin
        return [
            ((num_rows, len(origin.temperatures)), np.dtype(np.float32)),
            ((num_rows, origin.top_k), origin.type_dtype),
            ((num_rows, origin.top_k), np.dtype(np.float16)),
        ]

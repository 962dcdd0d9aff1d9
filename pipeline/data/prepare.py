"""A corpus → a tokenizer → ranges → one shard a range → the manifest. Ray-free: any map over the ranges will do.

Ranges are cut by source bytes at places that the tokenizer calls safe, never by the number of workers, so the same
corpus and settings give the same bytes, however many make them. What an interrupted preparation finished is kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import Config, data_fingerprint
from pipeline.data.corpus import Piece, blocks, split_corpus
from pipeline.data.shards import (
    FORMAT,
    TOKENIZER,
    PreparedCorpus,
    UnwritableError,
    open_prepared,
    read_manifest,
    read_sidecar,
    remove_leftovers,
    with_sidecar,
    write_manifest,
    write_shard,
)
from pipeline.data.tokenizer import DEFAULT_BPE_VOCAB_SIZE, Ids, Tokenizer, load_tokenizer, train_tokenizer
from pipeline.files import make_directory, remove_if_empty

# enough text for byte-pair merges: more of it hardly changes them
BPE_SAMPLE_BYTES = 40 << 20
RATIO_SAMPLE_BYTES = 1 << 20
# text held in memory at a time
BLOCK_BYTES = 4 << 20
# where a safe cut is looked for at first
CUT_BYTES = 1 << 16


@dataclass(frozen=True)
class Range:
    """What becomes one shard: consecutive pieces of one split."""

    name: str
    split: str
    pieces: tuple[Piece, ...]

    @property
    def identity(self) -> list[Any]:
        return [self.name, *(piece.to_json() for piece in self.pieces)]

    @property
    def num_bytes(self) -> int:
        return sum(piece.num_bytes for piece in self.pieces)


@dataclass(frozen=True)
class RangeTask:
    """Everything a worker needs to make the shard of a range; calling it returns the manifest's entry."""

    directory: str
    range: Range
    root: str  # the folder that relative paths are meant from: a worker has another

    def to_json(self) -> str:
        return json.dumps([self.directory, self.range.split, self.range.identity, self.root])

    @classmethod
    def from_json(cls, text: str) -> RangeTask:
        directory, split, (name, *pieces), root = json.loads(text)
        return cls(directory, Range(name, split, tuple(Piece.from_json(piece) for piece in pieces)), root)

    def __call__(self) -> dict[str, Any]:
        with chdir(self.root) if os.path.isdir(self.root) else nullcontext():
            return self._make_shard()

    def _make_shard(self) -> dict[str, Any]:
        directory = Path(self.directory)
        tokenizer = load_tokenizer(directory / TOKENIZER)
        tokens, starts = tokenize(tokenizer, self.range.pieces)
        unknown = 0 if tokenizer.unk_id is None else int(np.count_nonzero(tokens == tokenizer.unk_id))
        facts = {
            "range": self.range.identity,
            "tokenizer_fingerprint": tokenizer.fingerprint,
            "num_bytes": self.range.num_bytes,
            "num_unknown": unknown,
        }
        entry = write_shard(directory, self.range.name, tokens, starts, facts)
        return {**entry, "num_bytes": self.range.num_bytes, "num_unknown": unknown}


MapRanges = Callable[[Sequence[RangeTask]], Iterable[dict[str, Any]]]
OnShard = Callable[[dict[str, Any], int], None]


def tokenize(tokenizer: Tokenizer, pieces: Iterable[Piece]) -> tuple[Ids, list[int]]:
    """The tokens of consecutive pieces, and at which of them a document starts."""
    parts, starts, length = [], [], 0
    for group in group_pieces(tokenizer, list(pieces), BLOCK_BYTES):
        ids, lengths = tokenizer.encode_documents([p.read() for p in group], ends=[p.ends_document for p in group])
        firsts = length + np.cumsum(lengths) - lengths
        starts += [int(first) for first, piece in zip(firsts, group, strict=True) if piece.start == 0]
        parts.append(ids)
        length += len(ids)
    return np.concatenate(parts), starts


def prepare_in_process(config: Config, *, on_shard: OnShard = lambda entry, total: None) -> PreparedCorpus:
    """``prepare`` one range after another in this process."""
    return prepare(config, map_ranges=lambda tasks: (task() for task in tasks), on_shard=on_shard)


def prepare(config: Config, *, map_ranges: MapRanges, on_shard: OnShard) -> PreparedCorpus:
    """The prepared corpus of ``config``, made now where it is not there yet.

    Args:
        map_ranges: calls each task somewhere and yields the results, in any order.
        on_shard: told of each shard's entry as it is done, and of the bytes there are in all.

    Raises:
        ValueError: no text, text that is not UTF-8, or a directory that holds a corpus of other settings.
    """
    directory = Path(str(config.data.directory))
    splits = split_corpus(config.corpus)
    settings = settings_of(config, splits)
    found = read_manifest(directory)
    if found is not None:
        check_same(directory, found["settings"], settings)
        return open_prepared(directory)
    tokenizer = train(config, splits)
    ranges = plan(tokenizer, splits, shard_tokens=config.data.shard_tokens)
    with new_directory(directory):
        tokenizer.save(directory / TOKENIZER)
        entries = run_ranges(directory, tokenizer, ranges, map_ranges=map_ranges, on_shard=on_shard)
        contents = {split: split_entry(split, ranges, entries) for split in splits}
        for split, content in contents.items():
            if not content["num_tokens"]:
                raise ValueError(f"corpus.{split}: there is no token in its {content['num_bytes']:,} bytes of text")
    remove_leftovers(directory, entries)
    write_manifest(
        directory,
        {
            "format": FORMAT,
            "dtype": tokenizer.dtype.name,
            "vocab_size": tokenizer.vocab_size,
            "tokenizer_fingerprint": tokenizer.fingerprint,
            "settings": settings,
            "splits": contents,
        },
    )
    return open_prepared(directory)


@contextmanager
def new_directory(directory: Path) -> Iterator[None]:
    """Make ``directory``; where the text turns out to be wrong, remove it again if it was not there before.

    Where the disk is at fault, what is done is kept.
    """
    try:
        made = make_directory(directory)
    except OSError as error:
        raise ValueError(f"data.directory: cannot write to {directory}: {error.strerror}") from None
    try:
        yield
    except ValueError as error:
        if directory in made and not isinstance(error, UnwritableError):
            shutil.rmtree(directory, ignore_errors=True)
            remove_if_empty(made)
        raise


def run_ranges(
    directory: Path, tokenizer: Tokenizer, ranges: Sequence[Range], *, map_ranges: MapRanges, on_shard: OnShard
) -> dict[str, dict[str, Any]]:
    """Manifest entries by shard name; those that an earlier, interrupted preparation finished are kept."""
    total = sum(item.num_bytes for item in ranges)
    entries, missing = {}, []
    for item in ranges:
        sidecar = read_sidecar(directory, item.name)
        if sidecar and sidecar["range"] == item.identity and sidecar["tokenizer_fingerprint"] == tokenizer.fingerprint:
            counts = {name: sidecar[name] for name in ("num_bytes", "num_unknown")}
            entries[item.name] = {**with_sidecar(directory, sidecar["entry"]), **counts}
            on_shard(entries[item.name], total)
        else:
            missing.append(RangeTask(str(directory.absolute()), item, os.getcwd()))
    for entry in map_ranges(missing):
        entries[entry["name"]] = entry
        on_shard(entry, total)
    return entries


def split_entry(split: str, ranges: Sequence[Range], entries: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The manifest's entry of a split: its shards in order, and their sums."""
    shards = [entries[item.name] for item in ranges if item.split == split]
    sums = {name: sum(s[name] for s in shards) for name in ("num_tokens", "num_documents", "num_bytes", "num_unknown")}
    return {**sums, "shards": shards}


def train(config: Config, splits: Mapping[str, Sequence[Piece]]) -> Tokenizer:
    """The tokenizer of the training pieces; BPE from a sample spread evenly over them."""
    pieces: Iterable[Piece] = blocks(splits["train"], BLOCK_BYTES)
    if config.tokenizer.kind == "bpe":
        pieces = sample(list(pieces), BPE_SAMPLE_BYTES)
    return train_tokenizer(config.tokenizer, (p.read() for p in pieces), num_documents=len(splits["train"]))


def sample(pieces: Sequence[Piece], num_bytes: int) -> list[Piece]:
    """Whole pieces, evenly spread, of about ``num_bytes`` in all; all of them if there are no more."""
    total = sum(piece.num_bytes for piece in pieces)
    if total <= num_bytes:
        return list(pieces)
    chosen, due = [], 0.0
    for piece in pieces:
        due += piece.num_bytes * num_bytes / total
        if due >= piece.num_bytes:
            chosen.append(piece)
            due -= piece.num_bytes
    return chosen or [pieces[0]]


def plan(tokenizer: Tokenizer, splits: Mapping[str, Sequence[Piece]], *, shard_tokens: int) -> list[Range]:
    """Ranges of about ``shard_tokens`` tokens each, at the ratio of tokens to bytes of a sample of the corpus."""
    head = splits["train"][0]
    stop = head.start + min(head.num_bytes, RATIO_SAMPLE_BYTES)
    text = head.document.read(head.start, stop).decode(errors="ignore")
    ratio = max(1, len(tokenizer.encode(text))) / max(1, len(text.encode()))
    range_bytes = max(1, round(shard_tokens / ratio))
    ranges = []
    for split, pieces in splits.items():
        for index, group in enumerate(group_pieces(tokenizer, pieces, range_bytes)):
            ranges.append(Range(f"{split}-{index:05d}", split, tuple(group)))
    return ranges


def group_pieces(tokenizer: Tokenizer, pieces: Sequence[Piece], range_bytes: int) -> Iterator[list[Piece]]:
    """Consecutive pieces in groups of ``range_bytes``, a piece cut where it is safe where it would not fit."""
    group: list[Piece] = []
    room = range_bytes
    for piece in pieces:
        rest = piece
        while rest.num_bytes > room and (cut := find_cut(tokenizer, rest, rest.start + room)) is not None:
            yield [*group, Piece(rest.document, rest.start, cut)]
            group, room = [], range_bytes
            rest = Piece(rest.document, cut, rest.stop)
        group.append(rest)
        room -= rest.num_bytes
        if room <= 0:
            yield group
            group, room = [], range_bytes
    if group:
        yield group


def find_cut(tokenizer: Tokenizer, piece: Piece, offset: int) -> int | None:
    """The first safe cut of a piece at or after ``offset``, None if there is none before its end."""
    length = CUT_BYTES
    start = max(piece.start, offset - 8)
    while True:
        stop = min(piece.stop, start + length)
        cut = tokenizer.safe_cut(piece.document.read(start, stop), max(1, offset - start))
        if cut is not None:
            return start + cut
        if stop == piece.stop:
            return None
        length *= 4


def settings_of(config: Config, splits: Mapping[str, Sequence[Piece]]) -> dict[str, Any]:
    """What the bytes of a prepared corpus depend on: settings, and the names and sizes of the texts."""
    sources = [[split, *piece.to_json()] for split, pieces in splits.items() for piece in pieces]
    return {
        "fingerprint": data_fingerprint(config),
        "corpus": config.corpus.model_dump(mode="json"),
        "tokenizer": config.tokenizer.model_dump(mode="json"),
        "shard_tokens": config.data.shard_tokens,
        "sources": hashlib.sha256(json.dumps(sources).encode()).hexdigest(),
    }


def check_same(directory: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse to mix two corpora in a directory.

    Raises:
        ValueError: naming the settings that differ, or that the texts have changed.
    """
    differing = [
        f"{section}.{name} was {found[section].get(name)!r}, is {value!r}"
        for section in ("corpus", "tokenizer")
        for name, value in wanted[section].items()
        if found[section].get(name) != value
    ]
    if found["shard_tokens"] != wanted["shard_tokens"]:
        differing.append(f"data.shard_tokens was {found['shard_tokens']}, is {wanted['shard_tokens']}")
    if not differing and found["sources"] != wanted["sources"]:
        differing.append("the texts are not the same files or sizes any more")
    if differing:
        raise ValueError(
            f"data.directory: {directory} holds a corpus prepared differently ({'; '.join(differing)}); "
            "remove it or name another directory"
        )


def count_tokens(config: Config) -> tuple[dict[str, int], int, bool]:
    """(tokens per split, vocabulary size, whether that is exact) without writing anything.

    From the manifest if the corpus is prepared, else by counting in memory; for BPE the tokens are estimated at
    four bytes each and the vocabulary is what was asked for.
    """
    splits = split_corpus(config.corpus)
    found = read_manifest(str(config.data.directory))
    if found is not None and found["settings"] == settings_of(config, splits):
        return {s: entry["num_tokens"] for s, entry in found["splits"].items()}, found["vocab_size"], True
    if config.tokenizer.kind == "bpe":
        counts = {split: sum(p.num_bytes for p in pieces) // 4 for split, pieces in splits.items()}
        return counts, config.tokenizer.vocab_size or DEFAULT_BPE_VOCAB_SIZE, False
    tokenizer = train(config, splits)
    counts = {split: sum(len(tokenize(tokenizer, [p])[0]) for p in pieces) for split, pieces in splits.items()}
    return counts, tokenizer.vocab_size, True

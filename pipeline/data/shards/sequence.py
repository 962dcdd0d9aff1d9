"""All shards of a split as one sequence of tokens, local or remote."""

from __future__ import annotations

import json
import tempfile
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from pipeline import storage
from pipeline.data.shards.manifest import TOKENIZER, read_manifest
from pipeline.data.shards.remote import BatchCache, Key
from pipeline.data.shards.sidecar import Sidecar, sidecar_name
from pipeline.data.shards.writing import BATCH_TOKENS
from pipeline.data.tokenizer import Ids, Tokenizer, load_tokenizer
from pipeline.errors import UserError

MAX_OPEN_SHARDS = 256  # well below the kernel's limit of 65,530 mappings


@dataclass
class PreparedCorpus:
    """An open prepared corpus."""

    directory: str
    manifest: dict[str, Any]
    tokenizer: Tokenizer
    splits: dict[str, TokenSequence] = field(repr=False)

    @property
    def vocab_size(self) -> int:
        return self.tokenizer.vocab_size

    @property
    def fingerprint(self) -> str:
        """Changes with any byte of any shard, so also with the place of a text, which the shard has a record of."""
        return str(self.manifest["checksum"])

    @property
    def tokens_fingerprint(self) -> str:
        """Changes with any token and with the tokenizer, but not with the place of a text."""
        shards = {
            name: [[entry["arrow"]["xxh3"], entry["num_tokens"], entry["num_documents"]] for entry in tokens.entries]
            for name, tokens in self.splits.items()
        }
        facts = [self.manifest["tokenizer_fingerprint"], shards]
        return xxhash.xxh3_128_hexdigest(json.dumps(facts, sort_keys=True).encode())


def open_prepared(directory: str | Path | None, *, verify: bool = False) -> PreparedCorpus:
    """Open the prepared corpus in ``directory``, a path or URI; with ``verify``, check every byte of it.

    Raises:
        UserError: nothing is prepared there, or a file is missing, cut short, altered or from another corpus.
    """
    directory = str(directory)
    manifest = read_manifest(directory)
    if manifest is None:
        raise UserError(f"data.directory: no prepared corpus in {directory} (run jobs.prepare)")
    tokenizer = load_from(directory)
    if tokenizer.fingerprint != manifest["tokenizer_fingerprint"]:
        raise UserError(f"{storage.join(directory, TOKENIZER)}: not the tokenizer that this corpus was prepared with")
    sizes = storage.sizes_in(directory)
    splits = {
        name: TokenSequence(directory, split, np.dtype(manifest["dtype"]), sizes=sizes)
        for name, split in manifest["splits"].items()
    }
    if verify:
        for sequence in splits.values():
            sequence.verify()
    return PreparedCorpus(directory, manifest, tokenizer, splits)


def load_from(directory: str) -> Tokenizer:
    """Load the tokenizer of a corpus, wherever the corpus is."""
    path = storage.join(directory, TOKENIZER)
    if not storage.is_uri(path):
        return load_tokenizer(path)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / TOKENIZER
        copy.write_bytes(storage.read(path))
        return load_tokenizer(copy)


class TokenSequence:
    """All shards of one split as one sequence of tokens: memory-mapped, or read by ranges ahead of their use."""

    def __init__(
        self, directory: str, split: Mapping[str, Any], dtype: np.dtype[Any], *, sizes: Mapping[str, int] | None = None
    ) -> None:
        """
        Args:
            sizes: bytes of the files in ``directory``, if they are known.
        """
        self.directory = str(directory)
        self.dtype = dtype
        self.entries: list[dict[str, Any]] = split["shards"]
        self.num_bytes: int = split["num_bytes"]
        self.num_unknown: int = split["num_unknown"]
        # first token of each shard, and the end
        self.starts = np.cumsum([0, *(entry["num_tokens"] for entry in self.entries)])
        self.bounds: list[int] = self.starts.tolist()  # the same, for looking up a single place
        self.open_shards: OrderedDict[int, _Shard] = OrderedDict()
        self.lock = threading.Lock()
        self.cache = BatchCache(self._read_batch) if storage.is_uri(self.directory) else None
        sizes = storage.sizes_in(self.directory) if sizes is None else sizes
        for entry in self.entries:
            files = {f"{entry['name']}.arrow": entry["arrow"], sidecar_name(entry["name"]): entry["sidecar"]}
            for name, facts in files.items():
                _check_size(storage.join(self.directory, name), sizes.get(name), facts)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, where: slice) -> Ids:
        """Tokens ``start`` to ``stop``; no copy is made if they are in one record batch."""
        start, stop, _ = where.indices(len(self))
        self._read_ahead(np.array([start]), stop - start)
        parts = self._parts(start, stop)
        return parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0, self.dtype), *parts])

    def rows(self, starts: Ids, length: int) -> Ids:
        """(rows, length) int64: ``length`` tokens from each of ``starts``."""
        self._read_ahead(starts, length)
        block = np.empty((len(starts), length), dtype=np.int64)
        for row, start in zip(block, starts.tolist(), strict=True):
            offset = 0
            for part in self._parts(start, start + length):
                row[offset : offset + len(part)] = part
                offset += len(part)
        return block

    def document_starts(self, start: int, stop: int) -> Ids:
        """Positions in [start, stop) at which a document begins, int64, ascending, each once."""
        found = [np.zeros(0, dtype=np.int64)]
        # also the shard before: an empty document at its very end begins where the next shard does
        first = int(np.searchsorted(self.starts, start, side="left")) - 1
        for index in range(max(0, first), len(self.entries)):
            if self.starts[index] >= stop:
                break
            starts = self._shard(index).sidecar.document_starts + self.starts[index]
            found.append(starts[np.searchsorted(starts, start) : np.searchsorted(starts, stop)])
        everywhere = np.concatenate(found)
        return everywhere[np.diff(everywhere, prepend=-1) > 0]

    def verify(self) -> None:
        """Check every byte. Raises ``UserError`` naming the file that is damaged."""
        for index, entry in enumerate(self.entries):
            path = storage.join(self.directory, f"{entry['name']}.arrow")
            digest = xxhash.xxh3_64()
            with storage.open_file(path) as file, storage.decompressed(file, path) as stream:
                while block := stream.read(1 << 22):
                    digest.update(block)
            if digest.hexdigest() != entry["arrow"]["xxh3"]:
                raise UserError(f"{path}: altered since it was written (its checksum does not match)")
            shard = self._shard(index)
            for batch in range(shard.num_batches):
                shard.batch(batch)

    def _parts(self, start: int, stop: int) -> list[Ids]:
        """Views of consecutive stretches, each within one record batch."""
        parts = []
        while start < stop:
            index, batch, offset = self._place(start)
            tokens = self._shard(index).batch(batch) if self.cache is None else self.cache.get((index, batch))
            part = tokens[offset : offset + stop - start]
            parts.append(part)
            start += len(part)
        return parts

    def _place(self, position: int) -> tuple[int, int, int]:
        """(shard, batch, offset in it) of a token."""
        index = bisect_right(self.bounds, position) - 1
        return (index, *divmod(position - self.bounds[index], BATCH_TOKENS))

    def _read_ahead(self, starts: Ids, length: int) -> None:
        """Ask for all batches of these rows at once, and for the batches that come next."""
        if self.cache is None or length <= 0:
            return
        needed: dict[Key, None] = {}
        for start in starts.tolist():
            for position in range(start, min(start + 2 * length, len(self)), BATCH_TOKENS):
                needed[self._place(position)[:2]] = None
            needed[self._place(min(start + length, len(self)) - 1)[:2]] = None
        self.cache.ask(list(needed))

    def _read_batch(self, key: Key) -> Ids:
        index, batch = key
        return self._shard(index).batch(batch)

    def _shard(self, index: int) -> _Shard:
        with self.lock:
            shard = self.open_shards.get(index)
            if shard is not None:
                self.open_shards.move_to_end(index)
                return shard
        # outside the lock: opening a shard in a store takes a while, and others are read meanwhile
        opened = _Shard(self.directory, self.entries[index], self.dtype)
        with self.lock:
            shard = self.open_shards.setdefault(index, opened)
            if len(self.open_shards) > MAX_OPEN_SHARDS:
                self.open_shards.popitem(last=False)
        return shard


class _Shard:
    """One open shard; a batch is verified before its first use."""

    def __init__(self, directory: str, entry: Mapping[str, Any], dtype: np.dtype[Any]) -> None:
        self.path = storage.join(directory, f"{entry['name']}.arrow")
        sidecar_path = storage.join(directory, sidecar_name(entry["name"]))
        data = storage.read(sidecar_path)
        if xxhash.xxh3_64_hexdigest(data) != entry["sidecar"]["xxh3"]:
            raise UserError(f"{sidecar_path}: altered since it was written (its checksum does not match)")
        self.sidecar = Sidecar.from_bytes(data)
        self.table: list[list[Any]] = self.sidecar.facts["batches"]
        self.dtype = dtype
        self.verified: dict[int, Ids] = {}
        if storage.is_uri(self.path):
            self.file = storage.open_file(self.path)
            return
        self.file = None
        _check_size(self.path, storage.size(self.path), entry["arrow"])
        # a plain view: slices of np.memmap itself are slow to make
        self.mapped = np.asarray(np.memmap(self.path, dtype=np.uint8, mode="r"))

    @property
    def num_batches(self) -> int:
        return len(self.table)

    def batch(self, index: int) -> Ids:
        """The tokens of a record batch: a view of the mapped file, or a copy of its own from the store."""
        tokens = self.verified.get(index)
        if tokens is None:
            offset, num_bytes, checksum = self.table[index]
            if self.file is None:
                data = self.mapped[offset : offset + num_bytes]
            else:
                data = np.frombuffer(storage.read_open(self.file, self.path, offset, num_bytes), dtype=np.uint8)
            if xxhash.xxh3_64_hexdigest(data.data) != checksum:
                raise UserError(f"{self.path}: record batch {index} was altered since it was written")
            tokens = data.view(self.dtype)
            if self.file is None:
                self.verified[index] = tokens
        return tokens


def _check_size(path: str, found: int | None, facts: Mapping[str, Any]) -> None:
    if found is None:
        raise UserError(f"{path}: missing from the prepared corpus")
    if found != facts["bytes"]:
        raise UserError(f"{path}: {found:,} bytes where the manifest says {facts['bytes']:,}")

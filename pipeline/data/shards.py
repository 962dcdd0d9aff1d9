"""The token-shard format: a prepared corpus on disk and the one token sequence that it is.

    manifest.json       format, settings, per split and shard: tokens, documents, source bytes, checksums; its own last
    tokenizer.json
    train-00000.arrow   Arrow IPC file, one column ``token`` (uint16 or uint32), batches of fixed length, uncompressed
    train-00000.json    sidecar: document starts; offset, length and xxh3 of every batch's bytes in the file

Checked at open: the manifest, the tokenizer and every file's size (reading beyond the end of a mapped file would kill
the process). Checked at first use: each batch, for Arrow itself does not notice a flipped byte. ``verify`` checks all.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections import OrderedDict
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from pipeline.data.tokenizer import Ids, Tokenizer, load_tokenizer

FORMAT = 1
MANIFEST, TOKENIZER = "manifest.json", "tokenizer.json"
SHARD_FILE = re.compile(r"(train|valid|test)-\d{5,}\.(arrow|json)")
BATCH_TOKENS = 65_536
MAX_OPEN_SHARDS = 256  # well below the kernel's limit of 65,530 mappings
STALE_SECONDS = 600  # far longer than writing one file takes


class UnwritableError(ValueError):
    """A file of a corpus could not be written; what was finished before is kept."""


def write_shard(
    directory: Path, name: str, tokens: Ids, document_starts: Sequence[int], facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Write ``name.arrow`` and its sidecar, each whole under a temporary name first; returns the manifest's entry.

    The sidecar goes last and holds ``facts``, so that an interrupted preparation knows which shards are done.

    Raises:
        UnwritableError: the disk is full, or the folder gone.
    """
    temporary = directory / f".{name}.{os.getpid()}.tmp"
    schema = pa.schema([pa.field("token", pa.from_numpy_dtype(tokens.dtype), nullable=False)])
    try:
        with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            for start in range(0, len(tokens), BATCH_TOKENS):
                writer.write_batch(pa.record_batch([pa.array(tokens[start : start + BATCH_TOKENS])], schema=schema))
        entry = {
            "name": name,
            "num_tokens": len(tokens),
            "num_documents": len(document_starts),
            "arrow": _file_facts(temporary),
        }
        batches = _batch_table(temporary)
        temporary.replace(directory / f"{name}.arrow")
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise _unwritable(directory / f"{name}.arrow", error) from None
    sidecar = {**facts, "entry": entry, "batches": batches, "document_starts": [int(i) for i in document_starts]}
    write_json(directory / f"{name}.json", sidecar)
    return with_sidecar(directory, entry)


def with_sidecar(directory: Path, entry: Mapping[str, Any]) -> dict[str, Any]:
    """A shard's entry for the manifest: what its sidecar says of the shard, and the sidecar's own size and checksum."""
    return {**entry, "sidecar": _file_facts(directory / f"{entry['name']}.json")}


def read_sidecar(directory: Path, name: str) -> dict[str, Any] | None:
    """The sidecar of a finished shard whose tokens are still as they were written; None otherwise."""
    try:
        sidecar: dict[str, Any] = json.loads((directory / f"{name}.json").read_bytes())
        is_whole = sidecar["entry"]["arrow"] == _file_facts(directory / f"{name}.arrow")
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return sidecar if is_whole else None


def remove_leftovers(directory: Path, shards: Container[str]) -> None:
    """Remove what earlier, interrupted preparations left: shards of other names, files never finished."""
    for path in directory.iterdir():
        name = path.name
        is_other = SHARD_FILE.fullmatch(name) is not None and path.stem not in shards
        # another process may be writing the same corpus just now
        is_stale = name.startswith(".") and name.endswith(".tmp") and time.time() - path.stat().st_mtime > STALE_SECONDS
        if is_other or is_stale:
            path.unlink(missing_ok=True)


def write_manifest(directory: Path, content: dict[str, Any]) -> None:
    """The manifest with its own checksum: the last file of a preparation, and the sign that it is complete."""
    write_json(directory / MANIFEST, {**content, "checksum": _content_checksum(content)})


def write_json(path: Path, value: Any) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise _unwritable(path, error) from None


def _unwritable(path: Path, error: OSError) -> UnwritableError:
    reason = error.strerror or str(error)
    return UnwritableError(f"{path}: cannot be written: {reason}; what is done is kept, the same command goes on")


def read_manifest(directory: str | Path) -> dict[str, Any] | None:
    """The manifest of a prepared corpus, None if there is none.

    Raises:
        ValueError: a manifest that is cut short, altered or of another format.
    """
    path = Path(directory) / MANIFEST
    try:
        content = json.loads(path.read_bytes())
        checksum = content.pop("checksum")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, LookupError, AttributeError, TypeError):
        raise ValueError(f"{path}: not a whole manifest (cut short or foreign); prepare the corpus again") from None
    if checksum != _content_checksum(content):
        raise ValueError(f"{path}: altered since it was written (its checksum does not match)")
    if content["format"] != FORMAT:
        raise ValueError(f"{path}: format {content['format']}, but this version reads format {FORMAT}")
    return {**content, "checksum": checksum}


@dataclass
class PreparedCorpus:
    """An open prepared corpus."""

    directory: Path
    manifest: dict[str, Any]
    tokenizer: Tokenizer
    splits: dict[str, TokenSequence] = field(repr=False)

    @property
    def vocab_size(self) -> int:
        return self.tokenizer.vocab_size

    @property
    def fingerprint(self) -> str:
        """Changes with any byte of any shard."""
        return str(self.manifest["checksum"])


def open_prepared(directory: str | Path | None, *, verify: bool = False) -> PreparedCorpus:
    """The prepared corpus in ``directory``; with ``verify``, after checking every byte of it.

    Raises:
        ValueError: nothing prepared there, or a file that is missing, cut short, altered or from another corpus.
    """
    directory = Path(str(directory))
    manifest = read_manifest(directory)
    if manifest is None:
        raise ValueError(f"data.directory: no prepared corpus in {directory} (run jobs.prepare)")
    tokenizer = load_tokenizer(directory / TOKENIZER)
    if tokenizer.fingerprint != manifest["tokenizer_fingerprint"]:
        raise ValueError(f"{directory / TOKENIZER}: not the tokenizer that this corpus was prepared with")
    splits = {
        name: TokenSequence(directory, split, np.dtype(manifest["dtype"])) for name, split in manifest["splits"].items()
    }
    if verify:
        for sequence in splits.values():
            sequence.verify()
    return PreparedCorpus(directory, manifest, tokenizer, splits)


class TokenSequence:
    """All shards of one split as one sequence of tokens, memory-mapped."""

    def __init__(self, directory: Path, split: Mapping[str, Any], dtype: np.dtype[Any]) -> None:
        self.directory = directory
        self.dtype = dtype
        self.entries: list[dict[str, Any]] = split["shards"]
        self.num_bytes: int = split["num_bytes"]
        self.num_unknown: int = split["num_unknown"]
        # first token of each shard, and the end
        self.starts = np.cumsum([0, *(entry["num_tokens"] for entry in self.entries)])
        self.open_shards: OrderedDict[int, _Shard] = OrderedDict()
        for entry in self.entries:
            for suffix, facts in (("arrow", entry["arrow"]), ("json", entry["sidecar"])):
                _check_size(directory / f"{entry['name']}.{suffix}", facts)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, where: slice) -> Ids:
        """Tokens ``start`` to ``stop``; no copy is made where they lie in one record batch."""
        start, stop, _ = where.indices(len(self))
        parts = self._parts(start, stop)
        return parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0, self.dtype), *parts])

    def rows(self, starts: Ids, length: int) -> Ids:
        """(rows, length): ``length`` tokens from each of ``starts``."""
        block = np.empty((len(starts), length), dtype=self.dtype)
        for row, start in zip(block, starts, strict=True):
            offset = 0
            for part in self._parts(int(start), int(start) + length):
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
            starts = self._shard(index).document_starts + self.starts[index]
            found.append(starts[np.searchsorted(starts, start) : np.searchsorted(starts, stop)])
        return np.unique(np.concatenate(found))

    def verify(self) -> None:
        """Check every byte. Raises ``ValueError`` naming the file that is damaged."""
        for index, entry in enumerate(self.entries):
            path = self.directory / f"{entry['name']}.arrow"
            if _file_facts(path)["xxh3"] != entry["arrow"]["xxh3"]:
                raise ValueError(f"{path}: altered since it was written (its checksum does not match)")
            shard = self._shard(index)
            for batch in range(shard.num_batches):
                shard.batch(batch)

    def _parts(self, start: int, stop: int) -> list[Ids]:
        """Views of consecutive stretches, each within one record batch."""
        parts = []
        while start < stop:
            index = int(np.searchsorted(self.starts, start, side="right")) - 1
            within = start - int(self.starts[index])
            batch, offset = divmod(within, BATCH_TOKENS)
            part = self._shard(index).batch(batch)[offset : offset + stop - start]
            parts.append(part)
            start += len(part)
        return parts

    def _shard(self, index: int) -> _Shard:
        shard = self.open_shards.get(index)
        if shard is None:
            shard = _Shard(self.directory, self.entries[index], self.dtype)
            self.open_shards[index] = shard
            if len(self.open_shards) > MAX_OPEN_SHARDS:
                self.open_shards.popitem(last=False)
        else:
            self.open_shards.move_to_end(index)
        return shard


class _Shard:
    """One mapped shard file; a batch is verified before its first use."""

    def __init__(self, directory: Path, entry: Mapping[str, Any], dtype: np.dtype[Any]) -> None:
        self.path = directory / f"{entry['name']}.arrow"
        sidecar_path = directory / f"{entry['name']}.json"
        data = sidecar_path.read_bytes()
        if xxhash.xxh3_64_hexdigest(data) != entry["sidecar"]["xxh3"]:
            raise ValueError(f"{sidecar_path}: altered since it was written (its checksum does not match)")
        sidecar = json.loads(data)
        self.table: list[list[Any]] = sidecar["batches"]
        self.document_starts = np.array(sidecar["document_starts"], dtype=np.int64)
        self.dtype = dtype
        _check_size(self.path, entry["arrow"])
        self.mapped = np.memmap(self.path, dtype=np.uint8, mode="r")
        self.verified: dict[int, Ids] = {}

    @property
    def num_batches(self) -> int:
        return len(self.table)

    def batch(self, index: int) -> Ids:
        """The tokens of a record batch, a view of the mapped file."""
        tokens = self.verified.get(index)
        if tokens is None:
            offset, num_bytes, checksum = self.table[index]
            data = self.mapped[offset : offset + num_bytes]
            if xxhash.xxh3_64_hexdigest(data.data) != checksum:
                raise ValueError(f"{self.path}: record batch {index} was altered since it was written")
            tokens = self.verified[index] = data.view(self.dtype)
        return tokens


def _batch_table(path: Path) -> list[list[Any]]:
    """[offset, bytes, xxh3] of each record batch's values in the Arrow file at ``path``."""
    with pa.memory_map(str(path)) as source:
        base = source.read_buffer(source.size()).address
        source.seek(0)
        reader = pa.ipc.open_file(source)
        table = []
        for index in range(reader.num_record_batches):
            values = reader.get_batch(index).column(0).to_numpy()
            offset = values.__array_interface__["data"][0] - base
            table.append([offset, values.nbytes, xxhash.xxh3_64_hexdigest(values)])
            del values
    return table


def _file_facts(path: Path) -> dict[str, Any]:
    digest = xxhash.xxh3_64()
    num_bytes = 0
    with path.open("rb") as stream:
        while block := stream.read(1 << 22):
            digest.update(block)
            num_bytes += len(block)
    return {"bytes": num_bytes, "xxh3": digest.hexdigest()}


def _check_size(path: Path, facts: Mapping[str, Any]) -> None:
    try:
        found = path.stat().st_size
    except FileNotFoundError:
        raise ValueError(f"{path}: missing from the prepared corpus") from None
    if found != facts["bytes"]:
        raise ValueError(f"{path}: {found:,} bytes where the manifest says {facts['bytes']:,}")


def _content_checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()

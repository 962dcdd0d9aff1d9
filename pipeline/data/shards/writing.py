"""Token ids in, a shard and its sidecar out: written locally, moved or uploaded when complete."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from pipeline import storage
from pipeline.data.shards.sidecar import Sidecar, sidecar_name
from pipeline.data.tokenizer import Ids
from pipeline.data.tokenizer.base import as_arrow

BATCH_TOKENS = 65_536
ALIGNMENT = 8  # of what Arrow writes for a batch, in bytes
# files of this format, records of what shards were made of, and sidecars of the former format
SHARD_FILE = re.compile(r"(train|valid|test)-\d{5,}\.(arrow|index|sources|json)")
STALE_SECONDS = 600  # far longer than writing one file takes


class ShardWriter:
    """Takes a shard's tokens as they come, so that memory does not grow with the shard; a context manager.

    ``finish`` puts the shard in its place: first the tokens, then the sidecar with ``facts``, so that an interrupted
    preparation knows which shards are done. If the context ends without ``finish``, nothing is left.

    Raises:
        UnwritableError: the disk is full, or the folder is gone.
    """

    def __init__(self, directory: str, name: str, dtype: np.dtype[Any]) -> None:
        self.directory, self.name, self.dtype = str(directory), name, dtype
        folder = tempfile.gettempdir() if storage.is_uri(self.directory) else self.directory
        self.temporary = Path(folder) / f".{name}.{os.getpid()}.tmp"
        self.schema = pa.schema([pa.field("token", pa.from_numpy_dtype(dtype), nullable=False)])
        self.batch = np.empty(BATCH_TOKENS, dtype=dtype)  # its first ``num_waiting`` tokens wait for the others
        self.num_waiting = 0
        self.num_tokens = 0
        self.document_starts: list[Ids] = []
        self.batches: list[list[Any]] = []  # offset, bytes and xxh3 of each batch's values in the file
        with self._telling():
            self.sink = HashedFile(self.temporary)
            self.writer = pa.ipc.new_file(self.sink, self.schema)

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self.sink.closed:
            # each writes what it still holds, for which there may be no room
            for part in (self.writer, self.sink):
                with suppress(OSError):
                    part.close()
        self.temporary.unlink(missing_ok=True)

    def append(self, ids: Ids, document_starts: Ids | Sequence[int]) -> None:
        """Add tokens; documents begin at ``document_starts`` in ``ids``."""
        self.document_starts.append(np.asarray(document_starts, dtype=np.int64) + self.num_tokens)
        self.num_tokens += len(ids)
        start = 0
        with self._telling():
            while start < len(ids):
                part = ids[start : start + BATCH_TOKENS - self.num_waiting]
                start += len(part)
                if len(part) == BATCH_TOKENS:
                    self._write(part)
                    continue
                self.batch[self.num_waiting : self.num_waiting + len(part)] = part
                self.num_waiting += len(part)
                if self.num_waiting == BATCH_TOKENS:
                    self._write_waiting()

    def _write_waiting(self) -> None:
        self._write(self.batch[: self.num_waiting])
        self.num_waiting = 0

    def _write(self, part: Ids) -> None:
        self.writer.write_batch(pa.record_batch([as_arrow(part)], schema=self.schema))
        # the values come last in what a batch writes
        offset = self.sink.tell() - -(-part.nbytes // ALIGNMENT) * ALIGNMENT
        self.batches.append([offset, part.nbytes, xxhash.xxh3_64_hexdigest(part.data)])

    def finish(self, facts: Mapping[str, Any], *, before_sidecar: Callable[[], None] = lambda: None) -> dict[str, Any]:
        """Write the rest and put both files in place; return the manifest's entry, with the plain ``facts``."""
        with self._telling():
            if self.num_waiting:
                self._write_waiting()
            self.writer.close()
            self.sink.close()
        starts = np.concatenate([np.zeros(0, dtype=np.int64), *self.document_starts])
        entry = {
            "name": self.name,
            "num_tokens": self.num_tokens,
            "num_documents": len(starts),
            "arrow": self.sink.facts,
        }
        storage.upload(self.temporary, storage.join(self.directory, f"{self.name}.arrow"))
        before_sidecar()
        sidecar = Sidecar.of({**facts, "entry": entry, "batches": self.batches}, starts)
        storage.write(storage.join(self.directory, sidecar_name(self.name)), sidecar.to_bytes())
        return sidecar.shard_entry

    def _telling(self) -> Any:
        return storage.telling_of_writes(storage.join(self.directory, f"{self.name}.arrow"), self.temporary)


class HashedFile:
    """A new file that Arrow adds to; its size and checksum are known without reading it again."""

    def __init__(self, path: Path) -> None:
        self.stream = path.open("wb")
        self.digest = xxhash.xxh3_64()
        self.num_bytes = 0

    @property
    def closed(self) -> bool:
        return self.stream.closed

    @property
    def facts(self) -> dict[str, Any]:
        return {"bytes": self.num_bytes, "xxh3": self.digest.hexdigest()}

    def write(self, data: Any) -> None:
        self.stream.write(data)
        self.digest.update(data)
        self.num_bytes += len(data)

    def tell(self) -> int:
        return self.num_bytes

    def flush(self) -> None:
        self.stream.flush()

    def close(self) -> None:
        self.stream.close()


def write_shard(
    directory: str, name: str, tokens: Ids, document_starts: Sequence[int], facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Write a whole shard at once, as ``ShardWriter`` does."""
    with ShardWriter(directory, name, tokens.dtype) as writer:
        writer.append(tokens, document_starts)
        return writer.finish(facts)


def read_sidecar(directory: str, name: str) -> Sidecar | None:
    """The sidecar of a finished shard whose tokens are still as they were written; None otherwise.

    In a bucket only the size is checked: an object is complete or absent.
    """
    path = storage.join(str(directory), f"{name}.arrow")
    try:
        sidecar = Sidecar.from_bytes(storage.read(storage.join(str(directory), sidecar_name(name))))
        wanted = sidecar.facts["entry"]["arrow"]
        is_whole = storage.size(path) == wanted["bytes"] if storage.is_uri(path) else file_facts(Path(path)) == wanted
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return sidecar if is_whole else None


def remove_leftovers(directory: str, shards: Container[str]) -> None:
    """Remove what earlier, interrupted preparations left: shards with other names, files never finished."""
    names = storage.sizes_in(directory)
    unfinished = [name for name in names if name.startswith(".") and name.endswith(".tmp")]
    # a worker of another driver may still be writing one just now
    oldest = _file_system_time(directory) - STALE_SECONDS if unfinished else 0.0
    for name in names:
        path = storage.join(directory, name)
        is_other = SHARD_FILE.fullmatch(name) is not None and name.partition(".")[0] not in shards
        if is_other or (name in unfinished and storage.modified(path) < oldest):
            storage.remove(path)


def _file_system_time(directory: str) -> float:
    """The time at which the file system of a local ``directory`` stamps a file now, by its own clock. 0: unknown."""
    try:
        with tempfile.TemporaryFile(dir=directory) as probe:
            return os.fstat(probe.fileno()).st_mtime
    except OSError:
        return 0.0


def file_facts(path: Path) -> dict[str, Any]:
    """Size and checksum of a local file."""
    digest = xxhash.xxh3_64()
    num_bytes = 0
    with path.open("rb") as stream:
        while block := stream.read(1 << 22):
            digest.update(block)
            num_bytes += len(block)
    return {"bytes": num_bytes, "xxh3": digest.hexdigest()}

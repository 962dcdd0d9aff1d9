"""Record batches of shards in an object store: one ranged read each, many at once, the last ones kept."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from pipeline.data.tokenizer import Ids

NUM_READERS = 16
CACHE_BYTES = 256 << 20

Key = tuple[int, int]  # shard, batch


class BatchCache:
    """Batches by (shard, batch), read by threads and kept up to ``CACHE_BYTES``; the least recently used go first."""

    def __init__(self, read: Callable[[Key], Ids], *, capacity_bytes: int = CACHE_BYTES) -> None:
        self.read = read
        self.capacity_bytes = capacity_bytes
        self.num_bytes = 0
        self.futures: OrderedDict[Key, Future[Ids]] = OrderedDict()
        self.lock = threading.Lock()
        self.readers = ThreadPoolExecutor(NUM_READERS, thread_name_prefix="shard-reader")

    def __getstate__(self) -> dict[str, Any]:
        raise TypeError("a cache of shards stays in its process; open the corpus there")

    def ask(self, keys: Sequence[Key]) -> None:
        """Begin to read those ``keys`` that are not there yet."""
        with self.lock:
            for key in keys:
                self._ask(key)

    def _ask(self, key: Key) -> Future[Ids]:
        future = self.futures.get(key)
        if future is None:
            future = self.futures[key] = self.readers.submit(self._read, key)
        return future

    def get(self, key: Key) -> Ids:
        """Return a batch, waiting for it if it is on its way. Raises ``UserError`` as ``read``."""
        with self.lock:
            future = self._ask(key)
            self.futures.move_to_end(key)
        try:
            return future.result()
        except Exception:
            with self.lock:
                self.futures.pop(key, None)
            raise

    def _read(self, key: Key) -> Ids:
        batch = self.read(key)
        with self.lock:
            self.num_bytes += batch.nbytes
            for old in list(self.futures):
                if self.num_bytes <= self.capacity_bytes:
                    break
                future = self.futures[old]
                if old != key and future.done() and not future.exception():
                    self.num_bytes -= future.result().nbytes
                    del self.futures[old]
        return batch

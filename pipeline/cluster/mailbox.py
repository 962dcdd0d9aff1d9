"""Records that a worker leaves for its driver in Ray's own store while they cannot be written to the disk."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress

from pipeline.cluster import store
from pipeline.training.monitor import Record

MAILBOX, MAILBOX_RECORDS = "recurray-records-", 20


def mailbox(owner: str) -> Callable[[Record], None]:
    """Return a function that leaves a record for the driver ``owner``.

    It keeps the last ones and, of consecutive ``train`` records, which come by the hundred, only the very last.
    """
    kept: deque[Record] = deque(maxlen=MAILBOX_RECORDS)

    def leave(record: Record) -> None:
        if kept and kept[-1]["kind"] == record["kind"] == "train":
            kept.pop()
        kept.append(record)
        with suppress(Exception):  # Ray is about to end or lose this worker: do not add an error to that
            store.put(MAILBOX + owner, list(kept))

    return leave


def read_mailbox(owner: str) -> list[Record]:
    """The last records that a worker left there; none if this process has no access to Ray's store."""
    return store.get(MAILBOX + owner) or [] if store.is_there() else []


def take_mailbox(owner: str) -> list[Record]:
    """Return what ``read_mailbox`` returns, and remove it from the cluster."""
    found = read_mailbox(owner)
    if found:
        store.delete(MAILBOX + owner)
    return found

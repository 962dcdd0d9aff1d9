"""A search that is asked to stop at a moment that its journal names, however fast its trials are."""

import signal
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from pipeline.search.journal import Journal


def interrupting(monkeypatch: pytest.MonkeyPatch, signum: int, *, after: list[str]) -> None:
    """Send this process ``signum`` once the journal of its search has records of these kinds, in this order.

    Until the request to stop is there, nothing is decided and no trial goes past its next validation.
    """
    append, left = Journal.append, list(after)

    def append_and_interrupt(journal: Journal, *records: Mapping[str, Any]) -> None:
        append(journal, *records)
        for record in records:
            if left and record["kind"] == left[0]:
                del left[0]
                if not left:
                    signal.raise_signal(signum)
                    wait_until(journal.directory.stop_requested)

    monkeypatch.setattr(Journal, "append", append_and_interrupt)


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)

"""What the ranks of a trial and the process of its search say to each other, through Ray's own key-value store.

rank 0 validates → ``ask`` puts the figures there and waits → the search's process takes them, decides → ``answer``
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from pipeline.cluster import store

POLL_SECONDS = 0.02
LOOK_SECONDS = 0.5  # how often a rank checks during training whether it is to leave


class Exchange:
    """Messages about one leg of a trial, which ``name`` identifies."""

    def __init__(self, name: str) -> None:
        self.asked, self.answered = f"recurray-asked-{name}", f"recurray-answered-{name}"
        self._looked = 0.0

    def ask(self, figures: dict[str, Any]) -> bool:
        """Report ``figures`` as rank 0, wait for the answer and return whether to leave."""
        store.put(self.asked, figures)
        while True:
            answer = store.get(self.answered)
            if answer is not None and (answer["leave"] or answer["tokens"] == figures["tokens"]):
                return answer["leave"]
            time.sleep(POLL_SECONDS)

    def is_to_leave(self) -> bool:
        """Whether the trial was told to leave, checked now and then: ranks may have been lost before they heard it."""
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return False
        self._looked = now
        answer = store.get(self.answered)
        return answer is not None and answer["leave"]

    def answer(self, *, tokens: int, leave: bool) -> None:
        store.put(self.answered, {"tokens": tokens, "leave": leave})

    def serve(self, report: Callable[[dict[str, Any]], None], *, is_over: Callable[[], bool]) -> None:
        """Pass what is asked to ``report``, and its answer back, until ``is_over``.

        Raises:
            BaseException: what ``report`` raised, after the ranks were told to leave.
        """
        last: int | None = None
        while not is_over():
            figures = store.get(self.asked)
            if figures is None or figures["tokens"] == last:
                time.sleep(POLL_SECONDS)
                continue
            last = figures["tokens"]
            try:
                report(figures)
            except BaseException:
                self.answer(tokens=figures["tokens"], leave=True)
                raise
            self.answer(tokens=figures["tokens"], leave=False)

    def close(self) -> None:
        """Delete these messages from the store."""
        for key in (self.asked, self.answered):
            store.delete(key)

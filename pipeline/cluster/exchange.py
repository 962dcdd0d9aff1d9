"""What the ranks of a trial and the process of its search say to each other, in Ray's own store of keys and values.

rank 0 validates → ``ask`` puts the figures there and waits → the search's process takes them, decides → ``answer``
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from ray.experimental import internal_kv

POLL_SECONDS = 0.02
LOOK_SECONDS = 0.5  # how often a rank that trains looks whether it is to leave


class Exchange:
    """Messages about one leg of a trial; ``name`` is its own."""

    def __init__(self, name: str) -> None:
        self.asked, self.answered = f"recurray-asked-{name}", f"recurray-answered-{name}"
        self._looked = 0.0

    def ask(self, figures: dict[str, Any]) -> bool:
        """Report ``figures`` as rank 0; whether to leave. Waits for the answer."""
        internal_kv._internal_kv_put(self.asked, json.dumps(figures))
        while True:
            answer = self._read(self.answered)
            if answer is not None and (answer["leave"] or answer["tokens"] == figures["tokens"]):
                return answer["leave"]
            time.sleep(POLL_SECONDS)

    def is_to_leave(self) -> bool:
        """Whether the trial was told to leave, as seen now and then: its ranks may have been lost before they heard."""
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return False
        self._looked = now
        answer = self._read(self.answered)
        return answer is not None and answer["leave"]

    def answer(self, *, tokens: int, leave: bool) -> None:
        internal_kv._internal_kv_put(self.answered, json.dumps({"tokens": tokens, "leave": leave}))

    def serve(self, report: Callable[[dict[str, Any]], None], *, is_over: Callable[[], bool]) -> None:
        """Pass what is asked to ``report``, and its answer back, until ``is_over``.

        Raises:
            BaseException: what ``report`` raised, after the ranks were told to leave.
        """
        last: int | None = None
        while not is_over():
            figures = self._read(self.asked)
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
        """Nothing of it stays in the cluster."""
        for key in (self.asked, self.answered):
            internal_kv._internal_kv_del(key)

    def _read(self, key: str) -> Any:
        found = internal_kv._internal_kv_get(key)
        return None if found is None else json.loads(found)

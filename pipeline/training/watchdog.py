"""Ends this process when it makes no step for too long, saying where each of its threads stood.

A hung worker cannot be relied upon to run Python code, so the timer is ``faulthandler``'s own, which needs no
interpreter. Whoever started the process finds it dead and starts it again.
"""

from __future__ import annotations

import faulthandler
import time
from contextlib import suppress
from pathlib import Path

# setting the timer starts a thread: not after each of a thousand small steps a second
SET_AGAIN_SECONDS = 0.5


class Watchdog:
    """Ends the process ``seconds`` (to within half a second) after the last ``step``, unless at ``rest``."""

    def __init__(self, seconds: float, report: Path) -> None:
        """The stacks of all threads go to the file ``report``, which stays empty as long as all is well."""
        self.seconds = seconds
        self.report = report.open("w")
        self.set_at: float | None = None

    def step(self) -> None:
        """Note that the process is alive and about to make a step."""
        now = time.monotonic()
        if self.set_at is None or now - self.set_at >= min(SET_AGAIN_SECONDS, self.seconds / 10):
            faulthandler.dump_traceback_later(self.seconds + SET_AGAIN_SECONDS, exit=True, file=self.report)
            self.set_at = now

    def rest(self) -> None:
        """Stop the timer: what comes next is not a step, and may take its time."""
        faulthandler.cancel_dump_traceback_later()
        self.set_at = None

    def close(self) -> None:
        self.rest()
        with suppress(OSError):  # nothing here may hide the error that ended the run
            self.report.close()
            Path(self.report.name).unlink(missing_ok=True)

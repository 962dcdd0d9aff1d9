"""Where the time of training steps goes: data, forward, backward, communication, optimizer.

Marks cut the time of a worker into phases without a gap. On a CPU a mark reads the clock; on a GPU it records an event
on the stream, which is read only at the next line of the record: nothing here waits for the device.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

PHASES = ("data", "forward", "backward", "communication", "optimizer")

# how many events on a GPU may wait to be read; beyond that, those that have passed are read
MOST_EVENTS = 2000


class StepTimes:
    """Sums of the phases of steps; ``start`` begins a step, ``mark`` ends a phase of it."""

    def __init__(self, device: torch.device) -> None:
        self.on_gpu = device.type == "cuda"
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self.num_steps = 0
        self.last: float | None = None  # time of the last mark on a CPU; None: not within a step
        self.events: list[tuple[str, Any]] = []  # on a GPU: phases, with the events that end them
        self.free: list[Any] = []

    def start(self) -> None:
        """Begin a step: the phase that the next mark names runs from here."""
        self.num_steps += 1
        if self.on_gpu:
            self._record("")
        else:
            self.last = time.perf_counter()

    def mark(self, phase: str) -> None:
        """Count all time since the last mark or start as ``phase``; does nothing outside a step."""
        if self.on_gpu:
            if self.events:
                self._record(phase)
        elif self.last is not None:
            now = time.perf_counter()
            self.seconds[phase] += now - self.last
            self.last = now

    def _record(self, phase: str) -> None:
        import torch  # not above: processes without torch use the phases alone

        event = self.free.pop() if self.free else torch.cuda.Event(enable_timing=True)
        event.record()
        self.events.append((phase, event))
        if len(self.events) > MOST_EVENTS:
            self._read()

    def _read(self) -> None:
        """Add up the phases that have ended on the device."""
        num_read = 0
        for (_, begin), (phase, end) in zip(self.events, self.events[1:], strict=False):
            if not end.query():
                break
            if phase:
                self.seconds[phase] += begin.elapsed_time(end) / 1000
            num_read += 1
        self.free += [event for _, event in self.events[:num_read]]
        del self.events[:num_read]

    def take(self) -> dict[str, float]:
        """Return mean milliseconds of each phase of a step since the last call, as ``<phase>_ms``; ends the step."""
        if self.events:
            self.events[-1][1].synchronize()
            self._read()
        means = {f"{phase}_ms": 1000 * total / max(1, self.num_steps) for phase, total in self.seconds.items()}
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self.num_steps, self.last = 0, None
        return means

"""What the engine of a search says to do next: ``Run`` a trial, ``Wait``, or ``End``."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.search.standing import Trial


@dataclass(frozen=True)
class Run:
    """Run ``trial`` from where it is (``trial.tokens`` at least), until it is told to pause or stop, or ends."""

    trial: Trial


@dataclass(frozen=True)
class Wait:
    """Nothing can begin until a running trial reports or ends."""


@dataclass(frozen=True)
class End:
    """Nothing runs and nothing is left to do; ``reason`` says why, if more could have been done."""

    reason: str = ""


Action = Run | Wait | End

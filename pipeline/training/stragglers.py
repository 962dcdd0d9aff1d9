"""A straggler is a rank that the others wait for; it is found by the time that each takes for its own part of a step.

Its own part is what a rank does before gradients are exchanged. Slowness there shows up on all other ranks as
communication; only a comparison of the ranks tells which one it is.
"""

from __future__ import annotations

import socket
import statistics
from collections.abc import Mapping, Sequence

from pipeline.metrics import all_reduce_sum

OWN_PHASES = ("data", "forward", "backward")

# a rank is a straggler if it takes this many times as long as the median of the others
RATIO = 1.5
# ranks are judged once the slowest has worked for this long: over a few short steps any rank may be late
LEAST_SECONDS = 1.0
NAME_BYTES = 64


class Stragglers:
    """Compares the ranks of a run; every rank has one and calls it at the same steps."""

    def __init__(self, rank: int, world_size: int) -> None:
        self.rank = rank
        self.seconds = [0.0] * world_size  # of each rank since they were last judged
        self.late: set[int] = set()  # those that have been reported and have not recovered since

    def look(self, own_seconds: float) -> tuple[dict[str, float], list[str]]:
        """Figures of an interval in which this rank's own part took ``own_seconds``; a sentence for each new straggler.

        A straggler is reported once, until it has kept up again. All ranks return the same.
        """
        taken = all_reduce_sum([own_seconds if rank == self.rank else 0.0 for rank in range(len(self.seconds))])
        ratio, slowest = max(zip(ratios(taken), range(len(taken)), strict=True))
        figures = {"slowest_worker": slowest, "slowest_ratio": ratio}
        self.seconds = [sum(pair) for pair in zip(self.seconds, taken, strict=True)]
        if max(self.seconds) < LEAST_SECONDS:
            return figures, []
        late = {rank: ratio for rank, ratio in enumerate(ratios(self.seconds)) if ratio >= RATIO}
        new = sorted(late.keys() - self.late)
        self.seconds, self.late = [0.0] * len(self.seconds), set(late)
        return figures, [
            f"worker {rank} on {self.host_of(rank)} takes {late[rank]:.1f} times as long as the others for its part of "
            "a step: they wait for it"
            for rank in new
        ]

    def host_of(self, rank: int) -> str:
        """The name of the machine that ``rank`` runs on. All ranks call it."""
        own = socket.gethostname().encode()[:NAME_BYTES].ljust(NAME_BYTES, b"\0")
        name = all_reduce_sum(list(own) if rank == self.rank else [0] * NAME_BYTES)
        return bytes(map(int, name)).rstrip(b"\0").decode(errors="replace")


def own_seconds(times: Mapping[str, float], num_steps: int) -> float:
    """Return the seconds of ``num_steps`` steps with the mean ``times`` that ``StepTimes.take`` returns."""
    return num_steps * sum(times[f"{phase}_ms"] for phase in OWN_PHASES) / 1000


def ratios(seconds: Sequence[float]) -> list[float]:
    """Divide each of ``seconds`` by the median of the others."""
    others = [[*seconds[:rank], *seconds[rank + 1 :]] for rank in range(len(seconds))]
    return [own / max(statistics.median(rest), 1e-9) for own, rest in zip(seconds, others, strict=True)]

"""The share of a grid's tokens that a search needs to come near the grid's best, replayed over many seeds.

    python benchmarks/search.py                          # 500 seeds, 4 trials at a time, all sides
    python benchmarks/search.py --seeds 20 --sides ours ray-asha --slots 1

``search_grid.py`` has recorded 64 trials on the characters of War and Peace. Here a trial reads its recorded losses
instead of training: it reports them at the recorded tokens, and after the time that the work would take, ``--slots``
trials at a time. A replay ends when a trial trained to its full budget is within 2 % of the grid's best perplexity, and
counts the tokens that all trials have taken until then. All sides have the same rungs (a ninth and a third of the
budget, unless ``--factor`` says otherwise) and get the same reports.

    ours            the engine that drives ``jobs.search``: tpe and asha
    ours-random     the same with random draws
    ray-asha        Ray's own ASHAScheduler, which gets each result as it does from Ray, with random draws
    optuna          Optuna's defaults (TPESampler) with its HyperbandPruner, through ask and tell
    random          random draws, each trained to its end
"""

from __future__ import annotations

import argparse
import heapq
import json
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from search_grid import BUDGET, CURVES, POINTS, SETTINGS, recorded
from search_sides import NUM_TRIALS, PATHS, SIDES, Side

TOLERANCE = 1.02
BATCH_SIZE, EMBEDDING_SIZE = SETTINGS["train.batch_size"], SETTINGS["model.embedding_size"]
GRID_TOKENS = NUM_TRIALS * BUDGET
RESAMPLES = 4000


@dataclass(frozen=True)
class Recording:
    """The recorded trials: settings → losses at ``POINTS`` (fewer: the trial was lost there)."""

    losses: Mapping[tuple[Any, ...], Sequence[float]]

    @property
    def goal(self) -> float:
        """The final loss that is near enough to the best."""
        return min(losses[-1] for losses in self.losses.values() if len(losses) == len(POINTS)) + float(
            np.log(TOLERANCE)
        )


@dataclass
class Running:
    settings: tuple[Any, ...]
    point: int  # the next of POINTS
    since: float = 0.0


@dataclass
class Replay:
    """One search on a virtual clock."""

    recording: Recording
    side: Side
    slots: int
    now: float = 0.0
    tokens: int = 0
    running: dict[str, Running] = field(default_factory=dict)
    events: list[tuple[float, int, str]] = field(default_factory=list)
    counter: int = 0

    def run(self, goal: float) -> float | None:
        """Tokens until a whole trial has a loss of at most ``goal``; None: the search ended before that."""
        while True:
            while len(self.running) < self.slots and (began := self.side.begin(self.slots - len(self.running))):
                name, settings, point = began
                self.running[name] = Running(settings, point)
                self.schedule(name)
            if not self.events:
                return None
            self.now, _, name = heapq.heappop(self.events)
            if self.advance(name) <= goal:
                return self.tokens + sum(map(self.under_way, self.running.values()))

    def schedule(self, name: str) -> None:
        running = self.running[name]
        running.since = self.now
        self.counter += 1
        heapq.heappush(self.events, (self.now + self.leg(running)[1], self.counter, name))

    def leg(self, running: Running) -> tuple[int, float]:
        """Tokens and seconds from a trial's last point to its next."""
        tokens = POINTS[running.point] - (POINTS[running.point - 1] if running.point else 0)
        return tokens, tokens * seconds_per_token(running.settings)

    def under_way(self, running: Running) -> float:
        """Tokens since its last point."""
        tokens, seconds = self.leg(running)
        return tokens * min(1.0, (self.now - running.since) / seconds)

    def advance(self, name: str) -> float:
        """Bring a trial to its next point; return its loss, infinite before its end."""
        running = self.running[name]
        self.tokens += self.leg(running)[0]
        losses = self.recording.losses[running.settings]
        if running.point >= len(losses):
            del self.running[name]
            self.side.end(name, lost=True)
            return np.inf
        loss, tokens = losses[running.point], POINTS[running.point]
        running.point += 1
        goes_on = self.side.report(name, tokens, loss)
        if tokens == BUDGET:
            del self.running[name]
            self.side.end(name, lost=False)
            return loss
        if goes_on:
            self.schedule(name)
        else:
            del self.running[name]
        return np.inf


GOALS = {"ray-asha": 0.75, "optuna": 0.85}


def seconds_per_token(settings: tuple[Any, ...]) -> float:
    """Seconds of one core: the products of an LSTM at 30 GFLOP/s, and the overhead of each of its steps.

    The recorded seconds are not used, because the machine was shared with other work.
    """
    _, hidden_size, bptt = settings
    num_products = 4 * hidden_size * (hidden_size + EMBEDDING_SIZE)
    return float(6 * num_products / 30e9 + (2e-3 + 1e-4 * bptt) / (BATCH_SIZE * bptt))


def share_of_grid(recording: Recording, side: str, seed: int, *, slots: int, factor: int) -> float:
    """Tokens to the goal divided by those of the whole grid, which are added if a search ends without reaching it."""
    replay = Replay(recording, SIDES[side](seed, factor), slots)
    tokens = replay.run(recording.goal)
    return (replay.tokens + GRID_TOKENS if tokens is None else tokens) / GRID_TOKENS


def interval(shares: np.ndarray, others: np.ndarray | None = None) -> tuple[float, float]:
    """The 95 % interval of the mean, or of the ratio of two means, from resampled seeds."""
    source = np.random.default_rng(0)
    means = shares[source.integers(len(shares), size=(RESAMPLES, len(shares)))].mean(1)
    if others is not None:
        means = means / others[source.integers(len(others), size=(RESAMPLES, len(others)))].mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def main() -> None:
    arguments = parse()
    warnings.filterwarnings("ignore")
    recording = Recording(recorded(arguments.curves))
    if len(recording.losses) < NUM_TRIALS:
        raise SystemExit(
            f"{arguments.curves} has {len(recording.losses)} of {NUM_TRIALS} trials; search_grid.py records the others"
        )
    near = [key for key, losses in recording.losses.items() if len(losses) == len(POINTS)
            and losses[-1] <= recording.goal]  # fmt: skip
    best = min(recording.losses, key=lambda key: (recording.losses[key] or [np.inf])[-1])
    print(f"{len(recording.losses)} trials; the best, {dict(zip(PATHS, best, strict=True))}, has a perplexity of "
          f"{np.exp(recording.losses[best][-1]):.3f}; within 2 %: {len(near)}")  # fmt: skip
    found: dict[str, np.ndarray] = {}
    for side in arguments.sides:
        started = time.monotonic()
        how = {"slots": arguments.slots, "factor": arguments.factor}
        shares = [share_of_grid(recording, side, seed, **how) for seed in range(arguments.seeds)]
        found[side] = np.array(shares)
        show(side, found[side], time.monotonic() - started)
    for side in found:
        if side != "ours" and "ours" in found:
            low, high = interval(found["ours"], found[side])
            goal = f" (goal: at most {GOALS[side]})" if side in GOALS else ""
            print(f"ours / {side}: {found['ours'].mean() / found[side].mean():.3f}, 95 % {low:.3f} to {high:.3f}{goal}")
    if arguments.output:
        arguments.output.write_text(json.dumps({side: shares.tolist() for side, shares in found.items()}))


def show(side: str, shares: np.ndarray, seconds: float) -> None:
    low, high = interval(shares)
    quartiles = " / ".join(f"{value:.3f}" for value in np.percentile(shares, [25, 50, 75]))
    missed = f", {int((shares >= 1).sum())} took the grid or more" if (shares >= 1).any() else ""
    print(f"{side:<12} mean {shares.mean():.3f} (95 % {low:.3f} to {high:.3f}) of the grid's tokens, "
          f"quartiles {quartiles}{missed}; {seconds:.0f} s", flush=True)  # fmt: skip


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", type=Path, default=CURVES)
    parser.add_argument("--seeds", type=int, default=500)
    parser.add_argument("--slots", type=int, default=4, help="trials at a time")
    parser.add_argument("--factor", type=int, default=3, help="reduction factor of all sides")
    parser.add_argument("--sides", nargs="*", choices=SIDES, default=list(SIDES))
    parser.add_argument("--output", type=Path, help="the shares of all seeds as JSON")
    return parser.parse_args()


if __name__ == "__main__":
    main()

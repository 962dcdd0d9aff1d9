"""Variants of one thing, each in its own process, run in turns, so that a noisy machine affects all of them alike.

A benchmark starts its own file once for each variant (``--worker NAME``) and asks it for one round after another: a
line on the worker's standard input asks, a line of JSON on its standard output answers.
"""

from __future__ import annotations

import json
import math
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

Rounds = list[tuple[float, float]]  # seconds and value (a loss, say) of each round


def serve(round_of: Callable[[], float], *, clock: Callable[[], float] = time.perf_counter) -> None:
    """The worker's side: run ``round_of`` once for each line of standard input, answer with its seconds and value.

    Args:
        clock: what measures the seconds; ``time.process_time`` on a busy machine.
    """
    for _ in sys.stdin:
        started = clock()
        value = round_of()
        print(json.dumps([clock() - started, value]), flush=True)


def pauses() -> Callable[..., None]:
    """The worker's side of a program that cannot be called in parts: it calls the result at the end of each round."""
    started: float | None = None

    def pause(*_: object) -> None:
        nonlocal started
        if started is not None:
            print(json.dumps([time.perf_counter() - started, 0.0]), flush=True)
        if not sys.stdin.readline():
            raise SystemExit
        started = time.perf_counter()

    return pause


def take_turns(
    script: str, arguments: Sequence[str], names: Sequence[str], *, rounds: int, warm_up: int
) -> dict[str, Rounds]:
    """``rounds`` of each of the variants ``names`` of ``script``, after ``warm_up`` that are not kept."""
    commands = {name: [sys.executable, script, *arguments, "--worker", name] for name in names}
    return in_turns(commands, rounds=rounds, warm_up=warm_up)


def in_turns(
    commands: Mapping[str, Sequence[str]], *, rounds: int, warm_up: int,
    environments: Mapping[str, Mapping[str, str]] | None = None,
) -> dict[str, Rounds]:  # fmt: skip
    """The same for workers that are started by ``commands``, each in its own environment if there are any."""
    processes: dict[str, Any] = {}
    for name, command in commands.items():
        environment = environments[name] if environments else None
        processes[name] = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
    results: dict[str, Rounds] = {name: [] for name in commands}
    try:
        for index in range(warm_up + rounds):
            for name, process in processes.items():
                answer = asked(process)
                if not answer:
                    raise SystemExit(f"the process of {name} ended; see its message above")
                if index >= warm_up:
                    results[name].append(tuple(json.loads(answer)))
    finally:
        for process in processes.values():
            with suppress(BrokenPipeError):
                process.stdin.close()
            process.wait()
    return results


def asked(process: Any) -> str:
    """The answer of a worker that is asked for a round; empty if it has ended."""
    with suppress(BrokenPipeError):
        process.stdin.write("\n")
        process.stdin.flush()
    return str(process.stdout.readline())


def median_seconds(rounds: Rounds) -> float:
    """The median time of a round."""
    return statistics.median(seconds for seconds, _ in rounds)


def median_ratio(one: Rounds, other: Rounds) -> float:
    """The median over rounds of the seconds of ``one`` over those of ``other`` in the same round.

    Whatever the machine is busy with slows both runs of a round.
    """
    return statistics.median(a / b for (a, _), (b, _) in zip(one, other, strict=True))


def times_as_fast(now: Rounds, before: Rounds) -> tuple[float, float, float]:
    """How many times as fast ``now`` is: by the medians, by the fastest rounds, and by ``median_ratio``."""
    return median_seconds(before) / median_seconds(now), min(before)[0] / min(now)[0], median_ratio(before, now)


def check_values(one: Rounds, other: Rounds, *, within: float) -> None:
    """Print how far the values of two variants are apart at most; end the benchmark if that is not ``within``."""
    apart = [abs(a - b) for (_, a), (_, b) in zip(one, other, strict=True)]
    furthest = math.nan if any(map(math.isnan, apart)) else max(apart)  # max alone may pass over a nan
    print(f"the losses of both differ by at most {furthest:.1e}")
    if not furthest <= within:
        raise SystemExit(f"losses that differ by more than {within:.0e}: the two do not compute the same")


def cpu_name() -> str:
    """The system's name for the processor."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text(encoding="utf-8").splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()

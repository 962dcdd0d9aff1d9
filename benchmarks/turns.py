"""Variants of one thing, each in its own process, run in turns, so that a noisy machine affects all of them alike.

A benchmark starts its own file once for each variant (``--worker NAME``) and asks it for one round after another: a
line on the worker's standard input asks, a line of JSON on its standard output answers.
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
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
    processes: dict[str, Any] = {}
    for name in names:
        command = [sys.executable, script, *arguments, "--worker", name]
        processes[name] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    results: dict[str, Rounds] = {name: [] for name in names}
    try:
        for index in range(warm_up + rounds):
            for name, process in processes.items():
                process.stdin.write("\n")
                process.stdin.flush()
                answer = process.stdout.readline()
                if not answer:
                    raise SystemExit(f"the process of {name} ended; see its message above")
                if index >= warm_up:
                    results[name].append(tuple(json.loads(answer)))
    finally:
        for process in processes.values():
            process.stdin.close()
            process.wait()
    return results


def median_seconds(rounds: Rounds) -> float:
    """The median time of a round."""
    return statistics.median(seconds for seconds, _ in rounds)


def cpu_name() -> str:
    """The system's name for the processor."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text(encoding="utf-8").splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()

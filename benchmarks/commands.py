"""Training commands in the background: started, watched through the record that they write, stopped or killed."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.training.monitor import Record, read

PATIENCE_SECONDS = 180


class Command:
    """A training command in the background, with all processes that it starts."""

    def __init__(self, arguments: list[str], run_directory: Path) -> None:
        self.metrics = run_directory / "metrics.jsonl"
        self.log = run_directory.with_suffix(".log")
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                arguments, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"}
            )

    def wait_for(self, what: Callable[[Record], bool]) -> Record:
        """Wait for the first record for which ``what`` holds, and return it."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            for record in read(self.metrics):
                if what(record):
                    return record
            time.sleep(0.05)
        raise SystemExit(f"{' '.join(self.process.args)}: ended or took too long\n{self.log.read_text()}")  # type: ignore[arg-type]

    def tree(self) -> list[int]:
        """Ids of the command's process and all its descendants."""
        listed = subprocess.run(["ps", "-eo", "pid,ppid"], check=True, capture_output=True, text=True).stdout
        children: dict[int, list[int]] = {}
        for line in listed.splitlines()[1:]:
            pid, parent = map(int, line.split())
            children.setdefault(parent, []).append(pid)
        found = [self.process.pid]
        for pid in found:
            found += children.get(pid, [])
        return found

    def signal_all(self, number: int) -> None:
        for pid in self.tree():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    def end(self) -> None:
        """Ask it to stop, and wait until it has."""
        self.signal_all(signal.SIGCONT)
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.signal_all(signal.SIGKILL)
            self.process.wait()


@contextmanager
def training(arguments: list[str], run_directory: Path) -> Iterator[Command]:
    """A training command that runs for as long as the ``with`` block."""
    started = Command(arguments, run_directory)
    try:
        yield started
    finally:
        started.end()

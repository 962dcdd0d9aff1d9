"""A job in a process of its own, which tests watch by what its run writes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from pipeline import config as configuration
from pipeline.config import Config
from pipeline.training.monitor import Record, read

PATIENCE_SECONDS = 300


class Command:
    """``jobs.train``, or another job, in a process of its own, and what it has written.

    ``run``: the directory of the run that it trains, within ``run.directory``.
    """

    def __init__(self, config: Config, folder: Path, *, job: str = "train", run: str = ".") -> None:
        file = folder / "config.yaml"
        file.write_text(configuration.to_yaml(config), encoding="utf-8")
        self.run = Path(str(config.run.directory), run)
        self.log = folder / "log.txt"
        self.began = time.time()
        command = [sys.executable, "-m", f"jobs.{job}", "--config", str(file)]
        with self.log.open("w") as log:
            root = Path(__file__).parents[2]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=root, env=dict(os.environ))

    def wait_for(self, what: Callable[[Record], bool]) -> Record:
        """Wait for the first record that ``what`` accepts while the command runs, and return it."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            ended = self.process.poll() is not None
            for record in read(self.run / "metrics.jsonl"):
                if what(record):
                    return record
            assert not ended, self.log.read_text()
            time.sleep(0.1)
        raise AssertionError(f"waited in vain; the log:\n{self.log.read_text()}")

    def finish(self, *, expected_code: int = 0) -> str:
        """Wait for its end; returns its log."""
        code = self.process.wait(timeout=PATIENCE_SECONDS)
        assert code == expected_code, self.log.read_text()
        return self.log.read_text()

    def interrupt(self) -> str:
        """Ctrl-C, and wait for its end; returns its log."""
        self.process.send_signal(signal.SIGINT)
        return self.finish(expected_code=130)

"""Records of a run → a line that moves on a terminal, or a line now and then in a log file."""

from __future__ import annotations

import sys
import time
from typing import Any, TextIO

BAR_WIDTH = 20
LOG_EVERY_SECONDS = 10.0


class Progress:
    """Shows records (see ``monitor``) as they come; ``close`` ends the moving line."""

    def __init__(self, *, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self.is_terminal = self.stream.isatty()
        self.total_steps = 0
        self.moving = False
        self.last_shown = 0.0

    def show(self, record: dict[str, Any]) -> None:
        """Print what ``record`` tells a person."""
        kind = record["kind"]
        if kind == "start":
            self.total_steps = record["total_steps"]
            self._line(start_sentence(record))
        elif kind == "train":
            self._progress(record)
        elif kind == "valid":
            bits = record.get("bits_per_byte")
            shown = f", {bits:.3f} bits per byte" if bits is not None else ""
            best = " (best so far)" if record["best"] else ""
            self._line(
                f"step {record['step']:,}, epoch {record['epoch']:g}: "
                f"validation perplexity {record['perplexity']:,.2f}{shown}{best}"
            )

    def say(self, sentence: str) -> None:
        """Print a sentence between two states of the moving line."""
        self._line(sentence)

    def close(self) -> None:
        if self.moving:
            print(file=self.stream, flush=True)
            self.moving = False

    def _progress(self, record: dict[str, Any]) -> None:
        now = time.monotonic()
        if not self.is_terminal and now - self.last_shown < LOG_EVERY_SECONDS:
            return
        self.last_shown = now
        done = record["step"] / max(1, self.total_steps)
        bar = "█" * round(done * BAR_WIDTH)
        text = (
            f"{done:4.0%} {bar:<{BAR_WIDTH}} step {record['step']:,}/{self.total_steps:,}  loss {record['loss']:.3f}  "
            f"perplexity {record['perplexity']:,.1f}  {record['tokens_per_second']:,.0f} tokens/s  "
            f"{duration(record['seconds_left'])} left"
        )
        if self.is_terminal:
            print(f"\r{text}\x1b[K", end="", file=self.stream, flush=True)
            self.moving = True
        else:
            print(text, file=self.stream, flush=True)

    def _line(self, text: str) -> None:
        clear = "\r\x1b[K" if self.moving else ""
        print(f"{clear}{text}", file=self.stream, flush=True)
        self.moving = False


def start_sentence(record: dict[str, Any]) -> str:
    """What runs where, in one line."""
    workers = record["num_workers"]
    where = f"{workers} worker{'s' if workers > 1 else ''} on {record['device']}"
    threads = f", {record['num_threads']} threads each" if record["device"] == "cpu" else ""
    resumed = f", continuing at step {record['step']:,}" if record["step"] else ""
    return (
        f"training {record['parameters']:,} parameters for {record['total_steps']:,} steps "
        f"of {record['tokens_per_step']:,} tokens: {where}{threads}, {record['precision']}{resumed}"
    )


def duration(seconds: float) -> str:
    """``75`` → ``1:15``; hours where there are any."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"

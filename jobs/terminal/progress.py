"""Show progress: as a bar that tqdm draws on a terminal, or as a line every few seconds in a pipe or a log file."""

from __future__ import annotations

import shutil
import sys
import textwrap
import threading
import time
from typing import Any, TextIO

BAR_WIDTH = 20
LINE_WIDTH = 99
LOG_EVERY_SECONDS, MOVE_EVERY_SECONDS = 10.0, 0.1


class MovingLine:
    """Shows progress: a bar on a terminal, a line every few seconds in a log file."""

    def __init__(self, *, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self.is_terminal = self.stream.isatty()
        self.bar: Any = None
        self.last_shown = -LOG_EVERY_SECONDS

    def move(self, done: float, text: str) -> None:
        """Show ``done``, a share of 1, and ``text``. On a terminal the text is cut off at the margin."""
        now = time.monotonic()
        if self.is_terminal:
            if self.bar is None:
                self.bar = new_bar(self.stream, done, text)
            else:
                self.bar.n, self.bar.ncols = done, columns()
                self.bar.set_description_str(text)
        elif now - self.last_shown >= LOG_EVERY_SECONDS:
            self.last_shown = now
            print(f"{bar(done)} {text}", file=self.stream, flush=True)

    def say(self, sentence: str) -> None:
        """Print a sentence above the moving line."""
        if self.bar is not None:
            self.clear()
        print(sentence, file=self.stream, flush=True)

    def close(self) -> None:
        """Leave the line as it is."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def clear(self) -> None:
        """Take the line away."""
        if self.bar is not None:
            self.bar.leave = False
            self.close()


def bar(done: float) -> str:
    """Return ``done``, a share of 1, in per cent and as a bar."""
    return f"{done:4.0%} {'█' * round(done * BAR_WIDTH):<{BAR_WIDTH}}"


def columns() -> int:
    """Return how wide a bar may be. (tqdm itself draws nothing on a terminal that does not report its size.)"""
    return shutil.get_terminal_size().columns - 1


def new_bar(stream: TextIO, done: float, text: str) -> Any:
    """Return a bar of ``tqdm`` from 0 to 1. It is drawn when it is moved, and tqdm starts no thread."""
    from tqdm import tqdm

    tqdm.monitor_interval = 0
    form = f"{{percentage:3.0f}}% {{bar:{BAR_WIDTH}}} {{desc}}"
    return tqdm(total=1.0, initial=done, desc=text, file=stream, bar_format=form, ncols=columns(), nrows=20)


class ShardProgress(MovingLine):
    """Shows shards as they are prepared."""

    def __init__(self, *, stream: TextIO | None = None) -> None:
        super().__init__(stream=stream)
        self.started = time.monotonic()
        self.num_bytes = 0
        self.new_bytes = self.new_tokens = 0  # without what an earlier sitting has done

    def show(self, entry: dict[str, Any], total_bytes: int) -> None:
        """Add the shard of ``entry`` to what is done of ``total_bytes`` of text."""
        self.num_bytes += entry["source_bytes"]
        if entry.get("is_kept"):
            self.started = time.monotonic()
        else:
            self.new_bytes += entry["source_bytes"]
            self.new_tokens += entry["num_tokens"]
        seconds = max(time.monotonic() - self.started, 1e-9)
        if self.num_bytes >= total_bytes:  # a log file shows the end, however soon it comes
            self.last_shown = -LOG_EVERY_SECONDS
        done = f"prepared {self.num_bytes / 1e6:,.1f} MB"
        if self.new_bytes:
            left = (total_bytes - self.num_bytes) * seconds / self.new_bytes
            speed = f"{self.new_bytes / 1e6 / seconds:,.1f} MB/s  {self.new_tokens / seconds:,.0f} tokens/s"
            done += f"  {speed}  {duration(left)} left"
        self.move(self.num_bytes / max(1, total_bytes), done)
        if self.num_bytes >= total_bytes:
            self.close()


class Count(MovingLine):
    """Shows how much of a known number is done, ``scored 2,048 of 27,000 tokens``, unless it is done at once.

    A context manager: the line disappears when it ends.
    """

    def __init__(self, doing: str, total: int, unit: str, *, stream: TextIO | None = None) -> None:
        super().__init__(stream=stream)
        self.doing = doing
        self.total = total
        self.unit = unit
        self.done = self.kept = 0
        self.started = self.last_shown = self.looked = time.monotonic()

    def expect(self, total: int) -> None:
        """Set how much there is to do, if that is only known once it begins."""
        self.total = total

    def keep(self, number: int) -> None:
        """Add what an earlier sitting has done, which says nothing about the speed of this one."""
        self.done += number
        self.kept += number
        self.started = time.monotonic()

    def add(self, number: int = 1) -> None:
        """Add ``number`` to what is done."""
        self.done += number
        now = time.monotonic()
        if now - self.looked < MOVE_EVERY_SECONDS:
            return
        self.looked = now
        seconds, new = now - self.started, self.done - self.kept
        left = max(0, self.total - self.done) * seconds / max(1, new)
        self.move(
            min(1.0, self.done / max(1, self.total)),
            f"{self.doing} {self.done:,} of {self.total:,} {self.unit}  "
            f"{new / seconds:,.0f} {self.unit}/s  {duration(left)} left",
        )

    def __enter__(self) -> Count:
        return self

    def __exit__(self, *error: object) -> None:
        self.clear()


class RunProgress(MovingLine):
    """Shows records (see ``monitor``) as they come."""

    total_steps = 1

    def show(self, record: dict[str, Any]) -> None:
        """Print what ``record`` says to a person."""
        kind = record["kind"]
        if kind == "start":
            self.total_steps = record["total_steps"]
            self.say(start_sentence(record))
        elif kind in ("warning", "profile", "change"):
            self.say(f"step {record['step']:,}: {record['text']}")
        elif kind == "train":
            self.move(
                record["step"] / self.total_steps,
                f"step {record['step']:,}/{self.total_steps:,}  "
                f"loss {shown(record['loss'], '.3f')}  perplexity {shown(record['perplexity'], ',.1f')}  "
                f"{record['tokens_per_second']:,.0f} tokens/s  {duration(record['seconds_left'])} left",
            )
        elif kind == "valid":
            bits = f", {record['bits_per_byte']:.3f} bits per byte" if record["bits_per_byte"] is not None else ""
            best = " (best so far)" if record["best"] else ""
            self.say(
                f"step {record['step']:,}, epoch {record['epoch']:.2f}: "
                f"validation perplexity {shown(record['perplexity'], ',.2f')}{bits}{best}"
            )


class SeedProgress(RunProgress):
    """Shows one of several runs, which may train side by side, on the ``line`` of all of them."""

    def __init__(self, seed: int, line: MovingLine, lock: threading.Lock) -> None:
        super().__init__(stream=line.stream)
        self.name = f"seed {seed}"
        self.line = line
        self.lock = lock

    def move(self, done: float, text: str) -> None:
        with self.lock:
            self.line.move(done, f"{self.name}  {text}")

    def say(self, sentence: str) -> None:
        with self.lock:
            self.line.say(f"{self.name}: {sentence}")


def shown(value: float | None, form: str) -> str:
    """Return a figure of a record as text; null means that it was not finite."""
    return "not finite" if value is None else format(value, form)


def start_sentence(record: dict[str, Any]) -> str:
    """Return what runs, and below it where and how, in lines that fit a terminal."""
    workers, threads = record["num_workers"], record["num_threads"]
    facts = [
        f"{workers} worker{'s' if workers > 1 else ''} on {record['device']}",
        *([f"{threads} thread{'s' if threads > 1 else ''} each"] if record["device"] == "cpu" else []),
        *exchanged(record),
        products(record),
        *(["gradients of the embedding as rows"] if record["embedding_gradients"] == "rows" else []),
        *([f"continuing at step {record['step']:,}"] if record["step"] else []),
    ]
    what = (
        f"training {record['parameters']:,} parameters for {record['total_steps']:,} steps of "
        f"{record['tokens_per_step']:,} tokens"
    )
    how = f"{', '.join(facts)}; {record['unused']}"
    return "\n".join([what, *textwrap.wrap(how, LINE_WIDTH, initial_indent="  ", subsequent_indent="  ")])


def exchanged(record: dict[str, Any]) -> list[str]:
    """Return how workers average their gradients, if not in the usual way."""
    said = {"ordered": "gradients summed in order", "bf16": "gradients exchanged in bf16", "powersgd": "PowerSGD"}
    return [said[record["communication"]]] if record["communication"] in said else []


def products(record: dict[str, Any]) -> str:
    """Return the number format of the products, and that of the recurrence if it differs."""
    asked, real = record["precision"], record["recurrence_precision"]
    names = {"bf16": "bfloat16", "fp16": "float16"}
    if real != names.get(asked, asked):
        return f"{asked} (the recurrence in {real}: no such kernel here)"
    return f"{asked} (products in TF32)" if record["tf32"] else asked


def duration(seconds: float) -> str:
    """``75`` → ``1:15``; hours if there are any."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"

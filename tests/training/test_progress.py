"""What a person sees of running work, on a terminal and in a log file."""

import io
import itertools
import pty
import time
from typing import Any

import pytest

from jobs.terminal.progress import Count, MovingLine, ShardProgress, start_sentence

START = {
    "parameters": 1_052_672, "total_steps": 960, "tokens_per_step": 1_024, "num_workers": 1, "device": "cpu",
    "num_threads": 2, "communication": None, "precision": "float32", "recurrence_precision": "float32", "tf32": False,
    "embedding_gradients": "dense", "unused": "4 tokens left over at the end of an epoch", "step": 0,
}  # fmt: skip


def test_the_start_of_a_run_is_described_in_two_lines() -> None:
    assert start_sentence(START) == (
        "training 1,052,672 parameters for 960 steps of 1,024 tokens\n"
        "  1 worker on cpu, 2 threads each, float32; 4 tokens left over at the end of an epoch"
    )
    assert "1 thread each" in start_sentence({**START, "num_threads": 1})


def test_no_line_is_too_wide_and_nothing_is_left_out() -> None:
    large = {"parameters": 12_345_678_901, "total_steps": 10_000_000, "tokens_per_step": 1_048_576, "step": 9_876_543}
    choices: dict[str, list[Any]] = {
        "num_workers": [1, 128], "device": ["cpu", "cuda"], "communication": [None, "ordered", "bf16", "powersgd"],
        "recurrence_precision": ["float32", "bfloat16"], "precision": ["float32", "bf16"],
        "embedding_gradients": ["dense", "rows"],
        "unused": ["4 tokens left over at the end of an epoch", "no end " * 30 + "of it"],
    }  # fmt: skip
    for values in itertools.product(*choices.values()):
        record = {**START, **large, **dict(zip(choices, values, strict=True))}
        lines = start_sentence(record).split("\n")
        assert max(map(len, lines)) < 100
        said = " ".join(line.strip() for line in lines)
        assert record["unused"] in said
        assert "continuing at step 9,876,543" in said
        assert ("gradients of the embedding as rows" in said) == (record["embedding_gradients"] == "rows")


class Terminal(io.StringIO):
    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, as a list of one number."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_a_log_file_has_the_end_of_a_preparation(clock: list[float]) -> None:
    log = io.StringIO()
    progress = ShardProgress(stream=log)
    for _ in range(8):
        clock[0] += 2
        progress.show({"source_bytes": 1_000_000, "num_tokens": 500_000}, 8_000_000)
    lines = log.getvalue().splitlines()
    assert [line.split()[0] for line in lines] == ["12%", "75%", "100%"]
    assert lines[-1].endswith("prepared 8.0 MB  0.5 MB/s  250,000 tokens/s  0:00 left")


def test_in_a_log_file_a_count_is_a_line_every_ten_seconds(clock: list[float]) -> None:
    log = io.StringIO()
    with Count("scored", 1000, "tokens", stream=log) as count:
        for _ in range(50):
            clock[0] += 0.5
            count.add(20)
    assert log.getvalue().splitlines() == [
        " 40% ████████             scored 400 of 1,000 tokens  40 tokens/s  0:15 left",
        " 80% ████████████████     scored 800 of 1,000 tokens  40 tokens/s  0:05 left",
    ]


def test_on_a_terminal_a_count_moves_and_is_gone_at_the_end(clock: list[float]) -> None:
    terminal = Terminal()
    with Count("scored", 4, "tokens", stream=terminal) as count:
        for _ in range(5):  # one more than announced
            clock[0] += 1.0
            count.add()
    shown = [line.rstrip() for line in terminal.getvalue().split("\r") if line]
    assert [line.split("  ")[-1] for line in shown[:5]] == [f"0:0{n} left" for n in (3, 2, 1, 0, 0)]
    assert shown[0].startswith(" 25% █████                scored 1 of 4 tokens")
    assert shown[4].startswith("100% ████████████████████ scored 5 of 4 tokens")
    assert shown[5:] == [""]  # blanks over the whole line
    with Count("scored", 4, "tokens", stream=terminal) as count:
        count.add(4)  # all at once, so nothing is shown
    assert terminal.getvalue().count("scored") == 5


def test_sentences_stand_above_the_bar(clock: list[float]) -> None:
    terminal = Terminal()
    line = MovingLine(stream=terminal)
    line.move(0.5, "half")
    line.say("a sentence")
    line.move(0.75, "more")
    line.close()
    shown = screen(terminal.getvalue())
    assert shown == ["a sentence", " 75% ███████████████      more", ""]


def test_a_terminal_of_unknown_size_shows_a_bar() -> None:
    leader, follower = pty.openpty()  # of 0 columns and lines
    with open(leader, "rb", buffering=0) as shown, open(follower, "w", encoding="utf-8") as stream:
        line = MovingLine(stream=stream)
        line.move(0.5, "half of it")
        line.close()
        assert shown.read(1000).decode().rstrip().startswith("\r 50% ██████████           half of it")


def screen(text: str) -> list[str]:
    """The lines that a terminal shows after ``text``: text after a carriage return overwrites what was there."""
    lines = []
    for line in text.split("\n"):
        shown = ""
        for part in line.split("\r"):
            shown = part + shown[len(part) :]
        lines.append(shown.rstrip())
    return lines

"""What a person sees while a search runs: on a terminal, one table that stays in its place."""

import io
import re
import time
from typing import Any

import pytest

from jobs.terminal.search import SearchProgress, ordinal, place
from pipeline.config import SearchConfig
from pipeline.search.plan import plan_of
from pipeline.search.space import Space
from pipeline.search.standing import Standing
from tests.search.findings import BUDGET, findings, records_of

TRIALS: list[Any] = [
    ({"optimizer.lr": 0.1}, [2.0]),
    ({"optimizer.lr": 0.2}, [1.0, 0.5, 0.25]),
    ({"optimizer.lr": 0.3}, [1.5]),
]


class Terminal(io.StringIO):
    """A terminal that knows few commands: text, ``\\r``, up, and clear to the end."""

    def isatty(self) -> bool:
        return True

    def screen(self) -> list[str]:
        """The lines as a person sees them now."""
        lines, row, column = [""], 0, 0
        for text, up, clear in re.findall(r"([^\x1b]+)|\x1b\[(\d+)A|(\x1b\[[JK])", self.getvalue()):
            if up:
                row -= int(up)
            elif clear:
                lines[row] = lines[row][:column]
                if clear.endswith("J"):
                    del lines[row + 1 :]
            for character in text:
                if character in "\r\n":
                    column, row = 0, row + (character == "\n")
                    lines += [""] * (row + 1 - len(lines))
                else:
                    lines[row] = lines[row][:column].ljust(column) + character + lines[row][column + 1 :]
                    column += 1
        return lines


def test_the_table_stays_in_its_place_below_other_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "150")
    terminal, standing = Terminal(), Standing()
    progress = SearchProgress(stream=terminal)
    settings = SearchConfig(num_trials=3, scheduler="asha", reduction_factor=3)
    progress.begin(plan_of(settings, Space({}), BUDGET))
    running = {"kind": "start", "trial": "004", "number": 4, "settings": {"optimizer.lr": 0.4}, "tokens": 0}
    report = {"kind": "report", "trial": "004", "tokens": 100, "loss": 1.2, "perplexity": 3.32, "rung": 100}
    said = 0
    for record in [*records_of(TRIALS), running, report]:
        standing.apply(record)
        progress.show(record, standing)
        screen = terminal.screen()
        assert sum("tokens left" in line or " of about " in line for line in screen) <= 1
        assert sum(line.startswith("trial ") for line in screen) >= said
        said = sum(line.startswith("trial ") for line in screen)
    # 100 + 900 + 100 + 100 tokens, and 200 more until the running trial is next compared
    head, tokens, names, row = screen[-4:]
    assert (
        head == " 86% █████████████████    4 of 4 trials: 1 running, 2 paused, 1 done  best perplexity 1.28 (trial 2)"
    )
    assert tokens.startswith("1,200 of about 1,400 tokens")
    assert names.split() == ["trial", "perplexity", "place", "in", "its", "rung", "tokens", "settings"]
    assert row.split() == ["4", "3.32", "2nd", "of", "4", "at", "100", "100", "optimizer.lr=0.4"]
    progress.say("the end")
    assert terminal.screen()[-2:] == ["the end", ""]


def test_a_narrow_terminal_gets_lines_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    terminal, standing = Terminal(), Standing()
    progress = SearchProgress(stream=terminal)
    for record in records_of(TRIALS):
        standing.apply(record)
        progress.show(record, standing)
    assert all(len(line) < 40 for line in terminal.screen() if not line.startswith("trial "))


def test_places_in_a_rung() -> None:
    standing = findings({"optimizer.lr": [0.1, 0.2, 0.3]}, TRIALS).standing
    assert [place(trial, standing, [100, 300]) for trial in standing.trials.values()] == [
        "3rd of 3 at 100",
        "1st of 1 at 300",
        "2nd of 3 at 100",
    ]
    assert [ordinal(number) for number in (1, 2, 3, 4, 11, 12, 13, 21, 102, 111)] == [
        "1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "102nd", "111th",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "levels", "total"),
    [
        ({"scheduler": "none", "num_trials": 5}, [(900, 5)], 4500),
        # 27 to 100, 9 to 300, 3 to the end: 27 x 100 + 9 x 200 + 3 x 600
        ({"scheduler": "asha", "num_trials": 27}, [(100, 27), (300, 9), (900, 3)], 6300),
        ({"scheduler": "median", "num_trials": 8}, [(100, 8), (300, 4), (900, 2)], 2800),
        # brackets of 9, 5 and 3 trials of 17
        ({"scheduler": "hyperband", "num_trials": 17}, [(100, 17), (300, 11), (900, 5.666667)], 7300),
        ({"scheduler": "none", "num_trials": None, "max_total_tokens": 5000}, [(900, 5)], 4500),
        ({"scheduler": "none", "num_trials": None, "max_total_tokens": 4500}, [(900, 5)], 4500),
        ({"scheduler": "none", "num_trials": 2, "confirm": {"top": 1, "seeds": 3}}, [(900, 2)], 4500),
    ],
)
def test_the_tokens_that_a_search_is_expected_to_take(
    settings: dict[str, Any], levels: list[tuple[int, float]], total: int
) -> None:
    plan = plan_of(SearchConfig(**settings), Space({}), BUDGET)
    assert [level for level, _ in plan.levels] == [level for level, _ in levels]
    assert [number for _, number in plan.levels] == pytest.approx([number for _, number in levels])
    assert plan.total_tokens == total
    assert plan.tokens_left(Standing()) == total


def test_a_search_that_only_hours_end_is_shown_by_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_800.0)
    plan = plan_of(SearchConfig(max_hours=2.0), Space({}), BUDGET)
    stream, standing = io.StringIO(), Standing.of(records_of(TRIALS))
    standing.sitting_began, standing.seconds_before = 900.0, 900.0
    progress = SearchProgress(stream=stream)
    progress.begin(plan)
    progress.num_trials = len(standing.trials)  # as with each record
    assert progress.done(standing) == pytest.approx(0.25)
    assert progress.head(standing) == [
        "3 of 3 trials: 2 paused, 1 done  best perplexity 1.28 (trial 2)",
        "1,100 tokens  1:30:00 left",
    ]
    bounded = plan_of(SearchConfig(max_hours=2.0, num_trials=5), Space({}), BUDGET)
    assert (bounded.num_trials, bounded.hours) == (5, None)


def test_the_tokens_that_are_left_of_a_search() -> None:
    """Two trials of six are drawn: one runs, at 100 tokens, one has paused; and one with another seed is at 300."""
    standing = Standing()
    start = {"kind": "start", "settings": {}, "tokens": 0}
    report = {"kind": "report", "tokens": 100, "loss": 1.0, "perplexity": 2.7, "rung": 100}
    for record in (
        start | {"trial": "001", "number": 1},
        report | {"trial": "001"},
        start | {"trial": "002", "number": 2},
        report | {"trial": "002"},
        {"kind": "pause", "trial": "002", "rung": 100},
        start | {"trial": "001-seed", "number": 1, "confirms": "001", "seed_offset": 1},
        report | {"trial": "001-seed", "tokens": 300},
    ):
        standing.apply(record)
    asha = SearchConfig(scheduler="asha", num_trials=6, confirm={"top": 1, "seeds": 1})
    plan = plan_of(asha, Space({}), BUDGET)
    expected = 6 * 100 + 2 * 200 + 1 * 600
    assert plan.total_tokens == expected + 900
    assert plan.tokens_left(standing) == round(4 / 6 * expected) + 200 + 600
    pbt = SearchConfig(scheduler="pbt", num_trials=6, confirm={"top": 1, "seeds": 1})
    assert plan_of(pbt, Space({}), BUDGET).tokens_left(standing) == 4 * 900 + 2 * 800 + 600

"""benchmarks/turns.py: how workers are asked in turns, what the ratios divide, and which values are refused."""

import math
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))  # scripts there import each other like that

from turns import check_values, in_turns, median_ratio, times_as_fast

COUNTING = """
import json, sys
for number, _ in enumerate(sys.stdin):
    print(json.dumps([0.5 + number, {value}]), flush=True)
"""


def worker(program: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", program]


def test_rounds_after_the_warm_up_are_kept() -> None:
    commands = {name: worker(COUNTING.format(value=value)) for name, value in (("one", 1), ("other", 2))}
    found = in_turns(commands, rounds=2, warm_up=1)
    assert found == {"one": [(1.5, 1), (2.5, 1)], "other": [(1.5, 2), (2.5, 2)]}


def test_each_worker_has_its_own_environment() -> None:
    program = "import json, os, sys; sys.stdin.readline(); print(json.dumps([1, int(os.environ['VALUE'])]), flush=True)"
    values = {"one": {"VALUE": "3"}, "other": {"VALUE": "4"}}
    found = in_turns(dict.fromkeys(values, worker(program)), rounds=1, warm_up=0, environments=values)
    assert found == {"one": [(1, 3)], "other": [(1, 4)]}


@pytest.mark.parametrize("program", ["", "import sys; sys.stdin.readline(); sys.stdin.close()"])
def test_a_worker_that_ends_ends_the_benchmark_by_name(program: str) -> None:
    commands = {"one": worker(COUNTING.format(value=1)), "other": worker(program)}
    with pytest.raises(SystemExit, match="the process of other ended"):
        in_turns(commands, rounds=2, warm_up=0)


def test_ratios_say_how_many_times_as_fast_the_first_is() -> None:
    now, before = [(1.0, 0.0), (2.0, 0.0), (9.0, 0.0)], [(3.0, 0.0), (8.0, 0.0), (18.0, 0.0)]
    assert median_ratio(before, now) == 3.0  # of 3, 4 and 2
    assert times_as_fast(now, before) == (8 / 2, 3 / 1, 3.0)


@pytest.mark.parametrize("losses", [[5.0, 4.1], [5.0, math.nan], [math.nan, 4.0], [math.inf, 4.0]])
def test_losses_that_are_apart_or_not_finite_end_the_benchmark(losses: list[float]) -> None:
    one, other = [(1.0, 5.0), (1.0, 4.0)], [(2.0, loss) for loss in losses]
    with pytest.raises(SystemExit, match="the two do not compute the same"):
        check_values(one, other, within=1e-4)


def test_losses_that_agree_are_said_to(capsys: pytest.CaptureFixture[str]) -> None:
    check_values([(1.0, 5.0), (1.0, 4.0)], [(2.0, 5.00003), (2.0, 4.00001)], within=1e-4)
    assert capsys.readouterr().out == "the losses of both differ by at most 3.0e-05\n"
    check_values([(1.0, 5.0)], [(2.0, 4.9)], within=math.inf)  # in bf16, or with dropout
    with pytest.raises(SystemExit):
        check_values([(1.0, 5.0)], [(2.0, math.nan)], within=math.inf)

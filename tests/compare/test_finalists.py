"""Whole runs decide between the best draws of a variant's search: which runs there are, and what the page says."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pipeline.compare.plan import COMPARED
from pipeline.compare.searched import Searched
from pipeline.compare.sentences import sentences
from pipeline.config import Config
from pipeline.search.standing import FAILED
from tests.compare.driving import VALUES, Driver
from tests.compare.figures import GROUP, findings, three_rows

FINALISTS = {"num_trials": 3, "num_finalists": 2, "optimizer.lr": {"choice": [0.1, 0.2, 0.3]}}
RATES = [{"optimizer.lr": 0.004}, {"optimizer.lr": 0.002}]


@pytest.mark.parametrize("at_once", [1, 4])
def test_whole_runs_decide_between_finalists(make_config: Callable[..., Config], at_once: int) -> None:
    """In short runs the highest rate is the best, in whole ones the lowest; the search leaves 0.3 and 0.2 to decide."""
    driver = Driver(make_config({**VALUES, "compare.search": FINALISTS, "compare.parameters": 5_000}), rate_by_length,
                    at_once=at_once)  # fmt: skip
    plan = driver.comparison.search_plan()
    total = 2 * (3 * 1_000 + 2 * (1_000 + 3_000) + 3_000)
    assert plan.total_tokens == plan.tokens_left(driver.standing) == total
    starts, done = [], 0
    while some := driver.run(most=5):
        starts += some
        done += sum(start["settings"]["train.max_tokens"] for start in some)
        assert plan.tokens_left(driver.standing) == total - done
    assert done == total
    assert driver.comparison.num_runs == len(starts) == 2 * (3 + 2 * 2 + 1)
    compared = [start["settings"] for start in starts if start["origin"] == COMPARED]
    runs = [(s["optimizer.lr"], s["train.max_tokens"], s["train.seed"]) for s in compared if s["model.cell"] == "gru"]
    assert sorted(runs[:2]) == [(0.2, 3_000, 1), (0.3, 3_000, 1)]  # before all others
    assert sorted(runs[2:]) == [(0.2, 1_000, 1), (0.2, 1_000, 2), (0.2, 3_000, 2)]
    gru = driver.comparison.sizes[1]
    assert driver.comparison.found(gru, driver.standing) == {"optimizer.lr": 0.2}
    assert driver.comparison.not_taken(gru, driver.standing) == ([{"optimizer.lr": 0.3}], [])
    assert driver.run() == []


def rate_by_length(settings: dict[str, Any]) -> float:
    rate: float = settings["optimizer.lr"]
    return rate if settings["train.max_tokens"] == 3_000 else 1 - rate


def test_a_finalist_that_diverges_is_replaced_by_the_next_best(make_config: Callable[..., Config]) -> None:
    config = make_config({**VALUES, "compare.search": FINALISTS, "compare.parameters": 5_000})

    def loss(settings: dict[str, Any]) -> float:
        wild = settings["optimizer.lr"] == 0.2 and settings["train.max_tokens"] == 3_000
        return math.inf if wild else rate_by_length(settings)

    driver = Driver(config, loss)
    driver.run()
    gru = driver.comparison.sizes[1]
    assert driver.comparison.found(gru, driver.standing) == {"optimizer.lr": 0.1}
    assert driver.comparison.not_taken(gru, driver.standing) == ([{"optimizer.lr": 0.3}], [{"optimizer.lr": 0.2}])
    assert driver.comparison.search_plan().tokens_left(driver.standing) == 0
    # if all finalists diverge, the best of the search is left, as without finalists
    lost = Driver(config, lambda settings: math.inf if settings["train.max_tokens"] == 3_000 else loss(settings))
    lost.run()
    assert lost.comparison.found(gru, lost.standing) == {"optimizer.lr": 0.3}
    assert lost.comparison.search_plan().tokens_left(lost.standing) == 0


def test_a_single_draw_that_trained_well_is_the_only_finalist(make_config: Callable[..., Config]) -> None:
    values = {**VALUES, "compare.search": FINALISTS, "compare.parameters": 5_000}
    driver = Driver(make_config(values), lambda settings: 1.0 if settings["optimizer.lr"] == 0.1 else math.inf)
    starts = driver.run()
    assert len(starts) == 2 * (3 + 2 * 2)
    assert driver.comparison.search_plan().tokens_left(driver.standing) == 0


def test_finalists_can_be_added_to_a_comparison_that_is_done(make_config: Callable[..., Config]) -> None:
    """Runs with the settings that the finals choose are then trained with every seed; none is repeated."""
    values = {**VALUES, "compare.parameters": 5_000}
    driver = Driver(make_config({**values, "compare.search": {**FINALISTS, "num_finalists": 1}}), rate_by_length)
    driver.run()
    later = Driver(make_config({**values, "compare.search": FINALISTS}), rate_by_length)
    later.records = driver.records
    starts = [start["settings"] for start in later.run()]
    assert {settings["optimizer.lr"] for settings in starts} == {0.2}
    assert len(starts) == 2 * 2 * 2
    assert later.comparison.search_plan().tokens_left(later.standing) == 0


@pytest.mark.parametrize(
    ("searched", "said"),
    [
        (Searched(RATES, 1_000_000), [
            "The runs that chose had 1,000,000 of these 5,000,000 tokens: what is best in them, a high learning rate "
            "above all, may not be the best in a whole run."
        ]),
        (Searched(RATES, GROUP.tokens), []),
        # not the tokens of the runs that the sentences are about: the longest may have been left out
        (Searched(RATES, 1_000_000, num_finalists=2, final_seed=7, final_tokens=9_000_000), [
            "The best 2 of these draws were trained on 9,000,000 tokens with seed 7; the best of them is compared, and "
            "that run is one of those compared.",
            "gru has optimizer.lr 0.002, better there than optimizer.lr 0.004, which its search preferred.",
        ]),
    ],
)  # fmt: skip
def test_the_page_says_how_long_the_runs_were_that_chose(searched: Searched, said: list[str]) -> None:
    lstm, gru, attends = three_rows()
    overtaken = [{"optimizer.lr": 0.004}] if searched.num_finalists > 1 else []
    rows = [lstm, replace(gru, own={"optimizer.lr": 0.002}, overtaken=overtaken), attends]
    lines = sentences(replace(findings(rows), searched=searched))["What was compared"]
    assert lines[1].startswith("Each variant has the best of 2 draws (optimizer.lr: 0.002 and 0.004), by the")
    assert lines[2:-1] == said


@pytest.mark.parametrize(("failed", "taken"), [(0.2, 0.3), (0.3, 0.2)])
def test_a_finalist_that_failed_is_not_taken_for_the_loss_that_it_had(
    make_config: Callable[..., Config], failed: float, taken: float
) -> None:
    """Its disk was full, say: until it is continued, one that was trained to its end is taken, as better than none."""
    driver = Driver(make_config({**VALUES, "compare.search": FINALISTS, "compare.parameters": 5_000}), rate_by_length)
    driver.run()
    gru = driver.comparison.sizes[1]
    final = driver.comparison.final_run(gru, {"optimizer.lr": failed})
    (trial,) = [trial for trial in driver.standing.drawn if trial.settings == final]
    for record in driver.records:
        if record["kind"] == "end" and record["trial"] == trial.name:
            record["status"] = FAILED
    assert driver.comparison.found(gru, driver.standing) == {"optimizer.lr": taken}
    assert driver.comparison.not_taken(gru, driver.standing) == ([], [])

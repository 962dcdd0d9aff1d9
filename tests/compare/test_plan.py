"""Which runs a comparison has, and in which order, driven by made-up losses."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.compare.plan import COMPARED, SEARCHED, draws_of
from pipeline.compare.planned import Planned
from pipeline.compare.variants import SEARCH_SEED
from pipeline.config import Config
from pipeline.errors import UserError
from pipeline.search.actions import Run
from pipeline.search.engine import Engine
from pipeline.search.space import Space
from pipeline.search.standing import LOST
from tests.compare.driving import SEARCH, VALUES, Driver, comparison_of


def test_runs_are_all_variants_sizes_lengths_and_seeds(make_config: Callable[..., Config]) -> None:
    driver = Driver(make_config(VALUES), lambda settings: 1.0)
    starts = driver.run()
    assert driver.comparison.num_runs == len(starts) == 2 * 2 * 2 * 2
    assert driver.comparison.total_tokens == 8 * 1_000 + 8 * 3_000
    assert {start["origin"] for start in starts} == {COMPARED}
    # all runs with one seed come before those with the next
    assert [start["settings"]["train.seed"] for start in starts] == [1] * 8 + [2] * 8
    assert [start["settings"]["model.cell"] for start in starts[:4]] == ["lstm", "lstm", "gru", "gru"]
    one = driver.comparison.sizes[0]
    trial = driver.comparison.run_of(one, driver.standing, tokens=3_000, seed=2)
    assert trial is not None
    assert trial.settings == {
        "model.cell": "lstm", "model.hidden_size": one.width, "train.max_tokens": 3_000, "train.seed": 2,
    }  # fmt: skip
    assert driver.run() == []


def test_more_seeds_and_lengths_add_only_the_missing_runs(make_config: Callable[..., Config]) -> None:
    driver = Driver(make_config(VALUES), lambda settings: 1.0)
    driver.run()
    more = {**VALUES, "compare.seeds": [1, 2, 7], "compare.tokens": [1_000, 2_000, 3_000]}
    later = Driver(make_config(more), lambda settings: 1.0)
    later.records = driver.records
    starts = [start["settings"] for start in later.run()]
    assert len(starts) == 2 * 2 * (3 * 3) - 16
    assert all(settings["train.seed"] == 7 or settings["train.max_tokens"] == 2_000 for settings in starts)


@pytest.mark.parametrize("at_once", [1, 4])
def test_each_variant_gets_the_best_of_its_own_search(make_config: Callable[..., Config], at_once: int) -> None:
    config = make_config({**VALUES, "compare.search": SEARCH, "compare.tokens": 1_000, "compare.parameters": 5_000})
    draws = draws_of(comparison_of(config).search)  # type: ignore[arg-type]
    rates = [draw["optimizer.lr"] for draw in draws]
    assert len(set(rates)) == 3
    best = {"lstm": rates[1], "gru": rates[2]}
    driver = Driver(config, lambda settings: 1 + abs(math.log(settings["optimizer.lr"] / best[settings["model.cell"]])),
                    at_once=at_once)  # fmt: skip
    starts = driver.run()
    searched = [start["settings"] for start in starts if start["origin"] == SEARCHED]
    compared = [start["settings"] for start in starts if start["origin"] == COMPARED]
    assert len(searched) == 6
    assert {settings["train.seed"] for settings in searched} == {SEARCH_SEED}  # not a seed that is compared
    assert {(s["model.cell"], s["optimizer.lr"], s["train.seed"]) for s in compared} == {
        (cell, rate, seed) for cell, rate in best.items() for seed in (1, 2)
    }
    assert len(compared) == 4


def test_remaining_tokens_are_counted_by_the_length_of_each_run(make_config: Callable[..., Config]) -> None:
    """The searches, of 1,000 tokens, come first, so an estimate from the mean of finished runs would be too low."""
    config = make_config({**VALUES, "compare.search": SEARCH})
    driver = Driver(config, lambda settings: 1.0)
    plan = driver.comparison.search_plan()
    total = 4 * (3 * 1_000 + 2 * (1_000 + 3_000))
    assert plan.total_tokens == plan.tokens_left(driver.standing) == total
    done = 0
    while starts := driver.run(most=5):
        done += sum(start["settings"]["train.max_tokens"] for start in starts)
        assert plan.tokens_left(driver.standing) == total - done
    assert done == total


def test_values_at_an_end_of_the_searched_range_are_recognised(make_config: Callable[..., Config]) -> None:
    values = {
        "num_trials": 6, "optimizer.lr": {"choice": [0.1, 0.2, 0.3]}, "model.residual": {"choice": [True, False]},
        "optimizer.schedule": ["constant"],
    }  # fmt: skip
    comparison = comparison_of(make_config({**VALUES, "compare.search": values}))
    assert comparison.at_end({"optimizer.lr": 0.3, "optimizer.schedule": "constant"}) == {"optimizer.lr": "highest"}
    assert comparison.at_end({"optimizer.lr": 0.1}) == {"optimizer.lr": "lowest"}
    assert comparison.at_end({"optimizer.lr": 0.2, "model.residual": True}) == {}


def test_a_comparison_that_was_cut_off_makes_only_the_remaining_runs(make_config: Callable[..., Config]) -> None:
    config = make_config({**VALUES, "compare.search": SEARCH})

    def loss(settings: dict[str, Any]) -> float:
        return 1 + settings["optimizer.lr"] * settings["model.hidden_size"]

    whole, parts = Driver(config, loss), Driver(config, loss)
    expected = [start["settings"] for start in whole.run()]
    found = []
    while starts := parts.run(most=5):
        found += [start["settings"] for start in starts]
    assert found == expected


def test_a_variant_whose_searches_all_diverge_is_left_out(make_config: Callable[..., Config]) -> None:
    config = make_config({**VALUES, "compare.search": SEARCH, "compare.tokens": 1_000, "compare.parameters": 5_000})
    driver = Driver(config, lambda settings: math.inf if settings["model.cell"] == "gru" else 1.0)
    starts = driver.run()
    assert {start["settings"]["model.cell"] for start in starts if start["origin"] == COMPARED} == {"lstm"}
    gru = next(one for one in driver.comparison.sizes if one.name == "gru")
    assert driver.comparison.found(gru, driver.standing) is None


@pytest.mark.parametrize(("at_once", "diverged"), [(1, math.inf), (4, math.inf), (1, math.log(30) + 0.1)])
def test_a_variant_that_diverges_with_its_best_draw_gets_the_next_best(
    make_config: Callable[..., Config], at_once: int, diverged: float
) -> None:
    """``diverged``: of seed 2, not finite or worse than a uniform guess among the 30 types."""
    search = {"num_trials": 3, "optimizer.lr": {"choice": [0.1, 0.2, 0.3]}}
    config = make_config({**VALUES, "compare.search": search, "compare.tokens": 1_000, "compare.parameters": 5_000})

    def loss(settings: dict[str, Any]) -> float:
        wild = settings["model.cell"] == "gru" and settings["optimizer.lr"] == 0.3 and settings["train.seed"] == 2
        return diverged if wild else 1 - settings["optimizer.lr"]

    driver = Driver(config, loss, at_once=at_once)
    starts = driver.run()
    compared = {
        (start["settings"]["model.cell"], start["settings"]["optimizer.lr"], start["settings"]["train.seed"])
        for start in starts
        if start["origin"] == COMPARED
    }
    assert compared == {
        ("lstm", 0.3, 1), ("lstm", 0.3, 2), ("gru", 0.3, 1), ("gru", 0.3, 2), ("gru", 0.2, 1), ("gru", 0.2, 2),
    }  # fmt: skip
    assert driver.comparison.search_plan().tokens_left(driver.standing) == 0
    lstm, gru = driver.comparison.sizes
    assert driver.comparison.found(gru, driver.standing) == {"optimizer.lr": 0.2}
    assert driver.comparison.not_taken(gru, driver.standing) == ([], [{"optimizer.lr": 0.3}])
    assert driver.comparison.not_taken(lstm, driver.standing) == ([], [])


def test_runs_with_settings_that_diverged_elsewhere_do_not_go_to_their_end(make_config: Callable[..., Config]) -> None:
    """Of three runs side by side, one diverges; the others stop at their next report, or where they would continue."""
    search = {"num_trials": 2, "optimizer.lr": {"choice": [0.1, 0.2]}}
    values = {**VALUES, "compare.search": search, "compare.tokens": 1_000, "compare.parameters": 5_000}
    config = make_config({**values, "compare.seeds": [1, 2, 3]})
    driver = Driver(config, lambda settings: settings["optimizer.lr"])
    driver.run(most=4)  # the searches

    def engine() -> Engine:
        return Engine(
            driver.comparison.as_search(config), Space({}), 3_000, records=list(driver.records),
            write=lambda *records: driver.records.extend(map(dict, records)), candidates=Planned(driver.comparison),
        )  # fmt: skip

    now = engine()
    actions = [now.next_action(free) for free in (6, 5, 4, 3, 2, 1)]
    trials = [action.trial for action in actions if isinstance(action, Run)]
    assert [trial.settings["model.cell"] for trial in trials] == ["lstm", "gru"] * 3
    lstm, diverged, *_, reports = (trial.name for trial in trials)
    cut_off = trials[3].name
    now.ended(diverged, LOST, "the loss was not finite")
    report = {"tokens": 500, "loss": 1.0, "perplexity": math.e, "seconds": 1.0}
    assert now.report(lstm, **report).kind == "continue"
    assert now.report(reports, **report).kind == "stop"
    now.interrupted(cut_off)
    now = engine()
    continued = [action.trial for action in map(now.next_action, range(9, 0, -1)) if isinstance(action, Run)]
    assert [trial.settings["model.cell"] for trial in continued] == ["lstm"] * 3 + ["gru"] * 3
    assert [trial.settings["optimizer.lr"] for trial in continued] == [0.1] * 3 + [0.2] * 3
    for name in (reports, cut_off):
        assert now.standing.trials[name].end is not None
        assert now.standing.trials[name].end["reason"] == "another run with these settings diverged"


def test_a_variant_that_diverges_with_all_its_draws_stays_with_the_best(make_config: Callable[..., Config]) -> None:
    search = {"num_trials": 2, "optimizer.lr": {"choice": [0.1, 0.2]}}
    config = make_config({**VALUES, "compare.search": search, "compare.tokens": 1_000, "compare.parameters": 5_000})

    def loss(settings: dict[str, Any]) -> float:
        wild = settings["model.cell"] == "gru" and settings["train.seed"] == 1
        return math.inf if wild else settings["optimizer.lr"]

    driver = Driver(config, loss)
    driver.run()
    gru = next(one for one in driver.comparison.sizes if one.name == "gru")
    assert driver.comparison.found(gru, driver.standing) == {"optimizer.lr": 0.1}
    assert driver.comparison.not_taken(gru, driver.standing) == ([], [])
    states = [driver.comparison.run_of(gru, driver.standing, tokens=1_000, seed=seed) for seed in (1, 2)]
    assert [trial.status for trial in states if trial is not None] == ["lost", "done"]


def test_validations_lie_evenly_over_each_length(make_config: Callable[..., Config]) -> None:
    config = make_config({**VALUES, "compare.tokens": [1_200, 3_200]})
    milestones = comparison_of(config).milestones
    assert milestones == sorted({*range(200, 3_201, 200), 300, 900})
    # epochs are as many as the longest run needs
    assert comparison_of(config).trial_config(config, tokens_per_epoch=1_000).train.epochs == 4
    assert comparison_of(make_config({**VALUES, "compare.tokens": None})).lengths == [9_999]


def test_a_draw_that_a_variant_cannot_have_is_refused(make_config: Callable[..., Config]) -> None:
    values = {**VALUES, "compare.variants": {"lstm": {"model.cell": "lstm"}, "mingru": {"model.cell": "mingru"}},
              "compare.search": {"model.weight_dropout": [0.0, 0.5]}}  # fmt: skip
    with pytest.raises(UserError, match=r"^compare\.variants: mingru: model\.weight_dropout: 0\.5, but mingru has no"):
        comparison_of(make_config(values))


def test_one_more_seed_leaves_the_searches_as_they_are(make_config: Callable[..., Config]) -> None:
    values = {**VALUES, "compare.search": SEARCH, "compare.tokens": 1_000, "compare.parameters": 5_000}
    driver = Driver(make_config(values), lambda settings: settings["optimizer.lr"])
    driver.run()
    later = Driver(make_config({**values, "compare.seeds": [1, 2, 3]}), driver.loss)
    later.records = driver.records
    assert {start["settings"]["train.seed"] for start in later.run()} == {3}


def test_checkpoints_of_all_runs_are_kept_until_they_are_scored(make_config: Callable[..., Config]) -> None:
    config = make_config(VALUES)
    # more than a journal ever holds, even that of an edited comparison with runs of former variants
    assert comparison_of(config).as_search(config).keep > 1_000_000


def test_a_teacher_is_refused(make_config: Callable[..., Config]) -> None:
    with pytest.raises(UserError, match=r"^train\.teacher: must be null in a comparison: steps are measured without"):
        comparison_of(make_config({**VALUES, "train.teacher": "runs/big"}))
    taught = {"lstm": {}, "taught": {"train.teacher": "runs/big"}}
    with pytest.raises(UserError, match=r"^compare\.variants: taught: train\.teacher: a variant cannot have its own"):
        comparison_of(make_config({**VALUES, "compare.variants": taught}))

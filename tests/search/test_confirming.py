"""The best of a search are trained again with other seeds, whatever happens in between."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from pipeline import config as configuration
from pipeline.search.confirm import reserved_tokens
from pipeline.search.keeping import superfluous
from pipeline.search.leaderboard import as_csv, rows_of
from pipeline.search.lives import config_of
from pipeline.search.standing import Standing, Trial
from tests.search.curves import BUDGET, Curves, settings_of, statuses


def test_a_trial_that_confirms_another_has_its_settings_and_another_seed() -> None:
    own = {"search.space": {"optimizer.lr": [0.1, 0.2]}, "train.seed": 2**32 - 2}
    config = configuration.with_values(configuration.load(), own)
    seeds = []
    for offset in range(4):
        trial = Trial("001", 1, {"optimizer.lr": 0.2}, seed_offset=offset)
        found = config_of(config, trial, Path("folder"))
        assert found.optimizer.lr == 0.2
        seeds.append(found.train.seed)
    assert seeds == [2**32 - 2, 2**32 - 1, 0, 1]


def test_the_best_are_confirmed_with_other_seeds() -> None:
    settings = settings_of(confirm={"top": 2, "seeds": 3}, scheduler="none", max_total_tokens=8_500)
    curves = Curves(settings, lambda number, tokens: number + tokens / 1e4, at_once=2)
    assert curves.run() == "search.max_total_tokens has no room for more"
    # 6 trials of 900 tokens are reserved, which leaves room for 3 others of 900
    assert [trial.number for trial in curves.engine.standing.drawn] == [1, 2, 3]
    confirming = [trial for trial in curves.engine.standing.trials.values() if trial.confirms]
    assert [(trial.number, trial.seed_offset) for trial in confirming] == [
        (1, 1),
        (2, 1),
        (1, 2),
        (2, 2),
        (1, 3),
        (2, 3),
    ]
    assert {trial.status for trial in confirming} == {"done"}


def test_confirming_runs_keep_their_tokens_whenever_the_search_is_killed() -> None:
    settings = settings_of(
        grace_tokens=200, reduction_factor=2, max_total_tokens=4900, confirm={"top": 2, "seeds": 2}, num_trials=13
    )

    def loss(number: int, tokens: int) -> float:
        return math.inf if number == 1 else 10 - number + 1 / tokens

    def search(*, until: float = math.inf) -> Curves:
        curves = Curves(settings, loss)
        curves.run(until=lambda: curves.time >= until)
        curves.engine = curves.new_engine()
        curves.run()
        return curves

    whole = search()
    assert statuses(whole.engine.standing)[4] == "waiting"  # 4 × 900 of the 4,900 tokens are reserved
    confirming = [trial.name for trial in whole.engine.standing.trials.values() if trial.confirms]
    assert len(confirming) == 4
    for time in range(1, int(whole.time)):
        standing = search(until=time).engine.standing
        assert {name: trial.status for name, trial in standing.trials.items()} == {
            name: trial.status for name, trial in whole.engine.standing.trials.items()
        }
        assert standing.num_tokens == whole.engine.standing.num_tokens


def test_confirming_runs_train_side_by_side() -> None:
    settings = settings_of(confirm={"top": 2, "seeds": 2}, scheduler="none", num_trials=2)
    curves = Curves(settings, lambda *_: 1.0, at_once=3)
    at_once: dict[bool, int] = {True: 0, False: 0}

    def loss(number: int, tokens: int) -> float:
        running = curves.engine.standing.in_state("running")
        assert len({trial.confirms is None for trial in running}) == 1  # the best are known only when all others ended
        at_once[running[0].confirms is None] = max(at_once[running[0].confirms is None], len(running))
        return number + 1 / tokens

    curves.loss = loss
    assert curves.run() == ""
    assert at_once == {True: 2, False: 3}


def confirmed_with(lost: set[int]) -> Curves:
    """Two trials, of losses 1 and 2, both trained again with three other seeds; those of the first ``lost`` diverge."""
    curves = Curves(settings_of(confirm={"top": 2, "seeds": 3}, scheduler="none", num_trials=2), lambda *_: 0.0)

    def loss(number: int, tokens: int) -> float:
        (trial,) = curves.engine.standing.in_state("running")
        return math.inf if number == 1 and trial.seed_offset in lost else number + trial.seed_offset / 100

    curves.loss = loss
    curves.run()
    return curves


def test_settings_with_which_another_seed_diverged_are_not_the_best() -> None:
    assert [row.trial[:3] for row in rows_of(confirmed_with(set()).engine.standing)] == ["001", "002"]
    rows = rows_of(confirmed_with({2}).engine.standing)
    assert [row.trial[:3] for row in rows] == ["002", "001"]
    best, other = (row.confirmed for row in rows)
    assert (best.num_seeds, best.num_lost, best.perplexity) == (3, 0, pytest.approx(math.exp(2.02)))
    assert (other.num_seeds, other.num_lost, other.perplexity) == (2, 1, pytest.approx(math.exp(1.02)))
    header, first, second = as_csv(rows).splitlines()
    assert header.startswith("rank,perplexity,mean,mean_low,mean_high,seeds,seeds_lost,optimizer.lr,")
    assert [line.split(",")[5:7] for line in (first, second)] == [["3", "0"], ["2", "1"]]
    (none,) = [row for row in rows_of(confirmed_with({1, 2, 3}).engine.standing) if row.trial[:3] == "001"]
    assert (none.confirmed.num_seeds, none.confirmed.num_lost) == (0, 3)
    assert as_csv([none]).splitlines()[1].split(",")[2:7] == ["", "", "", "0", "3"]


def test_the_checkpoints_that_stay_are_those_of_the_best_of_the_leaderboard() -> None:
    settings = settings_of(confirm={"top": 2, "seeds": 3}, keep=1)
    curves = confirmed_with({2})
    standing = curves.engine.standing
    assert superfluous(standing, settings) == [name for name in standing.trials if not name.startswith("002-lr")]
    # a trial that failed is tried again from its checkpoint
    end = {**standing.drawn[0].end, "status": "failed"}  # type: ignore[dict-item]
    assert end["trial"] not in superfluous(Standing.of([*curves.records, end]), settings)
    # until all seeds are done, any of those that are confirmed may turn out to be the best
    before = [record for record in curves.records if not str(record.get("trial")).endswith("seed+3")]
    kept = set(standing.trials) - set(superfluous(Standing.of(before), settings))
    assert [name[:6] for name in sorted(kept) if "seed" not in name] == ["001-lr", "002-lr"]
    # and only for those that have not begun are tokens reserved
    reserved = [reserved_tokens(settings, Standing.of(records), BUDGET) for records in ([], before, curves.records)]
    assert reserved == [6 * BUDGET, 2 * BUDGET, 0]

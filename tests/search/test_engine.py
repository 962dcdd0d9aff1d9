"""The engine of a search, driven by made-up curves: limits, more trials, lost processes, continuing after a cut."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline import config as configuration
from pipeline.search.actions import End, Run
from pipeline.search.confirm import reserved_tokens
from pipeline.search.domains import Domain
from pipeline.search.keeping import superfluous
from pipeline.search.leaderboard import as_csv, rows_of
from pipeline.search.lives import config_of
from pipeline.search.samplers import sampler_of
from pipeline.search.schedulers import CONTINUE
from pipeline.search.space import Space
from pipeline.search.standing import Standing, Trial
from pipeline.training.monitor import Record
from tests.search.curves import BUDGET, Curves, settings_of, statuses
from tests.search.findings import records_of

RUNGS = [100, 300]


def test_tokens_bound_the_search_and_more_extend_it() -> None:
    curves = Curves(settings_of(max_total_tokens=1000), lambda number, tokens: float(number))
    assert curves.run() == "search.max_total_tokens has no room for more"
    assert curves.engine.standing.num_tokens <= 1000
    ended = dict(curves.engine.standing.trials)
    curves.settings = settings_of(max_total_tokens=10_000)
    curves.engine = curves.new_engine()
    assert curves.run() == ""
    assert list(ended) == list(curves.engine.standing.trials)[: len(ended)]
    whole = Curves(settings_of(), lambda number, tokens: float(number))
    whole.run()
    assert statuses(curves.engine.standing) == statuses(whole.engine.standing)


def test_tokens_have_room_for_what_just_fits_and_for_nothing_beside_what_runs() -> None:
    for most, begun in ((2 * BUDGET, 2), (2 * BUDGET - 1, 1)):
        curves = Curves(settings_of(max_total_tokens=most, scheduler="none"), lambda number, tokens: 1.0, at_once=4)
        assert curves.run() == "search.max_total_tokens has no room for more"
        assert statuses(curves.engine.standing) == dict.fromkeys(range(1, begun + 1), "done")


def test_a_report_that_comes_again_changes_nothing() -> None:
    curves = Curves(settings_of(), lambda number, tokens: 1.0)
    action = curves.engine.next_action(1)
    assert isinstance(action, Run)
    for tokens in (50, 50, 40):
        decision = curves.engine.report(action.trial.name, tokens=tokens, loss=1.0, perplexity=math.e)
        assert decision == CONTINUE
    assert [record["tokens"] for record in curves.records if record["kind"] == "report"] == [50]


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


def test_more_trials_extend_a_finished_search_as_if_it_had_had_them_from_the_beginning() -> None:
    def loss(number: int, tokens: int) -> float:
        return (number * 7 % 10) - tokens / 1e6

    curves = Curves(settings_of(num_trials=6), loss)
    curves.run()
    curves.settings = settings_of(num_trials=9)
    curves.engine = curves.new_engine()
    curves.run()
    whole = Curves(settings_of(num_trials=9), loss)
    whole.run()
    assert [t.settings for t in curves.engine.standing.drawn] == [t.settings for t in whole.engine.standing.drawn]
    assert len(curves.engine.standing.drawn) == 9


def test_hours_bound_the_search_over_all_its_sittings() -> None:
    curves = Curves(settings_of(max_hours=5 / 3600), lambda number, tokens: float(number))
    curves.run(until=lambda: curves.time >= 3)
    curves.engine = curves.new_engine()
    assert curves.run() == "search.max_hours is used up"
    assert curves.time == pytest.approx(5, abs=1.5)
    curves.settings = settings_of(max_hours=1)
    curves.engine = curves.new_engine()
    assert curves.run() == ""
    assert len(curves.engine.standing.drawn) == 9


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


def test_a_trial_at_its_budget_ends_by_itself_also_if_it_was_cut_off_before_its_end() -> None:
    curves = Curves(settings_of(num_trials=4), lambda number, tokens: float(number))
    curves.records = records_of([({"optimizer.lr": number / 10}, [number] * 3) for number in (1, 2, 3)])
    curves.records += [{"kind": "promote", "trial": "001", "rung": rung, "until": 900} for rung in RUNGS]
    # its windows are so long that its first report comes at the end
    start = {"kind": "start", "trial": "004", "number": 4, "settings": {"optimizer.lr": 0.4}}
    report = {"kind": "report", "trial": "004", "tokens": BUDGET, "loss": 4.0, "perplexity": 54.6, "rung": 300}
    curves.records += [start, report]
    curves.engine = curves.new_engine()
    assert curves.run() == ""
    assert statuses(curves.engine.standing) == dict.fromkeys(range(1, 5), "done")


def test_a_space_that_is_used_up_is_the_reason_if_more_trials_were_asked_for() -> None:
    curves = Curves(settings_of(num_trials=9), lambda number, tokens: float(number))
    curves.engine.space = Space({"optimizer.lr": Domain("choice", [0.1, 0.2])})
    curves.engine.candidates.begin(curves.settings, sampler_of(curves.settings, curves.engine.space), is_earlier=False)
    assert curves.run() == "search.space has no settings left to try after 2 trials"


def test_a_lost_process_is_tried_again_up_to_a_limit() -> None:
    curves = Curves(settings_of(num_trials=1), lambda number, tokens: 1.0)
    name = None
    for _ in range(3):
        action = curves.engine.next_action(1)
        assert isinstance(action, Run)
        name = action.trial.name
        curves.engine.failed(name, "its process ended", max_failures=2)
    assert curves.engine.standing.trials[str(name)].status == "failed"
    assert isinstance(curves.engine.next_action(1), End)
    assert isinstance(curves.new_engine(retries_failed=False).next_action(1), End)
    curves.engine = curves.new_engine()  # the same command again tries it again, as often
    assert isinstance(curves.engine.next_action(1), Run)
    curves.engine.failed(str(name), "its process ended", max_failures=2)
    assert curves.run() == ""
    assert statuses(curves.engine.standing) == {1: "done"}


def test_processes_that_are_lost_after_a_new_checkpoint_each_do_not_count_together() -> None:
    """On machines that are taken away now and then, a long trial loses its process often, and gets on."""
    curves = Curves(settings_of(num_trials=1), lambda number, tokens: 1.0)
    for saved in (10, 20, 20, 20, 30, 40, 40):
        curves.engine = curves.new_engine() if saved == 30 else curves.engine  # the next sitting counts anew
        action = curves.engine.next_action(1)
        assert isinstance(action, Run)
        curves.engine.failed(action.trial.name, "its node is gone", max_failures=3, saved_tokens=saved)
    (trial,) = curves.engine.standing.trials.values()
    assert (trial.state, trial.num_failures, trial.saved_tokens) == ("waiting", 2, 40)
    for status in ("waiting", "failed"):
        assert isinstance(curves.engine.next_action(1), Run)
        curves.engine.failed(trial.name, "its node is gone", max_failures=3, saved_tokens=40)
        assert trial.status == status


def test_as_many_trials_run_at_once_as_there_is_room_for() -> None:
    curves = Curves(settings_of(), lambda number, tokens: float(number), at_once=4)
    most = 0

    def look() -> bool:
        nonlocal most
        most = max(most, len(curves.engine.standing.in_state("running")))
        return False

    curves.run(until=look)
    assert most == 4
    assert statuses(curves.engine.standing)[1] == "done"


def decisions(records: Sequence[Record]) -> list[tuple[Any, ...]]:
    """What a search did: its trials and what became of them, but not when it was restarted."""
    names = ("kind", "trial", "rung", "tokens", "status", "settings")
    kept = [r for r in records if r["kind"] not in ("search", "sitting", "start")]
    drawn: dict[str, Any] = {r["trial"]: r["settings"] for r in records if r["kind"] == "start"}
    return [*(tuple(str(r.get(name)) for name in names) for r in kept), *map(str, drawn.items())]


@pytest.mark.parametrize("scheduler", ["none", "asha", "hyperband", "median", "asha_stopping"])
@pytest.mark.parametrize("algorithm", ["random", "tpe"])
def test_a_search_cut_off_after_any_record_ends_the_same(scheduler: str, algorithm: str) -> None:
    if algorithm == "tpe":
        pytest.importorskip("optuna")

    def loss(number: int, tokens: int) -> float:
        return 1.0 + math.sin(number * 2.1) - tokens / 2000

    settings = settings_of(scheduler=scheduler, algorithm=algorithm, startup_trials=3)
    whole = Curves(settings, loss)
    whole.run()
    for cut in range(1, len(whole.records)):
        again = Curves(settings, loss)
        again.records = whole.records[:cut]
        again.engine = again.new_engine()
        again.run()
        assert decisions(again.records) == decisions(whole.records), cut


def test_a_search_of_an_earlier_version_goes_on_by_its_rules() -> None:
    settings = settings_of(algorithm="tpe", num_trials=4)
    records: list[Record] = [
        {"kind": "search", "format": 1},
        {"kind": "start", "trial": "001-lr=0.5", "number": 1, "settings": {"optimizer.lr": 0.5}, "tokens": 0},
        {"kind": "report", "trial": "001-lr=0.5", "tokens": 100, "loss": 1.0, "perplexity": 2.7, "rung": 100},
        {"kind": "end", "trial": "001-lr=0.5", "status": "stopped", "reason": "", "perplexity": 2.7, "tokens": 100,
         "seconds": 1.0},
    ]  # fmt: skip
    curves = Curves(settings, lambda number, tokens: float(number))
    curves.records = records
    curves.engine = curves.new_engine()
    curves.run()
    assert statuses(curves.engine.standing) == {1: "stopped", 2: "stopped", 3: "stopped", 4: "stopped"}
    random = Curves(settings_of(num_trials=4), lambda number, tokens: float(number))
    random.run()
    expected = [trial.settings for trial in random.engine.standing.drawn]
    assert [trial.settings for trial in curves.engine.standing.drawn][1:] == expected[1:]

"""The engine of a search, driven by made-up curves: limits, more trials, lost processes, continuing after a cut."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest

from pipeline.search.actions import End, Run
from pipeline.search.domains import Domain
from pipeline.search.samplers import sampler_of
from pipeline.search.schedulers import CONTINUE
from pipeline.search.space import Space
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

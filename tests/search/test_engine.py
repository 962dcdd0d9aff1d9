"""The engine of a search against examples worked by hand, driven by made-up curves."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from pipeline.config import SearchConfig
from pipeline.search.actions import End, Run, Wait
from pipeline.search.candidates import Candidates
from pipeline.search.domains import Domain
from pipeline.search.engine import Engine
from pipeline.search.schedulers import CONTINUE
from pipeline.search.space import Space
from pipeline.search.standing import Standing
from pipeline.training.monitor import Record

SPACE = Space({"optimizer.lr": Domain("uniform", [0.0, 1.0])})
BUDGET = 900
RUNGS = [100, 300]


def settings_of(**changes: Any) -> SearchConfig:
    return SearchConfig(
        **{"algorithm": "random", "num_trials": 9, "grace_tokens": 100, "reduction_factor": 3, **changes}
    )


class Curves:
    """A driver of one engine: trials whose loss is ``loss(number, tokens)``, ``at_once`` of them, in turns."""

    def __init__(
        self, settings: SearchConfig, loss: Callable[[int, int], float], *, at_once: int = 1, every: int = 100
    ) -> None:
        self.settings, self.loss, self.at_once, self.every = settings, loss, at_once, every
        self.records: list[Record] = [{"kind": "search", "format": 2}]
        self.time = 0.0
        self.engine = self.new_engine()

    def new_engine(self, **how: Any) -> Engine:
        return Engine(
            self.settings, SPACE, BUDGET, records=list(self.records), write=self.write, candidates=Candidates(),
            clock=lambda: self.time, **how,
        )  # fmt: skip

    def write(self, *records: Record) -> None:
        self.records.extend({"time": self.time, **record} for record in records)

    def run(self, *, until: Callable[[], bool] = lambda: False) -> str:
        """Until the search ends; the reason that it gives."""
        running: dict[str, int] = {}
        while not until():
            action = self.engine.next_action(self.at_once - len(running))
            if isinstance(action, Run):
                if action.trial.tokens >= BUDGET:  # it was cut off between its last report and its end
                    self.engine.ended(action.trial.name, "done")
                else:
                    running[action.trial.name] = action.trial.tokens
                continue
            if isinstance(action, End):
                return action.reason
            assert isinstance(action, Wait)
            name = min(running, key=lambda name: (running[name], name))
            running[name] += self.every
            self.time += 1.0
            tokens, number = running[name], self.engine.standing.trials[name].number
            loss = self.loss(number, tokens)
            perplexity = math.exp(loss) if loss < 100 else math.inf
            decision = self.engine.report(name, tokens=tokens, loss=loss, perplexity=perplexity, seconds=1.0)
            if decision != CONTINUE:
                del running[name]
            elif tokens >= BUDGET:
                self.engine.ended(name, "done")
                del running[name]
        return "stopped"

    def kinds(self, *kinds: str) -> list[tuple[str, int, Any]]:
        """(kind, number, rung) of the records of these kinds."""
        trials = self.engine.standing.trials
        return [(r["kind"], trials[r["trial"]].number, r.get("rung")) for r in self.records if r["kind"] in kinds]


def statuses(standing: Standing) -> dict[int, str]:
    return {trial.number: trial.status for trial in standing.drawn}


def test_asha_as_published() -> None:
    """Losses by number: trial 3 is the best, then 1, 2, 6, …; worked by hand after algorithm 2 of Li et al. 2020."""
    order = [3, 1, 2, 6, 4, 5, 7, 8, 9]
    curves = Curves(settings_of(), lambda number, tokens: 2.0 + order.index(number) - tokens / 1e6)
    assert curves.run() == ""
    assert curves.kinds("pause", "promote") == [
        ("pause", 1, 100),  # of one, the best third is nobody
        ("pause", 2, 100),
        ("promote", 3, 100),  # the best of three goes on at once
        ("pause", 3, 300),
        ("pause", 4, 100),
        ("pause", 5, 100),
        ("pause", 6, 100),  # of six, two may go on: 3 went, 1 goes
        ("promote", 1, 100),
        ("pause", 1, 300),
        ("pause", 7, 100),
        ("pause", 8, 100),
        ("pause", 9, 100),  # of nine, three: 2 goes
        ("promote", 2, 100),
        ("pause", 2, 300),  # there are three at 300 now: the best of them goes on
        ("promote", 3, 300),
    ]
    assert statuses(curves.engine.standing) == {n: "done" if n == 3 else "paused" for n in range(1, 10)}
    assert curves.engine.standing.num_tokens == 6 * 100 + 2 * 300 + 900


def test_the_best_comes_to_its_end_also_where_rungs_are_small() -> None:
    curves = Curves(settings_of(num_trials=2), lambda number, tokens: float(number))
    curves.run()
    assert curves.kinds("pause", "promote") == [
        ("pause", 1, 100), ("pause", 2, 100), ("promote", 1, 100), ("pause", 1, 300), ("promote", 1, 300),
    ]  # fmt: skip
    assert statuses(curves.engine.standing) == {1: "done", 2: "paused"}


def test_ties_go_to_the_earlier_trial() -> None:
    curves = Curves(settings_of(), lambda number, tokens: 2.0)
    curves.run()
    assert [number for _, number, rung in curves.kinds("promote") if rung == 100] == [1, 2, 3]
    assert [number for _, number, rung in curves.kinds("promote") if rung == 300] == [1]


def test_the_best_validation_of_a_trial_counts() -> None:
    """Trial 1 gets worse after its first validation; it is compared at 300 by the best up to there."""

    def loss(number: int, tokens: int) -> float:
        return {1: 1.0 if tokens == 100 else 9.0, 2: 2.0, 3: 3.0}.get(number, 5.0)

    curves = Curves(settings_of(), loss)
    curves.run()
    assert curves.kinds("promote")[-1] == ("promote", 1, 300)


def test_what_is_not_finite_is_lost_and_the_search_goes_on() -> None:
    curves = Curves(settings_of(num_trials=4), lambda number, tokens: math.inf if number == 2 else float(number))
    curves.run()
    assert statuses(curves.engine.standing) == {1: "done", 2: "lost", 3: "paused", 4: "paused"}


def test_hyperband_begins_brackets_at_each_rung() -> None:
    """With two rungs and η = 3: of each 9 + 5 + 3 trials, brackets 0, 1 and 2."""
    settings = settings_of(scheduler="hyperband", num_trials=17)
    curves = Curves(settings, lambda number, tokens: float(number))
    cycle = curves.engine.scheduler.cycle  # type: ignore[attr-defined]
    assert [cycle.count(bracket) for bracket in range(3)] == [9, 5, 3]
    curves.run()
    firsts: dict[int, int] = {}
    for _, number, rung in curves.kinds("pause"):
        firsts.setdefault(number, rung)
    by_bracket = {bracket: [n for n in range(1, 18) if cycle[n - 1] == bracket] for bracket in range(3)}
    # of bracket 0 its earliest three go on from 100, and one of them from 300; of bracket 1 one from 300
    lowest, middle, highest = by_bracket.values()
    assert {n: rung for n, rung in firsts.items() if n in lowest[1:]} == {n: 100 for n in lowest[1:] if n in firsts}
    assert all(firsts.get(number, 300) == 300 for number in middle)
    assert not set(highest) & set(firsts)
    done = {number for number, status in statuses(curves.engine.standing).items() if status == "done"}
    assert done == {lowest[0], middle[0], *highest}


def test_the_median_rule() -> None:
    """Constant losses 1, 2, 3, 4, …: a trial pauses if it is above the median of at least three others."""
    losses = {1: 5.0, 2: 2.0, 3: 3.0, 4: 4.0, 5: 2.5, 6: 1.0, 7: 9.0, 8: 9.0, 9: 9.0}
    curves = Curves(settings_of(scheduler="median"), lambda number, tokens: losses[number])
    curves.run()
    # 4 at 100: others 5, 2, 3, median 3 → pauses. 5: others 5, 2, 3, 4: 3.5 → goes on. 7: others 5 2 3 4 2.5 1: 2.75
    # paused 4 comes back when the median of the others is 4 or more: with 7 and 8, others 5 2 3 2.5 1 9 9: 3; never
    assert {number: status for number, status in statuses(curves.engine.standing).items() if number != 9} == {
        1: "done", 2: "done", 3: "done", 4: "paused", 5: "done", 6: "done", 7: "paused", 8: "paused",
    }  # fmt: skip


def test_a_trial_that_was_worse_than_the_median_comes_back() -> None:
    losses = {1: 1.0, 2: 1.0, 3: 1.0, 4: 2.0, 5: 7.0, 6: 7.0, 7: 7.0, 8: 7.0, 9: 7.0}
    curves = Curves(settings_of(scheduler="median"), lambda number, tokens: losses[number])
    curves.run()
    # others of 4 at 100: 1 1 1, then 7s: with four of them the median is 7, and 2 is no worse
    assert ("pause", 4, 100) in curves.kinds("pause")
    assert ("promote", 4, 100) in curves.kinds("promote")


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
    assert curves.run() == "search.max_hours is over"
    assert curves.time == pytest.approx(5, abs=1.5)
    curves.settings = settings_of(max_hours=1)
    curves.engine = curves.new_engine()
    assert curves.run() == ""
    assert len(curves.engine.standing.drawn) == 9


def test_the_best_are_confirmed_with_other_seeds() -> None:
    settings = settings_of(confirm={"top": 2, "seeds": 3}, scheduler="none", max_total_tokens=8_500)
    curves = Curves(settings, lambda number, tokens: number + tokens / 1e4, at_once=2)
    assert curves.run() == "search.max_total_tokens has no room for more"
    # 6 of 900 tokens are reserved, 3 trials of 900 have room beside them
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


def test_a_lost_process_is_tried_again_so_many_times() -> None:
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
    curves.engine = curves.new_engine()  # the same command again tries it again
    assert curves.run() == ""
    assert statuses(curves.engine.standing) == {1: "done"}


def test_concurrent_trials_are_as_many_as_there_is_room_for() -> None:
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
    """What a search did: its trials and what became of them, but for when it was begun anew."""
    names = ("kind", "trial", "rung", "tokens", "status", "settings")
    kept = [r for r in records if r["kind"] not in ("search", "sitting", "start")]
    drawn: dict[str, Any] = {r["trial"]: r["settings"] for r in records if r["kind"] == "start"}
    return [*(tuple(str(r.get(name)) for name in names) for r in kept), *map(str, drawn.items())]


@pytest.mark.parametrize("scheduler", ["none", "asha", "hyperband", "median", "asha_stopping"])
@pytest.mark.parametrize("algorithm", ["random", "tpe"])
def test_cut_after_every_record_it_goes_on_to_the_same_end(scheduler: str, algorithm: str) -> None:
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

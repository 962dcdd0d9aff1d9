"""Which trials pause, continue and end, against examples worked by hand."""

from __future__ import annotations

import math

from tests.search.curves import Curves, settings_of, statuses


def test_asha_as_published() -> None:
    """Trial 3 is the best, then 1, 2, 6, …; worked by hand after algorithm 2 of Li et al. 2020."""
    order = [3, 1, 2, 6, 4, 5, 7, 8, 9]
    curves = Curves(settings_of(), lambda number, tokens: 2.0 + order.index(number) - tokens / 1e6)
    assert curves.run() == ""
    assert curves.kinds("pause", "promote") == [
        ("pause", 1, 100),  # the best third of one trial is none
        ("pause", 2, 100),
        ("promote", 3, 100),  # the best of three continues at once
        ("pause", 3, 300),
        ("pause", 4, 100),
        ("pause", 5, 100),
        ("pause", 6, 100),  # of six, two may continue: 3 has, 1 does now
        ("promote", 1, 100),
        ("pause", 1, 300),
        ("pause", 7, 100),
        ("pause", 8, 100),
        ("pause", 9, 100),  # of nine, three: 2 continues
        ("promote", 2, 100),
        ("pause", 2, 300),  # three are at 300 now: the best of them continues
        ("promote", 3, 300),
    ]
    assert statuses(curves.engine.standing) == {n: "done" if n == 3 else "paused" for n in range(1, 10)}
    assert curves.engine.standing.num_tokens == 6 * 100 + 2 * 300 + 900


def test_the_best_is_trained_to_the_end_even_with_few_trials_at_a_rung() -> None:
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
    """Trial 1 gets worse after its first validation; at 300 it is compared by its best loss so far."""

    def loss(number: int, tokens: int) -> float:
        return {1: 1.0 if tokens == 100 else 9.0, 2: 2.0, 3: 3.0}.get(number, 5.0)

    curves = Curves(settings_of(), loss)
    curves.run()
    assert curves.kinds("promote")[-1] == ("promote", 1, 300)


def test_a_trial_whose_loss_is_not_finite_is_lost_and_the_search_goes_on() -> None:
    curves = Curves(settings_of(num_trials=4), lambda number, tokens: math.inf if number == 2 else float(number))
    curves.run()
    assert statuses(curves.engine.standing) == {1: "done", 2: "lost", 3: "paused", 4: "paused"}


def test_a_trial_whose_perplexity_alone_is_not_finite_is_lost_too() -> None:
    curves = Curves(settings_of(num_trials=1), lambda number, tokens: 800.0)  # of which the exponential overflows
    curves.run()
    assert statuses(curves.engine.standing) == {1: "lost"}


def test_hyperband_begins_brackets_at_each_rung() -> None:
    """With two rungs and η = 3: of every 17 trials, brackets 0, 1 and 2 get 9, 5 and 3."""
    settings = settings_of(scheduler="hyperband", num_trials=17)
    curves = Curves(settings, lambda number, tokens: float(number))
    cycle = curves.engine.scheduler.cycle  # type: ignore[attr-defined]
    assert [cycle.count(bracket) for bracket in range(3)] == [9, 5, 3]
    curves.run()
    firsts: dict[int, int] = {}
    for _, number, rung in curves.kinds("pause"):
        firsts.setdefault(number, rung)
    by_bracket = {bracket: [n for n in range(1, 18) if cycle[n - 1] == bracket] for bracket in range(3)}
    # of bracket 0 the earliest three continue from 100, and one of them from 300; of bracket 1 one from 300
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
    # 4 at 100: others 5, 2, 3, median 3 → pauses. 5: others 5, 2, 3, 4: 3.5 → continues. 7: others 5 2 3 4 2.5 1: 2.75
    # paused 4 comes back if the median of the others is 4 or more: with 7 and 8, others 5 2 3 2.5 1 9 9: 3; never
    assert {number: status for number, status in statuses(curves.engine.standing).items() if number != 9} == {
        1: "done", 2: "done", 3: "done", 4: "paused", 5: "done", 6: "done", 7: "paused", 8: "paused",
    }  # fmt: skip


def test_a_trial_is_not_among_those_whose_median_it_is_compared_with() -> None:
    """At 100 the others of 5 are 1, 2, 4 and 10: their median is 3, which it is not above. At 300 it is above 2."""
    losses = {1: 1.0, 2: 2.0, 3: 4.0, 4: 10.0, 5: 3.0}
    curves = Curves(settings_of(scheduler="median", num_trials=5), lambda number, tokens: losses[number])
    curves.run()
    assert curves.kinds("pause") == [("pause", 4, 100), ("pause", 5, 300)]


def test_a_trial_that_was_worse_than_the_median_comes_back() -> None:
    losses = {1: 1.0, 2: 1.0, 3: 1.0, 4: 2.0, 5: 7.0, 6: 7.0, 7: 7.0, 8: 7.0, 9: 7.0}
    curves = Curves(settings_of(scheduler="median"), lambda number, tokens: losses[number])
    curves.run()
    # others of 4 at 100: 1 1 1, then 7s: with four of them the median is 7, and 2 is no worse
    assert ("pause", 4, 100) in curves.kinds("pause")
    assert ("promote", 4, 100) in curves.kinds("promote")

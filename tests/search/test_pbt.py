"""Population-based training in the engine, against generations worked by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from jobs.terminal.search import sentence
from pipeline.config import SearchConfig
from pipeline.search import pictures
from pipeline.search.actions import End, Run
from pipeline.search.candidates import Candidates
from pipeline.search.domains import Domain
from pipeline.search.engine import Engine
from pipeline.search.importance import losses_at
from pipeline.search.leaderboard import as_csv, rows_of
from pipeline.search.lives import Life, exploits_of
from pipeline.search.schedulers import CONTINUE, milestones_of
from pipeline.search.schedulers.pbt import Pbt
from pipeline.search.space import Space
from pipeline.search.standing import Standing, Trial
from pipeline.training.monitor import Record

SPACE = Space({"optimizer.lr": Domain("uniform", [0.0, 1.0])})
BUDGET = 300


def settings_of(**changes: Any) -> SearchConfig:
    usual = {"algorithm": "random", "scheduler": "pbt", "num_trials": 4, "perturbation_interval_tokens": 100}
    return SearchConfig(**{**usual, "resample_probability": 0.0, **changes})


class Population:
    """A driver of one engine: its trials have the loss ``loss(number, tokens)``, and ``at_once`` run side by side."""

    def __init__(self, settings: SearchConfig, loss: Callable[[int, int], float], *, at_once: int = 1) -> None:
        self.settings, self.loss, self.at_once = settings, loss, at_once
        self.records: list[Record] = [{"kind": "search", "format": 2}]
        self.engine = self.new_engine()

    def new_engine(self) -> Engine:
        return Engine(
            self.settings, SPACE, BUDGET, records=list(self.records), write=lambda *new: self.records.extend(new),
            candidates=Candidates(), clock=lambda: 0.0,
        )  # fmt: skip

    def run(self, *, at_most: float = math.inf) -> None:
        """Run until the search ends or has ``at_most`` records; the trial that is least far reports next."""
        running: dict[str, int] = {}
        while len(self.records) < at_most:
            action = self.engine.next_action(self.at_once - len(running))
            if isinstance(action, Run):
                if action.trial.tokens >= BUDGET:  # it was cut off between its last report and its end
                    self.engine.ended(action.trial.name, "done")
                else:
                    running[action.trial.name] = action.trial.tokens
                continue
            if isinstance(action, End):
                return
            name = min(running, key=lambda name: (running[name], name))
            tokens = running[name] = running[name] // 100 * 100 + 100 + self.overshoot(name)
            trial = self.engine.standing.trials[name]
            loss = self.loss(trial.number, tokens // 100 * 100)
            decision = self.engine.report(name, tokens=tokens, loss=loss, perplexity=math.exp(loss), seconds=1.0)
            if decision == CONTINUE and tokens >= BUDGET:
                self.engine.ended(name, "done")
            if decision != CONTINUE or tokens >= BUDGET:
                del running[name]

    def overshoot(self, name: str) -> int:
        """How far past a milestone a trial reports: trials differ in this, as they do with different BPTTs."""
        return int(name[:3])

    def generations(self) -> list[Record]:
        return [record for record in self.records if record["kind"] == "generation"]


def test_generations_by_hand() -> None:
    # the fourth is the best by far, the second the worst
    population = Population(
        settings_of(), lambda number, tokens: {1: 2.0, 2: 3.0, 3: 2.5, 4: 1.0}[number] - tokens / 1e3
    )
    population.run()
    first, second = population.generations()
    trials = population.engine.standing.trials
    names = [trial.name for trial in population.engine.standing.drawn]
    for generation, rung in ((first, 100), (second, 200)):
        assert generation["rung"] == rung
        assert generation["promoted"] == names
        (exploit,) = generation["exploits"]
        assert (exploit["trial"], exploit["donor"], exploit["tokens"]) == (names[1], names[3], rung + 4)
    lr = trials[names[3]].settings["optimizer.lr"]
    assert first["exploits"][0]["settings"]["optimizer.lr"] in (lr * 0.8, min(1.0, lr * 1.2))
    # the second took twice from the fourth, whose settings never changed
    life = Life.of(trials[names[1]])
    assert life.settings == trials[names[3]].settings
    assert [change["tokens"] for change in life.changes] == [204]
    assert life.taken == [{"from": names[3], "tokens": 204}]
    assert life.overrides["train.changes"] == [{"tokens": 204, "settings": second["exploits"][0]["settings"]}]
    assert life.now == second["exploits"][0]["settings"]
    assert life.ancestry == "004 at 204"
    # up to there its past is the fourth's
    assert [report["tokens"] for report in trials[names[1]].reports] == [104, 204, 302]
    assert trials[names[1]].best_loss == pytest.approx(0.8)
    assert [trial.status for trial in trials.values()] == ["done"] * 4
    said = sentence(first, Standing.of(population.records), 4)
    assert said.startswith("at 100 tokens trial 2 takes the checkpoint of 4 and continues with optimizer.lr=")
    rows = rows_of(population.engine.standing)
    assert rows[0].trial == names[1] or rows[0].trial == names[3]
    assert as_csv(rows).splitlines()[0].endswith(",reason,taken")
    assert "004 at 204" in as_csv(rows)
    assert [exploit["tokens"] for exploit in exploits_of(population.records)] == [104, 204]


def test_a_life_holds_the_changes_of_its_donors() -> None:
    # at 100 the second takes the first's checkpoint, at 200 the first takes the second's
    def loss(number: int, tokens: int) -> float:
        return {(1, 100): 1.0, (2, 100): 2.0, (1, 200): 2.0, (2, 200): 1.0}.get((number, tokens), 1.5)

    population = Population(settings_of(num_trials=2, quantile_fraction=0.5), loss)
    population.run()
    one, two = population.engine.standing.drawn
    first, second = exploits_of(population.records)
    assert (first["trial"], first["donor"], second["trial"], second["donor"]) == (
        two.name,
        one.name,
        one.name,
        two.name,
    )
    life = Life.of(one)
    assert life.settings == one.settings
    assert life.changes == [
        {"tokens": 101, "settings": first["settings"]},
        {"tokens": 202, "settings": second["settings"]},
    ]
    assert life.ancestry == "001 at 101; 002 at 202"
    assert Life.of(two).changes == life.changes[:1]


@pytest.mark.parametrize("at_once", [2, 3, 4])
def test_a_generation_does_not_depend_on_how_many_run_side_by_side(at_once: int) -> None:
    def loss(number: int, tokens: int) -> float:
        return math.sin(7 * number + tokens)

    found = []
    for side_by_side in (1, at_once):
        population = Population(settings_of(num_trials=6), loss, at_once=side_by_side)
        population.run()
        found.append(population.generations())
    assert found[0] == found[1]
    assert len(found[0]) == 2
    assert all(len(generation["exploits"]) == 2 for generation in found[0])


def test_a_population_cut_off_after_any_record_ends_the_same() -> None:
    def loss(number: int, tokens: int) -> float:
        return math.sin(5 * number + tokens)

    whole = Population(settings_of(), loss)
    whole.run()
    kinds = ("generation", "report", "end")
    for cut in range(2, len(whole.records)):
        population = Population(settings_of(), loss)
        population.run(at_most=cut)
        del population.records[cut:]
        population.engine = population.new_engine()
        population.run()
        assert [r for r in population.records if r["kind"] in kinds] == [r for r in whole.records if r["kind"] in kinds]


def test_a_lost_trial_is_among_the_worst_and_continues_from_its_donor() -> None:
    def loss(number: int, tokens: int) -> float:
        return math.inf if number == 3 and tokens == 100 else float(number)

    population = Population(settings_of(), loss)
    population.run()
    trial = population.engine.standing.drawn[2]
    first = population.generations()[0]
    (exploit,) = first["exploits"]
    assert exploit["trial"] == trial.name
    assert exploit["loss"] is None
    assert exploit["donor_loss"] == 1.0
    assert trial.name in first["promoted"]
    assert trial.status == "done"
    assert [report["tokens"] for report in trial.reports] == [101, 203, 303]


def test_what_a_trial_reached_by_itself_is_compared_by_the_settings_that_were_drawn_for_it() -> None:
    def loss(number: int, tokens: int) -> float:
        return math.inf if number == 3 and tokens == 100 else number - tokens / 1e3

    population = Population(settings_of(quantile_fraction=0.5), loss)
    population.run()
    trials = population.engine.standing.drawn
    assert [exploit["trial"] for exploit in population.generations()[0]["exploits"]] == [trials[3].name, trials[2].name]
    found = losses_at(trials, 100)
    assert [found[trial.name] for trial in trials] == pytest.approx([0.9, 1.9, 3.9, 3.9])
    # at the second interval only those count that still had their own settings
    assert losses_at(trials, 200) == pytest.approx({trials[0].name: 0.8, trials[1].name: 1.8, trials[2].name: 1.8})


def test_a_trial_that_took_another_s_checkpoint_is_shown_with_its_settings_now() -> None:
    population = Population(settings_of(), lambda number, tokens: float(number))
    population.run()
    standing = population.engine.standing
    taker = standing.drawn[3]
    now, first = Life.of(taker).now["optimizer.lr"], taker.settings["optimizer.lr"]
    assert now != first
    report = {"kind": "report", "trial": taker.name, "tokens": 204, "loss": 1.0, "perplexity": 2.7, "rung": 200}
    assert f"optimizer.lr={now:.3g}:" in sentence(report, standing, 4)
    for place, axes in enumerate(pictures.against_result(SPACE, standing.drawn).axes):
        shown = [float(point[place]) for point in axes.collections[0].get_offsets()]
        assert now in shown
        assert first not in shown


def test_a_generation_waits_until_tokens_have_room_for_all() -> None:
    def loss(number: int, tokens: int) -> float:
        return math.sin(5 * number + tokens)

    whole, short = Population(settings_of(), loss), Population(settings_of(max_total_tokens=700), loss)
    whole.run()
    short.run()
    assert len(short.generations()) == 1
    short.settings = settings_of()
    short.engine = short.new_engine()
    short.run()
    assert short.generations() == whole.generations()


def test_no_trial_takes_from_one_that_is_no_better() -> None:
    population = Population(settings_of(), lambda number, tokens: 1.0)
    population.run()
    assert [generation["exploits"] for generation in population.generations()] == [[], []]
    assert [trial.status for trial in population.engine.standing.drawn] == ["done"] * 4


def test_settings_that_are_refused_are_perturbed_again_or_left() -> None:
    donor, taker = (Trial(name, number, {"optimizer.lr": 0.5}) for number, name in enumerate(("001", "002"), start=1))
    for trial in (donor, taker):
        trial.reports.append({"tokens": 100, "loss": float(trial.number)})

    def explored(why_not: Callable[[Mapping[str, Any]], str]) -> set[float]:
        schedulers = [Pbt(settings_of(seed=seed), [100], BUDGET) for seed in range(20)]
        found = [scheduler.exploit(taker, donor, 100, SPACE, why_not) for scheduler in schedulers]
        return {exploit["settings"]["optimizer.lr"] for exploit in found}

    assert explored(lambda settings: "") == {0.4, 0.6}
    assert explored(lambda settings: "too large" if settings["optimizer.lr"] > 0.5 else "") == {0.4}
    assert explored(lambda settings: "none") == {0.5}


def test_each_trial_explores_in_its_own_direction_at_each_interval() -> None:
    trials = [Trial(f"{number:03d}", number, {"optimizer.lr": 0.5}) for number in range(1, 13)]
    for trial in trials:
        trial.reports.append({"tokens": 100, "loss": float(trial.number)})
    scheduler = Pbt(settings_of(), [100, 200], BUDGET)

    def explored(taker: Trial, rung: int) -> float:
        exploit = scheduler.exploit(taker, trials[0], rung, SPACE, lambda settings: "")
        return float(exploit["settings"]["optimizer.lr"])

    assert {explored(trial, 100) for trial in trials[1:]} == {0.4, 0.6}
    assert {explored(trials[1], rung) for rung in range(100, 1200, 100)} == {0.4, 0.6}
    assert {explored(trials[1], 100) for _ in range(3)} < {0.4, 0.6}


def test_milestones() -> None:
    assert milestones_of(settings_of(), 300) == [100, 200]
    assert milestones_of(settings_of(), 301) == [100, 200]  # not one token before the end
    assert milestones_of(settings_of(), 350) == [100, 200, 300]
    assert milestones_of(settings_of(perturbation_interval_tokens=None), 1000) == list(range(100, 1000, 100))
    assert milestones_of(settings_of(perturbation_interval_tokens=None), 1009) == list(range(100, 1000, 100))

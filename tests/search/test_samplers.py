"""Draws: functions of the seed, their number and the journal; what is refused is drawn again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import islice
from typing import Any

import pytest

from pipeline import config as configuration
from pipeline.config import Config, SearchConfig
from pipeline.errors import UserError
from pipeline.search.candidates import Candidates, Drawn, as_key
from pipeline.search.first import first_settings
from pipeline.search.samplers import sampler_of
from pipeline.search.space import check_space
from pipeline.search.standing import Standing
from pipeline.training.monitor import Record

SPACE = {"optimizer.lr": {"loguniform": [1e-3, 1e-1]}, "model.hidden_size": [8, 16, 32], "model.cell": ["lstm", "gru"]}


def config_of(**search: Any) -> Config:
    changes = {f"search.{name}": value for name, value in {"space": SPACE, **search}.items()}
    return configuration.with_values(configuration.load(), changes)


def records_of(number: int, losses: Mapping[int, float], end: str | None, **settings: Any) -> list[Record]:
    """A trial with a report at each number of tokens, which is a rung; paused, running (None) or ended."""
    name = f"{number:03d}"
    values = {"optimizer.lr": 0.01 * number, "model.hidden_size": 8 * number, "model.cell": "lstm", **settings}
    records: list[Record] = [{"kind": "start", "trial": name, "number": number, "settings": values}]
    for tokens, loss in losses.items():
        report = {"kind": "report", "trial": name, "tokens": tokens, "loss": loss, "perplexity": math.exp(loss)}
        records.append({**report, "rung": tokens})
    if end == "paused":
        records.append({"kind": "pause", "trial": name, "rung": max(losses)})
    elif end is not None:
        records.append({"kind": "end", "trial": name, "status": end, "perplexity": None})
    return records


KNOWN = [
    *records_of(1, {100: 3.0, 300: 2.5, 900: 2.6}, "done"),
    *records_of(2, {100: 3.5}, "paused"),
    *records_of(3, {100: 3.2, 300: 9.0}, "lost", **{"model.hidden_size": 32}),
    *records_of(4, {}, None, **{"model.hidden_size": 16}),
    *records_of(5, {100: 2.9}, None, **{"model.hidden_size": 16}),
    *records_of(6, {}, "failed", **{"model.hidden_size": 16}),
    *records_of(7, {100: 2.8, 300: 2.7}, "stopped", **{"model.hidden_size": 12345}),
]


def test_the_study_holds_the_trials_of_the_journal() -> None:
    pytest.importorskip("optuna")
    from pipeline.search.samplers.tpe import Tpe

    config = config_of(algorithm="tpe")
    sampler = Tpe(config.search, check_space(config))
    study = sampler.study(Standing.of(KNOWN))
    found = [(trial.state.name, trial.value, trial.intermediate_values) for trial in study.trials]
    assert found == [
        ("COMPLETE", 2.5, {}),  # the best of a trial counts
        ("PRUNED", 3.5, {100: 3.5}),
        ("PRUNED", 3.5, {0: 3.5}),  # lost: as bad as the worst, and ranked last
        ("RUNNING", None, {}),
        ("PRUNED", 2.9, {100: 2.9}),  # it was promoted from its rung and runs
        ("PRUNED", 2.7, {300: 2.7}),  # the failed one says nothing
    ]
    assert study.trials[0].params == {"optimizer.lr": 0.01, "model.hidden_size": 0, "model.cell": 0}
    assert study.trials[5].params == {
        "optimizer.lr": 0.07,
        "model.cell": 0,
    }  # without the size, which is not in the space


@pytest.mark.parametrize("algorithm", ["random", "tpe"])
def test_a_draw_is_a_function_of_seed_number_and_journal(algorithm: str) -> None:
    if algorithm == "tpe":
        pytest.importorskip("optuna")

    def drawn(records: list[Record], number: int, seed: int, sampler: Any = None) -> list[dict[str, Any]]:
        config = config_of(algorithm=algorithm, seed=seed, startup_trials=2)
        sampler = sampler or sampler_of(config.search, check_space(config))
        draws = sampler.draws(Standing.of(records), number=number, num_before=number - 1)
        return list(islice(draws, 40))

    config = config_of(algorithm=algorithm, seed=1, startup_trials=2)
    used = sampler_of(config.search, check_space(config))
    for number in (9, 8, 11):  # what a sampler was asked before does not matter
        drawn(KNOWN, number, 1, used)
    assert drawn(KNOWN, 8, 1, used) == drawn(KNOWN, 8, 1)
    assert drawn(KNOWN, 8, 1) != drawn(KNOWN, 9, 1)
    assert drawn(KNOWN, 8, 1) != drawn(KNOWN, 8, 2)
    assert (drawn(KNOWN, 8, 1) != drawn(KNOWN[:-4], 8, 1)) == (algorithm == "tpe")
    space = check_space(config)
    for settings in drawn(KNOWN, 8, 1):
        assert all(space[path].contains(value) for path, value in settings.items())
        configuration.with_values(config, settings)


def test_the_estimator_draws_better_settings_than_chance() -> None:
    """(log lr − log 0.02)² + (16 is the best size) + (gru is better): later draws are better than chance."""
    pytest.importorskip("optuna")

    def loss(settings: Mapping[str, Any]) -> float:
        size, cell = settings["model.hidden_size"], settings["model.cell"]
        return math.log(settings["optimizer.lr"] / 0.02) ** 2 + 0.5 * (size != 16) + 0.5 * (cell != "gru")

    def later_draws(algorithm: str, seed: int) -> list[float]:
        config = config_of(algorithm=algorithm, seed=seed)
        sampler = sampler_of(config.search, check_space(config))
        records: list[Record] = []
        losses = []
        for number in range(1, 31):
            settings = next(sampler.draws(Standing.of(records), number=number, num_before=number - 1))
            losses.append(loss(settings))
            records += records_of(number, {900: losses[-1]}, "done", **settings)
        return losses[10:]

    seeds = (1, 2, 3)
    by_tpe, by_chance = ([later_draws(algorithm, seed) for seed in seeds] for algorithm in ("tpe", "random"))
    assert sum(map(sum, by_tpe)) < 0.7 * sum(map(sum, by_chance))
    assert max(map(min, by_tpe)) < 0.01


def draw_all(candidates: Candidates, config: Config, most: int = 100) -> list[Drawn]:
    """Draw until there are no more."""
    candidates.begin(config.search, sampler_of(config.search, check_space(config)), is_earlier=False)
    records: list[Record] = []
    drawn: list[Drawn] = []
    while len(drawn) < most and (found := candidates.draw(Standing.of(records))) is not None:
        drawn.append(found)
        trial = {"trial": str(found.number), "number": found.number, "settings": found.settings}
        records.append({"kind": "start", **trial, "origin": found.origin, "num_refused": found.num_refused})
    return drawn


def test_a_grid_goes_through_every_combination_once() -> None:
    config = config_of(algorithm="grid", space={"model.num_layers": [1, 2], "train.bptt": {"randint": [5, 8]}})
    drawn = draw_all(Candidates(first=[{"model.num_layers": 2, "train.bptt": 6}]), config)
    assert [(d.settings["model.num_layers"], d.settings["train.bptt"]) for d in drawn] == [
        (2, 6), (1, 5), (1, 6), (1, 7), (2, 5), (2, 7),
    ]  # fmt: skip
    assert [d.num_refused for d in drawn] == [0, 0, 0, 0, 0, 1]
    config = config_of(algorithm="grid", num_trials=3, space={"model.num_layers": [1, 2], "train.bptt": [5, 6]})
    assert len(draw_all(Candidates(), config)) == 3
    with pytest.raises(UserError, match=r"^search\.space\.optimizer\.lr: loguniform has no steps for search"):
        sampler_of(config_of(algorithm="grid").search, check_space(config_of()))


@pytest.mark.parametrize("algorithm", ["random", "tpe"])
def test_a_small_space_ends_when_everything_was_tried(algorithm: str) -> None:
    if algorithm == "tpe":
        pytest.importorskip("optuna")
    space = {"model.num_layers": [1, 2], "train.bptt": [5, 6, 7]}
    drawn = draw_all(Candidates(), config_of(algorithm=algorithm, num_trials=50, space=space))
    assert len(drawn) == 6
    assert len({str(d.settings) for d in drawn}) == 6


def test_refused_settings_are_drawn_again_and_counted() -> None:
    def why_not(settings: Mapping[str, Any]) -> str:
        return "" if settings["model.cell"] == "gru" else "it is not allowed"

    drawn = draw_all(Candidates(why_not), config_of(num_trials=12))
    everything = draw_all(Candidates(), config_of(num_trials=100))
    assert [d.settings for d in drawn] == [d.settings for d in everything if d.settings["model.cell"] == "gru"][:12]
    num_draws = [d.settings for d in everything].index(drawn[-1].settings) + 1
    assert sum(1 + d.num_refused for d in drawn) == num_draws > 15
    with pytest.raises(UserError, match=r"^search\.space: 1,000 draws in a row were refused, the last because never$"):
        draw_all(Candidates(lambda settings: "never"), config_of())


def test_the_default_settings_or_the_given_ones_are_tried_first() -> None:
    own = {"optimizer.lr": 2e-3, "model.hidden_size": 256, "model.cell": "lstm"}
    assert first_settings(config_of(), check_space(config_of())) == []  # the space does not hold a size of 256
    wider = {**SPACE, "model.hidden_size": {"randint": [8, 512]}}
    config = config_of(space=wider)
    assert first_settings(config, check_space(config)) == [own]
    config = config_of(space=wider, try_first=[{"optimizer.lr": "1e-2"}, {"model.cell": "gru"}])
    first = first_settings(config, check_space(config))
    assert first == [{**own, "optimizer.lr": 1e-2}, {**own, "model.cell": "gru"}]
    drawn = draw_all(Candidates(first=first), config)
    assert [d.settings for d in drawn[:2]] == first
    assert [d.origin for d in drawn[:3]] == ["tried first", "tried first", "drawn"]
    for entry, sentence in [
        ({"train.bptt": 3}, "search.try_first: number 1 has train.bptt, which search.space does not search"),
        ({"optimizer.lr": 3.0}, "search.try_first: number 1: optimizer.lr=3.0 is not in search.space.optimizer.lr"),
        ({"model.cell": "xyz"}, "search.try_first: number 1: model.cell: "),
    ]:
        config = config_of(space=wider, try_first=[entry])
        with pytest.raises(UserError) as refused:
            first_settings(config, check_space(config))
        assert str(refused.value).startswith(sentence)


def test_equal_numbers_are_the_same_settings_however_they_are_written() -> None:
    assert as_key({"train.clip": 2}) == as_key({"train.clip": 2.0})
    assert as_key({"train.clip": 2}) != as_key({"train.clip": 2.5})
    assert as_key({"model.tied": True}) != as_key({"model.tied": 1})
    space = {"optimizer.weight_decay": {"randint": [0, 3]}}
    config = config_of(space=space, num_trials=9)  # 0.0 is configured, 0 drawn
    drawn = draw_all(Candidates(first=first_settings(config, check_space(config))), config)
    assert sorted(float(d.settings["optimizer.weight_decay"]) for d in drawn) == [0.0, 1.0, 2.0]


def test_the_most_trials_that_are_drawn() -> None:
    def most(**search: Any) -> float:
        candidates = Candidates()
        candidates.begin(SearchConfig(**search), sampler_of(SearchConfig(), {}), is_earlier=False)
        return candidates.most

    assert most() == 8
    assert most(num_trials=3, algorithm="grid") == 3
    assert most(algorithm="grid") == most(max_total_tokens=9) == most(max_hours=1.5) == math.inf

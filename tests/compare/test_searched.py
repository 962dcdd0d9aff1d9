"""What the settings that a search found change in a comparison: the sizes of the models, and what they cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pipeline.compare import costs
from pipeline.compare.speed import Timing
from pipeline.config import Config
from pipeline.errors import UserError
from pipeline.model.language_model import LanguageModel
from pipeline.resources import Worker
from pipeline.search.standing import Standing
from tests.compare.driving import VALUES, Driver, comparison_of


def test_a_draw_far_from_equal_parameters_is_refused(make_config: Callable[..., Config]) -> None:
    """At the width of one layer, three layers would be compared as if they had as many parameters."""
    values = {**VALUES, "compare.tokens": 1_000, "compare.parameters": 5_000}
    for search in ({"model.num_layers": [1, 3]}, {"optimizer.lr": [0.1], "model.embedding_size": [64]}):
        with pytest.raises(UserError, match=r"^compare\.search: model\.\w+=\d+ brings lstm to [\d,]+ parameters, but"):
            comparison_of(make_config({**values, "compare.search": search}))


def test_a_draw_near_equal_parameters_has_its_own_size(make_config: Callable[..., Config]) -> None:
    values = {**VALUES, "compare.search": {"num_trials": 2, "model.layer_norm": [False, True]}}
    config = make_config({**values, "compare.tokens": 1_000, "compare.parameters": 200_000})
    driver = Driver(config, lambda settings: 2 - settings["model.layer_norm"])
    driver.run()
    for one in driver.comparison.sizes:
        own = driver.comparison.found(one, driver.standing)
        assert own == {"model.layer_norm": True}
        found = driver.comparison.with_own(one, own)
        model = LanguageModel(one.variant.config(config, {**one.settings, **own}).model, 30)
        assert found.size.parameters == model.num_parameters > one.size.parameters
        assert driver.comparison.with_own(one, {"optimizer.lr": 0.1}) == one


def test_costs_are_measured_with_the_settings_that_are_compared(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    search = {"num_trials": 6, "train.batch_size": [2, 4, 8], "optimizer.lr": [0.1, 0.2]}
    config = make_config({**VALUES, "compare.search": search, "compare.tokens": 1_000, "compare.parameters": 5_000})
    best = {"lstm": 8, "gru": 2}
    driver = Driver(config, lambda s: abs(s["train.batch_size"] - best[s["model.cell"]]) + s["optimizer.lr"])
    driver.run()
    settings = costs.settings_of(driver.comparison, driver.standing)
    keys = {one.name: costs.key_of(one) for one in driver.comparison.sizes}
    for one in driver.comparison.sizes:
        # rates are left out: costs that were measured stay valid if another one is found
        assert settings[keys[one.name]] == {**one.settings, "train.batch_size": best[one.name]}
    nothing = costs.settings_of(driver.comparison, Standing.of(driver.records[:1]))
    assert nothing == {keys[one.name]: one.settings for one in driver.comparison.sizes}
    measured: dict[str, int] = {}

    def noting(configs: Mapping[str, Config], *arguments: Any, **named: Any) -> dict[str, Timing]:
        measured.update({key: each.train.batch_size for key, each in configs.items()})
        return dict.fromkeys(configs, Timing(1.0, 1.0, 1.0))

    monkeypatch.setattr(costs, "training_times", noting)
    monkeypatch.setattr(costs, "training_peaks", lambda *arguments, **named: {})
    monkeypatch.setattr(costs, "token_times", noting)
    corpus: Any = SimpleNamespace(vocab_size=30)
    costs.measure(config, driver.comparison.sizes, settings, corpus, Worker(torch.device("cpu"), num_threads=1))
    assert measured == {keys[name]: size for name, size in best.items()}

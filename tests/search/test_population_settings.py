"""The settings that a population needs, and those with which none can be trained."""

from typing import Any

import pytest

from pipeline import config as configuration
from pipeline.errors import UserError
from pipeline.search.population import check_interval, check_population


@pytest.mark.parametrize(
    ("changes", "sentences"),
    [
        (
            {"search.space": {"model.hidden_size": [8, 16], "optimizer.lr": [0.1, 0.2]}},
            [r"^search\.space\.model\.hidden_size: search\.scheduler=pbt changes what .* cannot change in a running"],
        ),
        (
            {"search.space": {"train.bptt": [8, 16]}, "train.reset_state": "windows"},
            [r"train\.bptt cannot change if"],
        ),
        ({"search.num_trials": 1}, [r"^search\.num_trials: .* needs a population of at least 2, not 1$"]),
        (
            {"search.num_trials": None, "search.max_hours": 1.0},
            [r"^search\.num_trials: .* needs the size of its population, which search\.max_hours alone does not say$"],
        ),
        (
            {"train.changes": [{"tokens": 5, "settings": {"model.dropout": 0.5}}]},
            [r"^train\.changes: search\.scheduler=pbt makes them itself"],
        ),
    ],
)
def test_settings_that_no_population_can_be_trained_with_are_refused(
    changes: dict[str, Any], sentences: list[str]
) -> None:
    usual = {"search.scheduler": "pbt", "search.space": {"optimizer.lr": [0.1, 0.2]}}
    config = configuration.with_values(configuration.load(), {**usual, **changes})
    for expected in sentences:
        with pytest.raises(UserError, match=expected):
            check_population(config)
    check_population(configuration.with_values(config, {"search.scheduler": "asha"}))


def test_an_interval_must_lie_between_an_update_and_the_budget() -> None:
    config = configuration.with_values(configuration.load(), {"search.scheduler": "pbt"})
    for interval, sentence_ in (
        (5000, "is not below the 5,000 tokens"),
        (3334, "leaves less than half an interval of the 5,000 tokens"),
        (100, "is less than the 2,048 tokens of one"),
    ):
        wrong = configuration.with_values(config, {"search.perturbation_interval_tokens": interval})
        with pytest.raises(UserError, match=rf"^search\.perturbation_interval_tokens: {interval:,} {sentence_}"):
            check_interval(wrong, 5000)
    check_interval(config, 5000)
    check_interval(configuration.with_values(config, {"search.perturbation_interval_tokens": 3333}), 5000)

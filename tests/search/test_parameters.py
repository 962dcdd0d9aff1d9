"""Settings converted for Optuna and back; and its estimator draws only what the space holds."""

from collections import Counter
from itertools import islice
from typing import Any

import numpy as np
import pytest

from pipeline.config import SearchConfig
from pipeline.search.domains import Domain
from pipeline.search.parameters import distribution_of, parameter_of, value_of
from pipeline.search.samplers import sampler_of
from pipeline.search.space import Space
from tests.search.findings import findings

DOMAINS = [
    Domain("choice", [32, 8, 16]),
    Domain("choice", ["a", [8, 16], None]),
    Domain("choice", [True, False]),
    Domain("uniform", [0.5, 1.5]),
    Domain("loguniform", [1e-4, 1e-2]),
    Domain("quniform", [0.1, 0.7, 0.1]),
    Domain("qloguniform", [0.5, 8.0, 0.5]),
    Domain("randint", [3, 9]),
    Domain("lograndint", [2, 200]),
    Domain("qrandint", [8, 64, 8]),
]


@pytest.mark.parametrize("domain", DOMAINS, ids=lambda domain: f"{domain.kind}{domain.arguments}")
def test_a_value_survives_the_conversion_for_optuna_and_back(domain: Domain) -> None:
    distribution = distribution_of(domain)
    source = np.random.default_rng(1)
    for value in [domain.draw(source) for _ in range(50)]:
        parameter = parameter_of(domain, value)
        assert distribution._contains(distribution.to_internal_repr(parameter))
        assert value_of(domain, parameter) == value
    assert parameter_of(domain, "nothing") is None


def test_numbers_among_choices_have_their_order() -> None:
    assert [parameter_of(DOMAINS[0], value) for value in (8, 16, 32)] == [0, 1, 2]


def test_the_estimator_draws_only_what_the_space_holds() -> None:
    space: dict[str, Any] = {
        "model.head": ["softmax", "mixture"],
        "model.num_experts": {"lograndint": [2, 16], "when": {"model.head": "mixture"}},
        "model.dropout": {"quniform": [0.0, 0.5, 0.1]},
        "train.bptt": {"qrandint": [8, 64, 8]},
    }
    trials: list[Any] = []
    seen: Counter[str] = Counter()
    for number in range(1, 31):
        found = findings(space, trials)
        sampler = sampler_of(SearchConfig(algorithm="tpe", seed=3), found.space)
        settings, again = (
            next(islice(sampler.draws(found.standing, number=number, num_before=number - 1), 1)) for _ in range(2)
        )
        assert settings == again  # a function of the seed, the number and the journal
        assert found.space.contains(settings)
        seen[settings["model.head"]] += 1
        loss = settings.get("model.num_experts", 20) / 10 + settings["model.dropout"]
        trials.append((settings, [loss, loss, loss]))
    assert seen["mixture"] > 20  # it has learnt that these are better
    assert isinstance(found.space, Space)

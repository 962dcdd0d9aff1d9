"""What a search draws: the kinds of ranges, their bounds, conditions, a grid, and what is refused."""

import math
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.shared.early import check_searched_models
from pipeline import config as configuration
from pipeline.config import Config, SearchConfig
from pipeline.errors import UserError
from pipeline.search.domains import Domain
from pipeline.search.naming import describe
from pipeline.search.paths import absolute_with_space
from pipeline.search.rungs import rungs
from pipeline.search.space import Space, check_space, random_settings


def searching(space: dict[str, Any], **changes: Any) -> Config:
    return configuration.with_values(configuration.load(), {"search.space": space, **changes})


def space_of(space: dict[str, Any]) -> Space:
    return check_space(searching(space))


def drawn(domain: Domain, number: int = 3000) -> list[Any]:
    source = np.random.default_rng(3)
    return [domain.draw(source) for _ in range(number)]


def test_values_are_those_that_ray_tune_draws() -> None:
    from ray import tune
    from ray.tune.search.variant_generator import generate_variants

    theirs = {
        "optimizer.lr": tune.loguniform(5e-4, 1e-2),
        "model.hidden_size": tune.choice([8, [8, 16], 32]),
        "train.bptt": tune.randint(10, 100),
        "model.dropout": tune.uniform(0.0, 0.5),
        "train.batch_size": tune.lograndint(8, 100),
    }
    space = space_of(
        {
            "optimizer.lr": {"loguniform": [5e-4, "1e-2"]},
            "model.hidden_size": [8, [8, 16], 32],
            "train.bptt": {"randint": [10, 100]},
            "model.dropout": {"uniform": [0, 0.5]},
            "train.batch_size": {"lograndint": [8, 100]},
        }
    )
    source = np.random.default_rng(7)
    expected = [
        next(iter(generate_variants({"config": dict(theirs)}, random_state=source)))[1]["config"] for _ in range(50)
    ]
    found = list(islice(random_settings(space, seed=7), 50))
    assert found == expected
    assert {type(value) for settings in found for value in settings.values()} == {float, int, list}


@pytest.mark.parametrize(
    ("domain", "values"),
    [
        (Domain("randint", [1, 4]), [1, 2, 3]),
        (Domain("qrandint", [8, 32, 8]), [8, 16, 24, 32]),
        (Domain("qrandint", [1, 3, 1]), [1, 2, 3]),
        (Domain("quniform", [0.1, 0.4, 0.1]), [0.1, 0.2, 0.3, 0.4]),
        (Domain("lograndint", [1, 5]), [1, 2, 3, 4]),
        (Domain("qloguniform", [0.5, 2.0, 0.5]), [0.5, 1.0, 1.5, 2.0]),
        (Domain("choice", [[8, 8], [16, 8]]), [[8, 8], [16, 8]]),
    ],
)
def test_bounds_of_domains_with_steps(domain: Domain, values: list[Any]) -> None:
    assert domain.num_values == len(values)
    assert domain.listed == values
    assert sorted({str(value) for value in drawn(domain)}) == sorted(map(str, values))
    assert all(domain.contains(value) for value in values)
    assert not domain.contains(7)
    if domain.kind in ("qrandint", "quniform"):  # both ends are as likely as the rest
        assert max(Counter(drawn(domain)).values()) < 1.25 * min(Counter(drawn(domain)).values())


def test_the_logarithm_is_uniform() -> None:
    for domain in (Domain("loguniform", [1e-4, 1e-2]), Domain("lograndint", [10, 1000])):
        values = drawn(domain)
        middle = math.sqrt(domain.arguments[0] * domain.arguments[1])
        assert sum(value < middle for value in values) / len(values) == pytest.approx(0.5, abs=0.03)
        assert domain.low <= min(values) <= max(values) <= domain.high


def test_a_condition_decides_whether_a_setting_is_there() -> None:
    space = space_of(
        {
            "model.num_experts": {"randint": [2, 6], "when": {"model.head": "mixture"}},
            "model.head": ["softmax", "mixture"],
            "model.dropout": {"uniform": [0, 0.5], "when": {"model.num_experts": [3, 4], "model.head": ["mixture"]}},
        }
    )
    seen = Counter()
    for settings in islice(random_settings(space, seed=1), 300):
        experts = settings.get("model.num_experts")
        assert (experts is not None) == (settings["model.head"] == "mixture")
        assert ("model.dropout" in settings) == (experts in (3, 4))
        assert space.contains(settings)
        assert list(settings) == [path for path in space if path in settings]
        seen[len(settings)] += 1
    assert set(seen) == {1, 2, 3}
    with pytest.raises(UserError, match=r"is not in search\.space$"):
        space.check({"model.head": "mixture", "model.num_experts": 9})
    with pytest.raises(UserError, match=r"^model\.num_experts: missing$"):
        space.check({"model.head": "mixture"})
    assert not space.contains({"model.head": "mixture"})
    assert not space.contains({"model.head": "softmax", "model.num_experts": 3})
    assert space.check({"model.head": "softmax", "model.num_experts": 3}) == {"model.head": "softmax"}


def test_a_grid_has_each_combination_once() -> None:
    space = space_of(
        {
            "model.num_experts": {"choice": [2, 4], "when": {"model.head": "mixture"}},
            "model.head": ["softmax", "mixture"],
            "model.dropout": {"quniform": [0, 0.2, 0.1]},
        }
    )
    heads = [{"model.head": "softmax"}, {"model.num_experts": 2, "model.head": "mixture"},
             {"model.num_experts": 4, "model.head": "mixture"}]  # fmt: skip
    assert list(space.grid()) == [{**head, "model.dropout": dropout} for head in heads for dropout in (0.0, 0.1, 0.2)]
    endless = space_of({"model.dropout": {"uniform": [0, 0.2]}, "train.bptt": {"randint": [1, 3]}})
    with pytest.raises(UserError, match=r"^search\.space\.model\.dropout: uniform has no steps for .*=grid; list its"):
        endless.grid()


@pytest.mark.parametrize(
    ("space", "sentence"),
    [
        ({"model.hiden_size": [1, 2]}, "search.space.model.hiden_size: not a setting that can be searched"),
        ({"corpus.format": ["text"]}, "search.space.corpus.format: not a setting that can be searched"),
        (
            {"train.epochs": [1, 2]},
            "search.space.train.epochs: not a setting that can be searched: trials are compared at equal tokens",
        ),
        (
            {"data.layout": ["streams", "documents"]},
            "search.space.data.layout: not a setting that can be searched: documents and streams are validated",
        ),
        ({"train.max_steps": {"randint": [9, 99]}}, "search.space.train.max_steps: not a setting that can be searched"),
        ({"train.bptt": {"loguniform": 3}}, "search.space.train.bptt: must be a list or one of"),
        ({"train.bptt": {"normal": [1, 2]}}, "search.space.train.bptt: must be a list or one of"),
        ({"train.bptt": [0]}, "search.space.train.bptt: train.bptt: must be greater"),
        ({"train.bptt": []}, "search.space.train.bptt: has no value to choose from"),
        ({"train.bptt": {"choice": []}}, "search.space.train.bptt: has no value to choose from"),
        ({"optimizer.lr": {"uniform": ["low", 1]}}, "search.space.optimizer.lr: uniform takes two numbers"),
        ({"optimizer.lr": {"uniform": [1, 0.1]}}, "search.space.optimizer.lr: uniform goes from a lower to a higher"),
        ({"optimizer.lr": {"loguniform": [0, 1]}}, "search.space.optimizer.lr: loguniform takes numbers above 0"),
        ({"train.bptt": {"lograndint": [0, 9]}}, "search.space.train.bptt: lograndint takes numbers above 0"),
        ({"optimizer.lr": {"uniform": [False, True]}}, "search.space.optimizer.lr: uniform takes two numbers"),
        ({"train.bptt": [True]}, "search.space.train.bptt: train.bptt: must be a number, not true"),
        ({"train.bptt": {"randint": [1.5, 9]}}, "search.space.train.bptt: randint takes whole numbers"),
        ({"train.bptt": {"qrandint": [8, 32]}}, "search.space.train.bptt: qrandint takes two numbers and a step"),
        ({"train.bptt": {"qrandint": [8, 32, 0]}}, "search.space.train.bptt: qrandint takes a step above 0, not 0"),
        ({"train.bptt": {"qrandint": [8, 30, 8]}}, "needs multiples of its step, and 30 is not a multiple of 8"),
        ({"model.dropout": {"quniform": [0, 1, 0.1]}}, "search.space.model.dropout: model.dropout: must be"),
        ({"train.bptt": {"choice": [8], "when": {"model.head": "softmax"}}}, "when: model.head is not searched"),
        ({"train.bptt": {"choice": [8], "when": "softmax"}}, "when must name a searched setting and its values"),
        ({"train.bptt": {"choice": [8], "when": {"train.bptt": 8}}}, "when: a setting cannot be its own condition"),
        ({"train.bptt": {"choice": [8], "when": {"model.head": "mixture"}}, "model.head": ["softmax"]},
         "search.space.train.bptt: when: no trial has model.head='mixture'"),
        ({"train.bptt": {"choice": [8], "when": {"model.head": "mixed"}}, "model.head": ["softmax"]},
         "search.space.train.bptt: model.head: must be 'softmax'"),
        ({"train.bptt": {"choice": [8], "when": {"model.cell": "gru"}},
          "model.cell": {"choice": ["gru"], "when": {"train.bptt": 8}}}, "its condition depends on itself"),
    ],
)  # fmt: skip
def test_a_space_that_makes_no_sense(space: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError) as refused:
        space_of(space)
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("path", "meant"), [("train.lr", "optimizer.lr"), ("model.hiden_size", "model.hidden_size"), ("search.seed", "")]
)
def test_the_setting_that_was_meant_is_named_if_it_can_be_searched(path: str, meant: str) -> None:
    with pytest.raises(UserError, match=r"^search\.space\..*: not a setting that can be searched") as caught:
        space_of({path: [1, 2]})
    assert str(caught.value).partition("; did you mean ")[2] == (f"{meant}?" if meant else "")


def test_bounds_as_a_person_writes_them(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "search:\n  space:\n    optimizer.lr: {loguniform: [1e-4, 1e-2]}\n    optimizer.eps: [1e-8, 1e-6]\n"
        "    model.dropout: {uniform: [0, 5e-1]}\n    train.bptt: {randint: [1e1, 1e2]}\n"
    )
    domains = check_space(configuration.load(path))
    assert {name: domain.arguments for name, domain in domains.items()} == {
        "optimizer.lr": [1e-4, 1e-2],
        "optimizer.eps": [1e-8, 1e-6],
        "model.dropout": [0.0, 0.5],
        "train.bptt": [10, 100],
    }


def test_every_value_that_a_trial_may_draw_is_checked() -> None:
    space = {
        "optimizer.name": ["sgd", "adamw", "foo"],
        "model.hidden_size": {"randint": [-5, 20]},
        "model.dropout": {"uniform": [0.1, 1.5]},
        "train.bptt": {"randint": [1, 3]},
    }
    with pytest.raises(ValueError, match=r"search\.space") as refused:
        space_of(space)
    assert str(refused.value).splitlines() == [
        "search.space.optimizer.name: optimizer.name: must be 'sgd', 'adam', 'adamw', 'rmsprop' or 'muon', not 'foo'",
        "search.space.model.hidden_size: model.hidden_size: must be a whole number of at least 1, or a list of them, "
        "not -5",
        "search.space.model.dropout: model.dropout: must be less than 1, not 1.5",
    ]


def test_values_are_checked_together_with_the_others_that_a_trial_may_draw() -> None:
    space: dict[str, Any] = {"model.num_layers": [1, 3], "model.hidden_size": [8, [8, 9, 10]]}
    assert set(space_of(space)) == set(space)  # the configuration itself has 2 layers
    space["model.hidden_size"] = [8, [8, 9]]
    with pytest.raises(ValueError, match=r"^search.space.model.hidden_size: model.hidden_size: 2 sizes, \[8, 9\], for"):
        space_of(space)
    # a setting that is valid only with what its condition asks for
    space["model.hidden_size"] = [8]
    space["model.residual"] = {"choice": [True], "when": {"model.num_layers": 3}}
    assert set(space_of(space)) == set(space)


def test_rungs_are_tokens_well_below_the_budget() -> None:
    assert rungs(SearchConfig(), 9000) == [1000, 3000]
    assert rungs(SearchConfig(grace_tokens=2000, reduction_factor=2), 9000) == [2000, 4000, 8000]
    assert rungs(SearchConfig(grace_tokens=2000, reduction_factor=2), 8999) == [2000, 4000]
    # the budget is no multiple of nine: no trial pauses a few tokens before the end
    assert rungs(SearchConfig(), 9007) == [1000, 3000]
    assert rungs(SearchConfig(scheduler="asha_stopping"), 9007) == [1000, 3000, 9000]
    assert rungs(SearchConfig(), 2) == [1]
    assert rungs(SearchConfig(), 1) == []


def test_settings_as_a_person_types_them() -> None:
    assert describe({"optimizer.lr": 0.00123456, "model.hidden_size": 128}) == (
        "optimizer.lr=0.00123 model.hidden_size=128"
    )


def test_paths_that_are_searched_are_known_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = searching(
        {
            "train.teacher": [None, "big", "/else/big"],
            "train.initial_weights": {"choice": ["~/w"]},
            "train.teacher_weight": {"uniform": [0, 1], "when": {"train.teacher": ["big"]}},
            "model.cell": ["lstm"],
        },
        **{"search.try_first": [{"train.teacher": "big"}], "train.teacher": "big"},
    )
    found = absolute_with_space(config)
    big = str(tmp_path / "big")
    assert found.search.space == {
        "train.teacher": [None, big, "/else/big"],
        "train.initial_weights": {"choice": [str(Path.home() / "w")]},
        "train.teacher_weight": {"uniform": [0, 1], "when": {"train.teacher": [big]}},
        "model.cell": ["lstm"],
    }
    assert found.search.try_first == [{"train.teacher": big}]
    assert found.train.teacher == big
    assert check_space(found)["train.teacher"].listed == [None, big, "/else/big"]
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    with pytest.raises(UserError, match=r"^search\.space\.train\.teacher: big is relative, but a submitted job runs"):
        absolute_with_space(config)


def test_a_searched_teacher_that_is_not_there_is_refused_at_once(tmp_path: Path) -> None:
    config = searching({"train.teacher": [None, str(tmp_path / "none")]})
    with pytest.raises(UserError, match=r"^search\.space\.train\.teacher: .*none: no checkpoint there"):
        check_searched_models(config)

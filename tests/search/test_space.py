"""What ``search.space`` may say, and how what it says wrongly is told."""

from pathlib import Path

import pytest

from pipeline import config as configuration
from pipeline.config import SearchConfig
from pipeline.errors import UserError
from pipeline.search.naming import describe
from pipeline.search.rungs import rungs
from pipeline.search.space import check_space


def test_rungs_are_tokens_below_the_budget() -> None:
    assert rungs(SearchConfig(), 9000) == [1000, 3000]
    assert rungs(SearchConfig(grace_tokens=2000, reduction_factor=2), 9000) == [2000, 4000, 8000]


@pytest.mark.parametrize(
    ("space", "sentence"),
    [
        ({"model.hiden_size": [1, 2]}, "search.space.model.hiden_size: not a setting that can be searched"),
        ({"tokenizer.kind": ["char", "byte"]}, "search.space.tokenizer.kind: not a setting that can be searched"),
        ({"train.bptt": {"loguniform": 3}}, "search.space.train.bptt: must be a list or one of"),
        ({"train.bptt": {"normal": [1, 2]}}, "search.space.train.bptt: must be a list or one of"),
        ({"train.bptt": [0]}, "search.space.train.bptt: train.bptt: input should be greater"),
        ({"train.bptt": []}, "search.space.train.bptt: has no value to choose from"),
        ({"optimizer.lr": {"uniform": ["low", 1]}}, "search.space.optimizer.lr: uniform is between two numbers"),
        ({"optimizer.lr": {"uniform": [1, 0.1]}}, "search.space.optimizer.lr: uniform is from a lower to a higher"),
        ({"optimizer.lr": {"loguniform": [0, 1]}}, "search.space.optimizer.lr: loguniform is between numbers above 0"),
        ({"optimizer.lr": {"uniform": [False, True]}}, "search.space.optimizer.lr: uniform is between two numbers"),
        ({"train.bptt": [True]}, "search.space.train.bptt: train.bptt: must be a number, not true"),
        ({"train.bptt": {"randint": [1.5, 9]}}, "search.space.train.bptt: randint is between whole numbers"),
    ],
)
def test_a_space_that_makes_no_sense(space: dict[str, object], sentence: str) -> None:
    config = configuration.with_values(configuration.load(), {"search.space": space})
    with pytest.raises(ValueError, match=sentence.replace(".", r"\.")):
        check_space(config)


@pytest.mark.parametrize(
    ("path", "meant"), [("train.lr", "optimizer.lr"), ("model.hiden_size", "model.hidden_size"), ("search.seed", "")]
)
def test_what_was_meant_is_said_where_it_can_be_searched(path: str, meant: str) -> None:
    config = configuration.with_values(configuration.load(), {"search.space": {path: [1, 2]}})
    with pytest.raises(UserError, match=r"^search\.space\..*: not a setting that can be searched") as caught:
        check_space(config)
    assert str(caught.value).partition("; did you mean ")[2] == (f"{meant}?" if meant else "")


def test_bounds_as_a_person_writes_them(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "search:\n  space:\n    optimizer.lr: {loguniform: [1e-4, 1e-2]}\n    optimizer.eps: [1e-8, 1e-6]\n"
        "    model.dropout: {uniform: [0, 5e-1]}\n    train.bptt: {randint: [1e1, 1e2]}\n"
    )
    space = check_space(configuration.load(path))
    assert space["optimizer.lr"].arguments == [1e-4, 1e-2]
    assert space["optimizer.eps"].arguments == [1e-8, 1e-6]
    assert space["model.dropout"].arguments == [0.0, 0.5]
    assert space["train.bptt"].arguments == [10, 100]


def test_every_value_that_a_trial_may_draw_is_checked() -> None:
    space = {
        "optimizer.name": ["sgd", "adamw", "foo"],
        "model.hidden_size": {"randint": [-5, 20]},
        "model.dropout": {"uniform": [0.1, 1.5]},
        "train.bptt": {"randint": [1, 3]},
    }
    config = configuration.with_values(configuration.load(), {"search.space": space})
    with pytest.raises(ValueError, match=r"search\.space") as refused:
        check_space(config)
    assert str(refused.value).splitlines() == [
        "search.space.optimizer.name: optimizer.name: input should be 'sgd', 'adam', 'adamw', 'rmsprop' or 'muon', "
        "not 'foo'",
        "search.space.model.hidden_size: model.hidden_size: must be a whole number of at least 1, or a list of them, "
        "not -5",
        "search.space.model.dropout: model.dropout: input should be less than 1, not 1.5",
    ]


def test_values_are_checked_beside_the_others_that_a_trial_may_draw() -> None:
    space = {"model.num_layers": [1, 3], "model.hidden_size": [8, [8, 9, 10]]}
    config = configuration.with_values(configuration.load(), {"search.space": space})  # of 2 layers
    assert set(check_space(config)) == set(space)
    space["model.hidden_size"] = [8, [8, 9]]
    with pytest.raises(ValueError, match=r"^search.space.model.hidden_size: model.hidden_size: 2 sizes, \[8, 9\], for"):
        check_space(configuration.with_values(config, {"search.space": space}))


def test_settings_as_a_person_types_them() -> None:
    assert describe({"optimizer.lr": 0.00123456, "model.hidden_size": 128}) == (
        "optimizer.lr=0.00123 model.hidden_size=128"
    )

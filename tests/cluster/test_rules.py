"""The budget of a search's trials: the same number of tokens for each, whatever windows it draws."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline import config as configuration
from pipeline import launch, resources, run
from pipeline.cluster.rules import Rules, budget, with_budget, with_equal_tokens
from pipeline.cluster.train import Plan
from pipeline.config import Config
from pipeline.data.prepare import prepare_in_process
from pipeline.run import training_data
from pipeline.search.corpora import of_trial, prepared
from pipeline.search.leaderboard import Row, save
from pipeline.search.space import Space, check_space
from pipeline.training.directory import RunDirectory
from pipeline.training.horizon import total_steps, total_tokens
from tests.training.test_resume import assert_bitwise_equal, curve, end_state


def planned(config: Config, draws: list[dict[str, Any]]) -> tuple[int, list[tuple[int, int]]]:
    """The budget of the search of ``config``, and the tokens and steps of the trials with each of ``draws``."""
    corpus = prepare_in_process(config)
    trial = with_budget(config)
    tokens = budget(trial, corpus)
    trial = with_equal_tokens(trial, check_space(config), tokens, corpus)
    found = []
    for draw in draws:
        own = of_trial(trial, draw)
        data = training_data(own, corpus, rank=0, world_size=1)
        found.append((total_tokens(own.train, data), total_steps(own.train, data)))
    return tokens, found


@pytest.mark.parametrize("lengths", [[4, 16, 64], {"randint": [4, 65]}])
def test_trials_that_cut_documents_at_other_lengths_train_on_equal_tokens(
    make_config: Callable[..., Config], tmp_path: Path, lengths: Any
) -> None:
    (tmp_path / "lines.txt").write_text(("x" * 31 + "\n") * 40)
    of_documents = {"corpus.document": "line", "data.layout": "documents", "corpus.valid_fraction": 0}
    config = make_config(
        {"corpus.train": [str(tmp_path / "lines.txt")], **of_documents, "train.batch_size": 10, "train.bptt": 16,
         "train.epochs": 2, "search.space": {"train.bptt": lengths}}
    )  # fmt: skip
    tokens, found = planned(config, [{"train.bptt": length} for length in (4, 16, 64)])
    # 16 tokens of each of 40 lines, twice; a window has 10 lines
    assert tokens == 2 * 40 * 16 == 1280
    # 40 tokens a window, 160, and 320 with all of a line and its <eos>
    assert found == [(1280, 32), (1280, 8), (1280, 4)]


def test_a_budget_of_steps_is_one_of_tokens_where_windows_differ(make_config: Callable[..., Config]) -> None:
    settings = {"train.bptt": 10, "train.batch_size": 6, "train.max_steps": 12}
    space = {"train.bptt": [10, 20], "train.batch_size": [6, 12]}
    tokens, found = planned(
        make_config({**settings, "search.space": space}),
        [{"train.bptt": bptt, "train.batch_size": rows} for bptt, rows in ((10, 6), (20, 6), (20, 12))],
    )
    assert tokens == 12 * 60
    assert found == [(720, 12), (720, 6), (720, 3)]


@pytest.mark.parametrize("layout", ["streams", "documents"])
def test_trials_of_other_tokenizers_train_on_equal_tokens(
    make_config: Callable[..., Config], tmp_path: Path, layout: str
) -> None:
    (tmp_path / "lines.txt").write_text("the cat sat on the mat \n" * 100)
    settings = {
        "corpus.train": [str(tmp_path / "lines.txt")], "corpus.document": "line", "corpus.valid_fraction": 0,
        "data.layout": layout, "tokenizer.eos": "document", "train.batch_size": 5, "train.bptt": 30, "train.epochs": 2,
        "search.max_tokens": 4000, "search.space": {"tokenizer.kind": ["char", "word"], "train.batch_size": [2, 5]},
    }  # fmt: skip
    for limit in ({}, {"train.max_steps": 20}, {"train.max_words": 200}):
        config = make_config({**settings, **limit})
        trial = with_budget(config)
        tokens = budget(trial, prepare_in_process(config))
        trial = with_equal_tokens(trial, check_space(config), tokens, prepare_in_process(config))
        for kind in ("char", "word"):
            own = of_trial(trial, {"tokenizer.kind": kind, "train.batch_size": 5})
            data = training_data(own, prepared(own), rank=0, world_size=1)
            assert total_tokens(own.train, data) == tokens


def test_a_search_of_other_settings_keeps_the_length_that_its_configuration_says(
    make_config: Callable[..., Config],
) -> None:
    config = make_config({"train.max_steps": 12, "search.space": {"optimizer.lr": [0.01, 0.02]}})
    corpus = prepare_in_process(config)
    trial = with_budget(config)
    assert budget(trial, corpus) == 12 * 60
    assert with_equal_tokens(trial, check_space(config), 720, corpus) == trial
    # an epoch that ends before the number of tokens does
    short = configuration.with_values(trial, {"train.max_steps": None, "train.epochs": 1, "train.max_tokens": 10**9})
    assert budget(short, corpus) == training_data(short, corpus, rank=0, world_size=1).tokens_per_epoch


@pytest.mark.parametrize(
    ("settings", "is_said"),
    [
        ({"search.grace_tokens": 667}, True),
        ({"search.grace_tokens": 666}, False),
        ({}, False),
        ({"search.scheduler": "median", "search.grace_tokens": 1000}, True),
        ({"search.scheduler": "none"}, False),
    ],
)
def test_a_search_says_that_its_scheduler_has_no_rung(settings: dict[str, Any], is_said: bool) -> None:
    config = configuration.with_values(configuration.load(), settings)
    said = Rules(config, Space({}), 1000, [], Plan(1, 1, False)).not_compared()
    assert bool(said) is is_said
    assert all(sentence.startswith("search.grace_tokens: no rung is far enough below the 1,000 ") for sentence in said)


def test_the_best_settings_repeat_a_trial_whose_rate_depends_on_its_validations(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    config = make_config(
        {
            "search.max_tokens": 1800, "search.grace_tokens": 400, "search.space": {"optimizer.lr": [1.0, 3.0]},
            "optimizer.schedule": "plateau", "train.evaluate_every_steps": 7, "train.evaluate_at_tokens": [900],
        }
    )  # fmt: skip
    corpus = prepare_in_process(config)
    trial = with_budget(config)
    rules = Rules(trial, check_space(config), budget(trial, corpus), [], Plan(1, 1, False))
    milestones = rules.milestones(RunDirectory(tmp_path / "search"))
    assert milestones == [400, 1200]
    settings = {"optimizer.lr": 3.0}
    alone = configuration.with_values(of_trial(trial, settings), {"run.directory": str(tmp_path / "trial")})
    run.train(alone, resources.local_worker(alone), evaluate_at_tokens=milestones)
    (tmp_path / "search").mkdir()
    row = Row("001", settings, 1.0, 1800, 1.0, "done", "")
    save(tmp_path / "search", [row], trial, sample_tokens=0, pins=rules.pins())
    best = configuration.load(tmp_path / "search" / "best.yaml")
    assert best.train.evaluate_at_tokens == [400, 900, 1200]
    launch.train(best, launch.in_process)
    assert curve(best, "valid") == curve(alone, "valid")
    assert {step for step, _ in curve(best, "valid")} >= {7, 15, 20}  # 60 tokens an update
    assert_bitwise_equal(end_state(best), end_state(alone))
    assert curve(best, figure="lr")[-1][1] < 3.0
    population = configuration.with_values(trial, {"search.scheduler": "pbt"})
    assert "cluster.cpus_per_worker" in replace(rules, config=population).pins()
    assert "cluster.cpus_per_worker" not in rules.pins()

"""The budget of a search's trials: the same number of tokens for each, whatever windows it draws."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline import config as configuration
from pipeline.cluster.rules import budget, with_budget, with_equal_tokens
from pipeline.config import Config
from pipeline.data.prepare import prepare_in_process
from pipeline.run import training_data
from pipeline.search.corpora import of_trial
from pipeline.search.space import check_space
from pipeline.training.horizon import total_steps, total_tokens


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

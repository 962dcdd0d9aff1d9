"""A search over tiny models, its leaderboard, and what it hands to jobs.train."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import config as configuration
from pipeline import launch
from pipeline.cluster.search import describe, parse_space, rungs, search
from pipeline.config import Config, SearchConfig
from pipeline.training.monitor import read

SPACE = {"optimizer.lr": {"loguniform": [1e-3, 1e-1]}, "model.hidden_size": [4, 8]}


@pytest.mark.ray
def test_a_search_ranks_its_trials_and_its_best_trains(
    make_config: Callable[..., Config], tmp_path: Path, ray_cluster: None
) -> None:
    config = make_config(
        {"cluster.backend": "ray", "search.space": SPACE, "search.num_trials": 4, "search.max_tokens": 9000,
         "train.evaluate_every_steps": 1000}
    )  # fmt: skip
    said: list[str] = []
    rows = search(config, say=said.append)
    assert len(rows) == 4
    figures = [row.perplexity for row in rows]
    assert figures == sorted(figures)  # type: ignore[type-var]
    assert len(said) == 4
    directory = Path(str(config.run.directory))
    with (directory / "leaderboard.csv").open() as stream:
        table = list(csv.DictReader(stream))
    assert [float(line["perplexity"]) for line in table] == figures
    assert float(table[0]["optimizer.lr"]) == rows[0].settings["optimizer.lr"]
    # every trial was compared at the first rung, and the best went on to the end of its budget
    for row in rows:
        steps = [r["tokens"] for r in read(directory / "trials" / row.trial / "metrics.jsonl") if r["kind"] == "valid"]
        assert 1000 <= steps[0] < 1000 + 60
    assert max(row.tokens for row in rows) >= 9000
    best = configuration.load(directory / "best.yaml")
    assert best.model.hidden_size == rows[0].settings["model.hidden_size"]
    assert best.run.directory == str(directory / "best")
    local = configuration.with_values(best, {"cluster.backend": "local"})
    assert launch.train(local, launch.in_process)["perplexity"] == pytest.approx(figures[0], rel=1e-5)
    # the same command again has nothing left to do and says the same
    assert search(config) == rows
    with pytest.raises(ValueError, match="holds a search with other settings"):
        search(configuration.with_values(config, {"search.seed": 9}))


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
    ],
)
def test_a_space_that_makes_no_sense(space: dict[str, object], sentence: str) -> None:
    config = configuration.with_values(configuration.load(), {"search.space": space})
    with pytest.raises(ValueError, match=sentence.replace(".", r"\.")):
        parse_space(config)


def test_settings_as_a_person_types_them() -> None:
    assert describe({"optimizer.lr": 0.00123456, "model.hidden_size": 128}) == (
        "optimizer.lr=0.00123 model.hidden_size=128"
    )

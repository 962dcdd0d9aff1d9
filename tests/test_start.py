"""Runs and searches of versions without settings for initial weights."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline import launch
from pipeline.cluster.continued import check_same_search
from pipeline.cluster.search import settings_of
from pipeline.config import Config, ModelConfig
from pipeline.config.start import OF_THE_START, starts_as_before
from pipeline.errors import Notice, UserError
from pipeline.training import checkpoint
from pipeline.training.directory import RunDirectory
from pipeline.training.resume import check_continues


def make_older(path: Path) -> None:
    """Remove the settings for initial weights from a saved configuration."""
    names = tuple(f"  {name.partition('.')[2]}:" for name in OF_THE_START)
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith(names)]
    assert len(kept) == len(lines) - len(OF_THE_START)
    path.write_text("".join(kept), encoding="utf-8")


@pytest.mark.parametrize(
    ("settings", "is_so"),
    [
        ({}, False),
        ({"input_gain": 1}, False),  # embeddings start larger
        ({"input_gain": 1, "embedding_range": 0.1}, True),
        ({"input_gain": 1, "tie_weights": True}, True),
        ({"tie_weights": True}, False),
        ({"init_range": 0.05}, True),
        ({"init_range": 0.05, "input_gain": 3}, False),
        ({"cell": "transformer"}, True),
    ],
)
def test_settings_with_which_weights_start_as_in_earlier_versions(settings: dict[str, Any], is_so: bool) -> None:
    assert starts_as_before(ModelConfig(**settings)) is is_so


def test_an_earlier_run_goes_on_whatever_the_settings_of_initial_weights(make_config: Callable[..., Config]) -> None:
    config = make_config({"train.max_steps": 3, "run.sample_tokens": 0})
    launch.train(config, launch.in_process)
    ((path, manifest),) = checkpoint.manifests(str(config.run.directory))
    other = make_config({"train.max_steps": 3, "run.sample_tokens": 0, "model.input_gain": 1})
    with pytest.raises(
        UserError, match=r"model\.input_gain: this run was started with None and cannot continue with 1"
    ):
        check_continues(path, manifest, other, fingerprints={})
    make_older(path / checkpoint.CONFIG)
    check_continues(path, manifest, other, fingerprints={})
    check_continues(path, manifest, config, fingerprints={})


def test_an_earlier_search_says_that_later_trials_start_differently(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    directory = RunDirectory(str(tmp_path / "search"))
    directory.path.mkdir()
    config = make_config({"run.directory": str(directory.path)})
    directory.config.write_text(settings_of(config), encoding="utf-8")
    check_same_search(directory, config)
    make_older(directory.config)
    with pytest.warns(Notice, match=r"^model\.input_gain: this search is of a version whose weights started as"):
        check_same_search(directory, config)
    same = {"run.directory": str(directory.path), "model.input_gain": 1, "model.embedding_range": 0.1}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_same_search(directory, make_config(same))

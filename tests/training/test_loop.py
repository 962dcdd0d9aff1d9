"""The horizon of a run, counted by hand, and what ends it early."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import config as configuration
from pipeline import launch
from pipeline.config import Config, TrainConfig
from pipeline.data.streams import Streams
from pipeline.training.horizon import step_reaching, total_steps
from pipeline.training.monitor import read


def streams() -> Streams:
    """101 tokens in 4 streams of L = 25: windows of 10, 10 and 5, so 40, 40 and 20 tokens per step."""
    return Streams(np.zeros(101, dtype=np.uint16), batch_size=4, bptt=10)


@pytest.mark.parametrize(("tokens", "step"), [(1, 1), (40, 1), (41, 2), (80, 2), (81, 3), (100, 3), (101, 4), (300, 9)])
def test_step_that_reaches_a_number_of_tokens(tokens: int, step: int) -> None:
    assert step_reaching(tokens, streams()) == step


def test_the_first_of_three_limits_is_the_horizon() -> None:
    assert total_steps(TrainConfig(epochs=2), streams()) == 6
    assert total_steps(TrainConfig(epochs=2, max_steps=5), streams()) == 5
    assert total_steps(TrainConfig(epochs=2, max_steps=5, max_tokens=101), streams()) == 4
    assert total_steps(TrainConfig(epochs=1, max_steps=50, max_tokens=10_000), streams()) == 3


def test_the_horizon_counts_windows_of_random_lengths() -> None:
    random = Streams(np.zeros(2001, dtype=np.uint16), batch_size=2, bptt=20, length_seed=3)
    ends = [random.ends(epoch) for epoch in range(3)]
    assert total_steps(TrainConfig(epochs=3), random) == sum(map(len, ends))
    assert step_reaching(2 * 1000 + 1, random) == len(ends[0]) + 1
    assert step_reaching(2 * (1000 + int(ends[1][4])), random) == len(ends[0]) + 5


def test_the_learning_rate_is_proportional_to_the_length_of_the_window(make_config: Callable[..., Config]) -> None:
    config = make_config(
        {"train.window_lengths": "random", "train.log_every_steps": 1, "optimizer.schedule": "constant"}
    )
    launch.train(config, launch.in_process)
    records = [r for r in read(Path(str(config.run.directory)) / "metrics.jsonl") if r["kind"] == "train"]
    tokens = np.diff([record["tokens"] for record in records], prepend=0)
    assert len(set(tokens)) > 5
    np.testing.assert_allclose([record["lr"] for record in records], 0.01 * (tokens / 6) / 10)


def test_validation_and_early_stopping(make_config: Callable[..., Config]) -> None:
    # a learning rate of almost zero: no validation after the first is better, so patience 2 ends the run at the third
    config = make_config(
        {"train.evaluate_every_steps": 4, "train.patience": 2, "optimizer.lr": 1e-30, "train.epochs": 5}
    )
    result = launch.train(config, launch.in_process)
    records = list(read(Path(str(config.run.directory)) / "metrics.jsonl"))
    assert [record["step"] for record in records if record["kind"] == "valid"] == [4, 8, 12]
    assert result["steps"] == 12
    assert result["checkpoint"].endswith("step-00000004")
    sentences: list[str] = []
    assert launch.train(config, launch.in_process, say=sentences.append)["steps"] == 12
    assert "ended by train.patience" in sentences[0]
    more = configuration.with_values(config, {"train.patience": 4})
    assert launch.train(more, launch.in_process)["steps"] == 20


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"run.sample_prompt": "Zebra"}, r"^run\.sample_prompt: the model's text has none of these characters: 'Z'"),
        ({"corpus.valid": "one", "corpus.valid_fraction": 0.0}, r"^corpus\.valid: a single token"),
    ],
)
def test_mistakes_that_would_end_the_run_at_its_first_validation_are_found_before(
    make_config: Callable[..., Config], tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    (tmp_path / "one").write_text("a")
    if "corpus.valid" in changes:
        changes = {**changes, "corpus.valid": [str(tmp_path / "one")]}
    with pytest.raises(ValueError, match=sentence):
        launch.train(make_config(changes), launch.in_process)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_losses_are_means_over_tokens_and_the_last_short_window_counts_by_its_tokens(
    make_config: Callable[..., Config],
) -> None:
    config = make_config({"train.log_every_steps": 1})
    result = launch.train(config, launch.in_process)
    records = [r for r in read(Path(str(config.run.directory)) / "metrics.jsonl") if r["kind"] == "train"]
    assert [record["step"] for record in records] == list(range(1, result["steps"] + 1))
    assert records[-1]["tokens"] == result["tokens"]
    assert records[0]["seconds_left"] > records[-1]["seconds_left"] == 0
    assert records[0]["loss"] == pytest.approx(np.log(21), abs=0.5)  # about uniform over the 21 characters
    assert records[-1]["loss"] < records[0]["loss"] - 0.5

"""The length of a run computed by arithmetic, against a loop over its epochs."""

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from pipeline import launch, run, status
from pipeline.config import Config, TrainConfig
from pipeline.data.documents import Documents
from pipeline.data.prepare import prepare_in_process
from pipeline.data.shards import open_prepared
from pipeline.data.streams import Streams
from pipeline.data.windows import ArrayTokens, TrainingData
from pipeline.dry_run import dry_run
from pipeline.training import horizon
from pipeline.training.horizon import Horizon, step_reaching, total_steps


def by_loop(train: TrainConfig, data: TrainingData) -> int:
    """Count every window of every epoch, one after another, until a limit is met."""
    step = tokens = 0
    for epoch in range(train.epochs):
        before = 0
        for reached in data.tokens_reached(epoch).tolist():
            step, tokens, before = step + 1, tokens + reached - before, reached
            if step == train.max_steps or (train.max_tokens is not None and tokens >= train.max_tokens):
                return step
    return step


def some_data(source: random.Random) -> TrainingData:
    batch_size, bptt = source.randint(1, 4), source.randint(1, 30)
    if source.random() < 0.3:
        lengths = np.array([source.randint(1, 9) for _ in range(batch_size + source.randint(0, 20))])
        tokens = ArrayTokens(np.zeros(lengths.sum(), dtype=np.uint16), starts=np.cumsum(lengths) - lengths)
        return Documents(tokens, batch_size=batch_size, most_tokens=bptt, begin_id=0, seed=source.randint(0, 99))
    tokens = ArrayTokens(np.zeros(batch_size * bptt + 1 + source.randint(0, 300), dtype=np.uint16))
    seed = source.choice([None, 1, 2])
    return Streams(tokens, batch_size=batch_size, bptt=bptt, length_seed=seed)


def test_the_horizon_equals_that_of_a_loop_over_windows() -> None:
    source = random.Random(7)
    for _ in range(300):
        data = some_data(source)
        per_epoch = data.tokens_per_epoch
        around = [1, per_epoch - 1, per_epoch, per_epoch + 1, 2 * per_epoch, source.randint(1, 9 * per_epoch)]
        train = TrainConfig(
            epochs=source.randint(1, 8),
            max_steps=source.choice([None, 1, data.num_windows(), source.randint(1, 60)]),
            max_tokens=source.choice([None, *(tokens for tokens in around if tokens > 0)]),
        )
        assert total_steps(train, data) == by_loop(train, data), (train, data)


@pytest.mark.parametrize("length_seed", [None, 3])
def test_a_million_epochs_are_counted_without_a_loop(length_seed: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Streams(np.zeros(101, dtype=np.uint16), batch_size=2, bptt=10, length_seed=length_seed)
    asked: list[int] = []
    num_windows = Streams.num_windows
    monkeypatch.setattr(Streams, "num_windows", lambda self, epoch=0: asked.append(epoch) or num_windows(self, epoch))
    assert total_steps(TrainConfig(epochs=10**7, max_steps=20), data) == 20
    assert total_steps(TrainConfig(epochs=10**18, max_tokens=10**3), data) == step_reaching(1000, data)
    assert total_steps(TrainConfig(epochs=10**18, max_steps=20, max_tokens=10**18), data) == 20
    assert len(asked) < 100


def test_windows_of_random_lengths_are_estimated_only_beyond_the_epochs_that_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = Streams(np.zeros(2001, dtype=np.uint16), batch_size=2, bptt=20, length_seed=3)
    exact = [total_steps(TrainConfig(epochs=epochs), data) for epochs in (50, 51, 200)]
    monkeypatch.setattr(horizon, "COUNTED_EPOCHS", 50)
    counted, *estimated = [total_steps(TrainConfig(epochs=epochs), data) for epochs in (50, 51, 200)]
    assert counted == exact[0]
    assert estimated == pytest.approx(exact[1:], rel=0.01)
    assert counted < estimated[0]


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({}, "more train.epochs continue it"),
        ({"max_steps": 5}, "a larger train.max_steps continues it"),
        ({"max_tokens": 300, "max_steps": 50}, "a larger train.max_tokens continues it"),
        ({"max_tokens": 300, "max_steps": 5}, "only larger train.max_steps and train.max_tokens and train.epochs"),
        ({"max_steps": 10**9}, "more train.epochs continue it"),
    ],
)
def test_what_continues_a_finished_run_is_the_limit_that_ended_it(
    make_config: Callable[..., Config], limits: dict[str, int], said: str
) -> None:
    config = make_config({f"train.{name}": value for name, value in limits.items()})
    corpus = prepare_in_process(config)
    total = Horizon.of(config, partial(run.training_data, corpus=corpus, rank=0, world_size=1)).total_steps
    assert status.what_continues(config, corpus, total).startswith(said)


def test_numbers_of_tokens_beyond_the_end_are_said(make_config: Callable[..., Config]) -> None:
    numbers = {
        "train.changes": [
            {"tokens": tokens, "settings": {"model.dropout": share}} for tokens, share in ((240, 0.1), (300, 0.3))
        ],
        "train.evaluate_at_tokens": [60, 300, 301],
    }
    config = make_config({"train.max_steps": 5, **numbers})  # of 6 · 10 tokens each
    corpus = prepare_in_process(config)
    assert dry_run(config)["changes"] == [
        "at 240 tokens: model.dropout 0.0 → 0.1",
        "at 300 tokens (never: the run ends after 300): model.dropout 0.1 → 0.3",
    ]
    assert list(status.not_reached(config, corpus)) == [
        "train.changes: 300 tokens come too late: the run ends after 300",
        "train.evaluate_at_tokens: 301 tokens come too late: the run ends after 300",
    ]
    assert not list(status.not_reached(make_config({"train.max_steps": 100, **numbers}), corpus))[1:]


def test_warming_up_and_averaging_beyond_the_end_are_said(make_config: Callable[..., Config]) -> None:
    def said(**settings: Any) -> list[str]:
        values = {f"optimizer.{name}": value for name, value in settings.items()}
        return list(status.not_reached(make_config({**values, "train.epochs": 2}), corpus))

    corpus = prepare_in_process(make_config())
    steps = total_steps(
        make_config({"train.epochs": 2}).train, run.training_data(make_config(), corpus, rank=0, world_size=1)
    )
    too_long = f"optimizer.warmup_steps: {steps + 1:,} are more than the {steps:,} steps of the run"
    assert said(warmup_steps=steps + 1) == [too_long]
    assert said(warmup_steps=steps) == said(warmup_steps=steps + 1, schedule="1cycle") == []
    nothing = "optimizer.average_after_epochs: nothing is averaged, as the run has no step beyond epoch 2"
    assert said(average="tail", average_after_epochs=2) == [nothing]
    assert said(average="tail", average_after_epochs=1) == said(average_after_epochs=2) == []


def test_steps_of_the_rate_beyond_the_end_are_said(make_config: Callable[..., Config]) -> None:
    def said(**settings: Any) -> list[str]:
        values = {f"optimizer.{name}": value for name, value in {"schedule": "step", **settings}.items()}
        return list(status.not_reached(make_config({**values, "train.epochs": 2}), corpus))

    corpus = prepare_in_process(make_config())
    what = "the run has no step beyond epoch {}, so the rate does not fall there"
    assert said(decay_after_epochs=2) == [f"optimizer.decay_after_epochs: {what.format(2)}"]
    assert said(decay_at_epochs=[1, 2]) == [f"optimizer.decay_at_epochs: {what.format(2)}"]
    assert said(decay_at_epochs=[2, 5, 9]) == [f"optimizer.decay_at_epochs: {what.format('2 and 2 more')}"]
    assert said(decay_after_epochs=1) == said(decay_at_epochs=[1]) == said(schedule="cosine") == []


def test_pruning_at_the_end_alone_is_said(make_config: Callable[..., Config]) -> None:
    def config(every_steps: int) -> Config:
        return make_config({"train.max_steps": 9, "prune.sparsity": 0.5, "prune.every_steps": every_steps})

    corpus = prepare_in_process(config(9))
    assert list(status.not_reached(config(8), corpus)) == []
    assert list(status.not_reached(config(9), corpus)) == [
        "prune.every_steps: 9 are not fewer than the 9 steps of the run, so all is pruned at once after the last one"
    ]


def test_numbers_of_words_that_get_no_checkpoint_are_said(make_config: Callable[..., Config]) -> None:
    def config(*numbers: int, **train: int) -> Config:
        return make_config({"train.checkpoint_at_words": [*numbers], **{f"train.{k}": v for k, v in train.items()}})

    launch.train(config(max_steps=20), launch.in_process)
    corpus = open_prepared(config().data.directory)
    counts = run.training_data(config(1), corpus, rank=0, world_size=1).words
    assert counts is not None
    read = counts.after(0, 20 * config().train.bptt)
    assert 100 < read < counts.per_epoch
    said: list[str] = []
    launch.train(config(read - 9, read, read + 99, 10**6, 10**7, epochs=1), launch.in_process, say=said.append)
    assert [sentence for sentence in said if "words" in sentence] == [
        f"train.checkpoint_at_words: {read - 9:,} and 1 more come too early: this run has read {read:,} words already",
        f"train.checkpoint_at_words: 1,000,000 and 1 more come too late: the run reads {counts.per_epoch:,} words",
    ]
    assert not list(status.not_reached(config(read + 99, epochs=1), corpus))  # for which there is one

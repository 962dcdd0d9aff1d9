"""A run whose settings change equals a run with the old settings, continued from there with the new ones."""

import math
import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline import config as configuration
from pipeline import launch, resources, run
from pipeline.config import Config, changes
from pipeline.data.prepare import prepare_in_process
from pipeline.data.shards import open_prepared
from pipeline.data.streams import Streams
from pipeline.data.windows import ArrayTokens
from pipeline.errors import UserError
from pipeline.training import checkpoint
from pipeline.training.horizon import Horizon, tokens_after, total_steps
from pipeline.training.monitor import read
from pipeline.training.step import TrainingStep
from tests.training.ranks import Plan, train_on_ranks
from tests.training.test_resume import assert_bitwise_equal, curve, end_state, interrupt_after

SHORT = {"train.max_steps": 60, "train.epochs": 1, "train.checkpoint_every_steps": 17, "train.log_every_steps": 3}
ALL_DROPOUTS = {f"model.{kind}_dropout": 0.2 for kind in ("input", "hidden", "output", "embedding", "weight")}

# settings of a run, and what they change to
LIVES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "adamw": (
        {"optimizer.weight_decay": 0.1, "model.dropout": 0.1},
        {"optimizer.lr": 0.003, "optimizer.weight_decay": 0.3, "optimizer.beta2": 0.9, "model.dropout": 0.4},
    ),
    "dropouts and penalties": (ALL_DROPOUTS, {**dict.fromkeys(ALL_DROPOUTS, 0.4), "train.activation_penalty": 1.0}),
    "bptt": ({}, {"train.bptt": 7}),
    "bptt, longer, of random lengths": ({"train.window_lengths": "random", "train.bptt": 8}, {"train.bptt": 16}),
    "momentum from nothing, averaged": (
        {"optimizer.name": "sgd", "optimizer.average": "exponential"},
        {"optimizer.momentum": 0.9, "optimizer.average_decay": 0.5},
    ),
    "clipping from the norm to a percentile": (
        {"train.clip_norm": 0.1, "train.clip_history": 20},
        {"train.clip_norm": None, "train.clip_percentile": 40.0, "train.clip_value": 0.05},
    ),
    "muon, tail": (
        {"optimizer.name": "muon", "optimizer.average": "tail", "optimizer.average_after_epochs": 0},
        {"optimizer.muon_momentum": 0.5, "optimizer.lr": 0.002, "optimizer.schedule": "constant"},
    ),
    "rows to a whole gradient": (
        {"optimizer.name": "sgd", "train.bptt": 1, "train.batch_size": 2},
        {"optimizer.weight_decay": 0.1},
    ),
}


def at(config: Config, directory: Path, *changed: tuple[int, dict[str, Any]]) -> Config:
    listed = [{"tokens": tokens, "settings": settings} for tokens, settings in changed]
    return configuration.with_values(config, {"run.directory": str(directory), "train.changes": listed})


def changes_in(directory: Path) -> list[tuple[int, int, str]]:
    """Step, tokens and text of each change in the record of a run."""
    records = [record for record in read(directory / "metrics.jsonl") if record["kind"] == "change"]
    return [(record["step"], record["tokens"], record["text"]) for record in records]


@pytest.mark.parametrize("name", LIVES)
def test_a_change_is_a_checkpoint_continued_with_other_settings(
    make_config: Callable[..., Config], tmp_path: Path, name: str
) -> None:
    before, after = LIVES[name]
    config = make_config({**SHORT, **before})
    prepare_in_process(config)
    broken = at(config, tmp_path / "broken")
    interrupt_after(broken, 23)
    tokens = checkpoint.manifests(tmp_path / "broken")[-1][1]["tokens"]
    whole = at(config, tmp_path / "whole", (tokens, after))
    launch.train(whole, launch.in_process)
    launch.train(at(broken, tmp_path / "broken", (tokens, after)), launch.in_process)
    assert_bitwise_equal(end_state(whole), end_state(broken))
    assert curve(whole) == curve(broken)
    assert curve(whole, "valid") == curve(broken, "valid")
    said = changes_in(tmp_path / "whole")
    assert len(said) == 1
    assert all(path in said[0][-1] for path in after)
    assert changes_in(tmp_path / "broken") == said  # that stopped there
    # and it did change something
    plain = at(config, tmp_path / "plain")
    launch.train(plain, launch.in_process)
    assert curve(plain)[6] == curve(whole)[6]  # step 21
    assert curve(plain)[-1] != curve(whole)[-1]


CHANGED = (
    (400, {"optimizer.lr": 0.02, "model.dropout": 0.1}),
    (1210, {"train.bptt": 7, "optimizer.weight_decay": 0.2}),
    (2000, {"train.bptt": 13, "train.clip_norm": 0.05, "model.dropout": 0.0}),
)
SEVERAL = {**SHORT, "model.dropout": 0.3, "train.precision": "float64", "train.evaluate_at_tokens": [1000, 1215]}


@pytest.mark.parametrize("world_size", [1, 2])
def test_resuming_across_changes_is_bitwise_equal(
    make_config: Callable[..., Config], tmp_path: Path, world_size: int
) -> None:
    config = make_config({**SEVERAL, "train.batch_size": 5})
    prepare_in_process(config)
    whole, broken = at(config, tmp_path / "whole", *CHANGED), at(config, tmp_path / "broken", *CHANGED)
    # before a change, at the very step of one, and after all of them
    stops = (3, 5, 17, 10, 3) if world_size == 1 else (1, 2, 5, 2)
    if world_size == 1:
        launch.train(whole, launch.in_process)
        for num_steps in stops:
            interrupt_after(broken, num_steps)
        launch.train(broken, launch.in_process)
    else:
        train_on_ranks(2, Plan(whole), *(Plan(broken, stop_after=number) for number in stops), Plan(broken))
    assert curve(whole) == curve(broken)
    assert curve(whole, "valid") == curve(broken, "valid")
    assert_bitwise_equal(end_state(whole), end_state(broken))
    assert changes_in(tmp_path / "whole") == changes_in(tmp_path / "broken")
    assert len(changes_in(tmp_path / "whole")) == 3


def test_a_changing_run_does_not_depend_on_the_number_of_workers(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    config = make_config({**SEVERAL, "train.batch_size": 5, "model.dropout": 0.0, "model.output_dropout": 0.2})
    prepare_in_process(config)
    changed = [(400, {"optimizer.lr": 0.02, "model.output_dropout": 0.4}), (1210, {"train.bptt": 7})]
    one, two = at(config, tmp_path / "one", *changed), at(config, tmp_path / "two", *changed)
    launch.train(one, launch.in_process)
    train_on_ranks(2, Plan(two))
    for kind in ("train", "valid"):
        expected, found = curve(one, kind), curve(two, kind)
        assert [step for step, _ in found] == [step for step, _ in expected]
        assert [loss for _, loss in found] == pytest.approx([loss for _, loss in expected], rel=1e-10)


def test_another_bptt_loses_and_repeats_no_token(
    make_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config({"train.epochs": 2, "run.sample_tokens": 0})
    prepare_in_process(config)
    changed = [(1000, {"train.bptt": 23}), (3001, {"train.bptt": 4}), (20_000, {"train.bptt": 50})]
    seen: list[torch.Tensor] = []
    states: list[Any] = []
    call = TrainingStep.__call__

    def recording(self: TrainingStep, inputs: torch.Tensor, targets: Any, state: Any, **named: Any) -> Any:
        seen.append(inputs)
        states.append(state)
        result = call(self, inputs, targets, state, **named)
        states.append(result[2])
        return result

    monkeypatch.setattr(TrainingStep, "__call__", recording)
    launch.train(at(config, tmp_path / "run", *changed), launch.in_process)
    tokens = open_prepared(str(config.data.directory)).splits["train"]
    data = Streams.of(tokens, config.train)
    length = data.tokens_per_stream
    streams = torch.from_numpy(tokens.rows(np.arange(6) * length, length)).T  # (L, B)
    assert torch.equal(torch.cat(seen), torch.cat([streams, streams]))
    assert {len(window) for window in seen} >= {10, 23, 4, 50}
    # each window begins with the state that the last one left, except at the beginning of an epoch
    blank = [index for index, (end, begin) in enumerate(pairwise(states)) if index % 2 and not begin[0].any()]
    assert len(blank) == 1
    carried = [(states[i], states[i + 1]) for i in range(1, len(states) - 1, 2) if i not in blank]
    assert all(torch.equal(a, b) for end, begin in carried for a, b in zip(end, begin, strict=True))


def test_the_schedule_counts_windows_of_the_first_length(make_config: Callable[..., Config], tmp_path: Path) -> None:
    config = make_config({"optimizer.schedule": "cosine", "train.log_every_steps": 1, "train.max_tokens": 6000})
    prepare_in_process(config)
    plain, halved = at(config, tmp_path / "plain"), at(config, tmp_path / "halved", (1800, {"train.bptt": 5}))
    doubled = at(config, tmp_path / "doubled", (1800, {"train.bptt": 20, "optimizer.lr": 0.02}))
    for each in (plain, halved, doubled):
        launch.train(each, launch.in_process)

    def rates(directory: str) -> dict[int, float]:
        """Number of tokens before the update → its learning rate."""
        records = [r for r in read(tmp_path / directory / "metrics.jsonl") if r["kind"] == "train"]
        starts = [0, *(record["tokens"] for record in records)]
        return dict(zip(starts, (record["lr"] for record in records), strict=False))

    usual = rates("plain")
    assert list(usual) == list(range(0, 6000, 60))
    for step, tokens in enumerate(usual):
        assert usual[tokens] == pytest.approx(0.01 * (1 + math.cos(math.pi * step / 100)) / 2)
    by_half = rates("halved")
    assert list(by_half) == [*range(0, 1800, 60), *range(1800, 6000, 30)]
    assert all(by_half[tokens] == usual[tokens // 60 * 60] for tokens in by_half)
    by_two = rates("doubled")
    # 1,800 tokens are 300 in each stream, a multiple of both lengths
    assert list(by_two) == [*range(0, 1800, 60), *range(1800, 6000, 120)]
    assert all(by_two[tokens] == usual[tokens] * (2 if tokens >= 1800 else 1) for tokens in by_two)


def test_the_horizon_with_changes_equals_that_of_a_loop_over_windows() -> None:
    source = random.Random(3)
    for _ in range(50):
        batch_size, bptt = source.randint(1, 4), source.randint(1, 20)
        tokens = ArrayTokens(np.zeros(batch_size * 30 + 1 + source.randint(0, 300), dtype=np.uint16))
        places = sorted(source.sample(range(1, 1500), source.randint(0, 3)))
        settings = {
            "train.bptt": bptt,
            "train.batch_size": batch_size,
            "train.epochs": source.randint(1, 4),
            "train.max_tokens": source.choice([None, source.randint(1, 1200)]),
            "train.max_steps": source.choice([None, None, source.randint(1, 60)]),
            "train.window_lengths": source.choice(["fixed", "fixed", "random"]),
            "train.changes": [{"tokens": place, "settings": {"train.bptt": source.randint(1, 30)}} for place in places],
        }
        config = configuration.with_values(configuration.load(), settings)
        data = Streams.of(tokens, config.train)
        base = total_steps(config.train, data)
        ends = [tokens_after(step, data) for step in range(1, base + 1)]
        horizon = Horizon.of(config, lambda part, tokens=tokens: Streams.of(tokens, part.train))
        assert horizon.schedule_steps == base
        step = done = epoch = position = 0
        while done < ends[-1]:
            windows_done = sum(reached <= done for reached in ends)  # windows of the first length
            assert horizon.schedule_step(step=step, tokens=done) == windows_done, config.train
            now = Streams.of(tokens, changes.in_force(config, done).train)
            window = next(now.windows(position, epoch=epoch))
            step, done, position = step + 1, done + window.num_inputs, window.next_position
            if position >= now.epoch_end:
                epoch, position = epoch + 1, 0
        assert horizon.total_steps == step, config.train


def test_past_changes_must_be_those_that_the_run_made(make_config: Callable[..., Config], tmp_path: Path) -> None:
    config = make_config({**SHORT, "train.max_steps": 20})
    launch.train(at(config, tmp_path / "run", (300, {"optimizer.lr": 0.5})), launch.in_process)  # 1,200 tokens
    longer = configuration.with_values(config, {"train.max_steps": 30})
    refused: list[tuple[tuple[int, dict[str, Any]], ...]] = [
        (),
        ((300, {"optimizer.lr": 0.25}),),
        ((200, {"optimizer.lr": 0.5}),),
        ((300, {"optimizer.lr": 0.5}), (1199, {"optimizer.lr": 0.1})),
    ]
    for changed in refused:
        with pytest.raises(UserError, match=r"^train\.changes: at (200|300|1,199) tokens this run had"):
            launch.train(at(longer, tmp_path / "run", *changed), launch.in_process)
    later = at(longer, tmp_path / "run", (300, {"optimizer.lr": 0.5}), (1200, {"optimizer.lr": 0.1}))
    launch.train(later, launch.in_process)
    kept = configuration.load(checkpoint.find(tmp_path / "run", "last") / "config.yaml")
    assert kept.train.changes == later.train.changes


class Timer:
    """Stands in for the watchdog: whether it waits for a step."""

    waits = False

    def step(self) -> None:
        self.waits = True

    def rest(self) -> None:
        self.waits = False

    def close(self) -> None:
        self.rest()


def test_building_with_other_settings_is_not_taken_for_a_step_that_hangs(
    make_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = at(make_config({"train.max_steps": 9}), tmp_path / "run", (200, {"model.dropout": 0.4}))
    prepare_in_process(config)
    timer, seen = Timer(), []
    changed = run.changed

    def watched(*arguments: Any, **named: Any) -> Any:
        seen.append(timer.waits)
        return changed(*arguments, **named)

    monkeypatch.setattr(run, "changed", watched)
    run.train(config, resources.local_worker(config), watchdog=timer)  # type: ignore[arg-type]
    assert seen == [False]


def test_a_later_window_that_the_text_is_too_short_for_is_refused_at_once(make_config: Callable[..., Config]) -> None:
    changed = [{"tokens": 1800, "settings": {"train.bptt": 5000}}]
    with pytest.raises(UserError, match=r"^train\.changes: at 1,800 tokens: train\.batch_size: the training split has"):
        launch.train(make_config({"train.changes": changed}), launch.in_process)

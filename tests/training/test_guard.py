"""Bad numbers injected into a run: they never reach the weights, all ranks agree, and the run says what happened."""

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pipeline import config as configuration
from pipeline import launch, resources, run
from pipeline.config import Config
from pipeline.data.prepare import prepare_in_process
from pipeline.training import checkpoint, guard
from pipeline.training.guard import TrainingStoppedError
from pipeline.training.monitor import Record, read
from pipeline.training.step import WindowLoss
from tests.processes import on_ranks

FORWARD = WindowLoss.forward


def spoil(at_calls: tuple[int, ...], by: float) -> Callable[..., Any]:
    """A forward pass whose loss is multiplied by ``by`` at these calls, counted from 1."""
    calls = 0

    def forward(self: WindowLoss, *arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        nats, *rest = FORWARD(self, *arguments)
        return (nats * by if calls in at_calls else nats), *rest

    return forward


def records(config: Config, kind: str) -> list[Record]:
    return [r for r in read(Path(str(config.run.directory)) / "metrics.jsonl") if r["kind"] == kind]


def weights(config: Config, which: str = "last") -> list[torch.Tensor]:
    return [*checkpoint.load_model(checkpoint.find(str(config.run.directory), which)).model.parameters()]


def spoiled_rank(rank: int, values: dict[str, Any], by: float) -> None:
    if rank == 1:
        WindowLoss.forward = spoil((8,), by)  # type: ignore[method-assign]  # of which DDP settles with the first
    worker = resources.Worker(device=torch.device("cpu"), num_threads=1, rank=rank, world_size=2)
    try:
        run.train(configuration.validate(values), worker)
    except TrainingStoppedError as error:
        (Path(values["run"]["directory"]) / f"stopped-{rank}").write_text(str(error))


def train_spoiled(config: Config, by: float) -> None:
    prepare_in_process(config)
    on_ranks(spoiled_rank, 2, configuration.dump(config), by)


def test_overflow_on_one_rank_is_skipped_on_all_and_the_scale_halved(make_config: Callable[..., Config]) -> None:
    config = make_config({"train.precision": "fp16", "train.max_steps": 9, "train.log_every_steps": 1})
    train_spoiled(config, by=math.inf)
    scales = [record["loss_scale"] for record in records(config, "train")]
    assert scales == [2.0**16] * 6 + [2.0**15] * 3
    assert not list(Path(str(config.run.directory)).glob("stopped-*"))
    assert all(torch.isfinite(part).all() for part in weights(config))


def test_nan_on_one_rank_stops_all_and_leaves_the_weights_unharmed(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    config = make_config({"train.max_steps": 20, "train.checkpoint_every_steps": 6, "optimizer.schedule": "constant"})
    train_spoiled(config, by=math.nan)
    sentences = [(tmp_path / "run" / f"stopped-{rank}").read_text() for rank in (0, 1)]
    assert all("not finite at or shortly before step 10" in sentence for sentence in sentences)
    assert sentences[0].endswith("step-00000006)")  # only the rank that writes knows which checkpoint is complete
    good = configuration.with_values(config, {"run.directory": str(tmp_path / "good"), "train.max_steps": 6})
    launch.train(good, launch.in_process)
    for ours, theirs in zip(weights(config), weights(good), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_a_loss_that_rises_too_far_stops_the_run_before_it_is_saved(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config({"train.max_loss_rise": 1.0, "train.checkpoint_every_steps": 4, "train.max_steps": 30})
    monkeypatch.setattr(WindowLoss, "forward", spoil((11, 12), by=10.0))
    sentence = r"rose to .* at step 12 .*train\.max_loss_rise=1 above its lowest.*last good checkpoint is .*00000008"
    with pytest.raises(TrainingStoppedError, match=sentence):
        launch.train(config, launch.in_process)
    monkeypatch.setattr(WindowLoss, "forward", FORWARD)
    assert launch.train(config, launch.in_process)["steps"] == 30  # the same command continues from there


def test_an_overflow_in_fp16_does_not_hide_a_loss_that_rises_later(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config({"train.max_loss_rise": 1.0, "train.precision": "fp16", "train.max_steps": 30})
    monkeypatch.setattr(WindowLoss, "forward", spoil((8,), by=math.nan))
    launch.train(config, launch.in_process)
    losses = [record["loss"] for record in records(config, "train")]
    assert losses[1] is None
    found = checkpoint.manifests(str(config.run.directory))
    assert found[-1][1]["lowest_loss"] == min(loss for loss in losses if loss is not None)


def test_a_loss_of_zero_stays_the_lowest(make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> None:
    config = make_config({"train.max_steps": 10})
    monkeypatch.setattr(WindowLoss, "forward", spoil((1, 2, 3, 4, 5), by=0.0))
    launch.train(config, launch.in_process)
    assert [record["loss"] > 0 for record in records(config, "train")] == [False, True]
    assert checkpoint.manifests(str(config.run.directory))[-1][1]["lowest_loss"] == 0


@pytest.mark.parametrize("by", [math.nan, 10.0])
def test_one_update_is_undone_and_the_window_tried_again(
    make_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: float
) -> None:
    changes = {"train.max_loss_rise": 1.0, "train.on_bad_window": "undo", "train.max_steps": 10}
    config = make_config({**changes, "optimizer.schedule": "constant"})
    monkeypatch.setattr(WindowLoss, "forward", spoil((8,), by))
    launch.train(config, launch.in_process)
    (warning,) = records(config, "warning")
    assert "at step 8: undid the update before it" in warning["text"]
    # this equals a run whose seventh update was never made
    plain = configuration.with_values(config, {"run.directory": str(tmp_path / "plain"), "train.on_bad_window": "stop"})
    monkeypatch.setattr(WindowLoss, "forward", FORWARD)
    update = run.TrainingStep.update
    updates = 0

    def without_the_seventh(self: run.TrainingStep, lr: float, index: int) -> torch.Tensor:
        nonlocal updates
        updates += 1
        if updates != 7:
            return update(self, lr, index)
        self.optimizer.zero_grad()
        return torch.tensor(1.0)

    monkeypatch.setattr(run.TrainingStep, "update", without_the_seventh)
    launch.train(plain, launch.in_process)
    assert all(torch.equal(a, b) for a, b in zip(weights(config), weights(plain), strict=True))


def test_what_is_bad_is_judged_by_all_ranks_and_an_overflow_in_fp16_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def judged(precision: str, nats: float, norm: float) -> str:
        loop: Any = SimpleNamespace(
            step=SimpleNamespace(precision=precision),
            progress=SimpleNamespace(lowest_loss=2.0),
            train=SimpleNamespace(max_loss_rise=1.0),
        )
        return guard.badness(loop, (torch.tensor(nats), torch.tensor(norm), ()), 10)

    assert judged("float32", 29.0, 1.0) == ""  # 2.9 nats per target; the limit is 3
    assert judged("float32", 29.0, math.inf) == judged("fp16", math.nan, 1.0) == "a loss or gradient was not finite"
    assert judged("fp16", 29.0, math.inf) == ""
    monkeypatch.setattr(guard, "all_reduce_sum", lambda values: [value + 20.0 for value in values])  # another rank's
    assert judged("float32", 9.0, 1.0) == ""
    assert judged("float32", 15.0, 1.0) == "the loss rose to 3.500"


def test_a_loss_scale_that_has_fallen_below_one_stops_the_run(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config({"train.precision": "fp16", "train.max_steps": 30, "train.log_every_steps": 1})
    monkeypatch.setattr(WindowLoss, "forward", spoil(tuple(range(1, 99)), math.nan))
    # 17 halvings of 2^16
    with pytest.raises(TrainingStoppedError, match=r"was not finite at or shortly before step 17 "):
        launch.train(config, launch.in_process)


def test_a_window_that_is_bad_twice_stops_the_run(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config({"train.on_bad_window": "undo", "train.max_steps": 10})
    monkeypatch.setattr(WindowLoss, "forward", spoil((8, 9), math.nan))
    with pytest.raises(TrainingStoppedError, match=r"step 8, with the update before it undone as well \(there is no"):
        launch.train(config, launch.in_process)

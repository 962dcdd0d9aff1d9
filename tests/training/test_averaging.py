"""Averages of weights worked by hand, when they begin, and that the averaged model is scored and saved."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from pipeline import launch
from pipeline.config import Config, OptimizerConfig
from pipeline.data.prepare import prepare_in_process
from pipeline.data.shards import open_prepared
from pipeline.evaluate import evaluate, split_held_out
from pipeline.training import checkpoint
from pipeline.training.averaging import Averaging
from pipeline.training.resume import as_parts, as_saved


def averaging(**settings: Any) -> tuple[Averaging, torch.nn.Parameter]:
    weight = torch.nn.Parameter(torch.tensor([0.0], dtype=torch.float64))
    return Averaging(OptimizerConfig(**settings), [weight]), weight


def average_of(averages: Averaging, weight: torch.nn.Parameter) -> float:
    with averages.applied():
        return weight.item()


def move(averages: Averaging, weight: torch.nn.Parameter, *values: float) -> None:
    for value in values:
        with torch.no_grad():
            weight.fill_(value)
        averages.updated()


def test_exponential() -> None:
    averages, weight = averaging(average="exponential", average_decay=0.125)
    move(averages, weight, 1.0)  # decay 1/10: 0.1·0 + 0.9·1
    assert average_of(averages, weight) == pytest.approx(0.9)
    move(averages, weight, 2.0)  # 2/11 is above 0.125: 0.125·0.9 + 0.875·2
    assert average_of(averages, weight) == pytest.approx(1.8625)
    assert weight.item() == 2.0


def test_tail_is_the_mean_of_the_weights_after_its_epoch() -> None:
    averages, weight = averaging(average="tail", average_after_epochs=2)
    for epoch, values in enumerate([(5.0, 6.0), (7.0, 8.0), (1.0, 2.0), (6.0,)], start=1):
        move(averages, weight, *values)
        averages.epoch_ended(epoch)
    assert average_of(averages, weight) == pytest.approx((1 + 2 + 6) / 3)


def test_ntasgd_is_triggered_as_worked_by_hand() -> None:
    """n = 2. The best of all but the last two, before each validation: -, -, -, 10, 8, 7, 7; first above it is 7.5."""
    averages, weight = averaging(name="sgd", average="nonmonotonic", average_patience=2)
    begun = []
    for loss in (10.0, 8.0, 7.0, 9.0, 7.9, 7.0, 7.5):
        move(averages, weight, loss)
        averages.validated(loss)
        begun.append(averages.begun)
    assert begun == [False] * 6 + [True]
    assert average_of(averages, weight) == 7.5  # just the weights that triggered it, until there is an update
    move(averages, weight, 1.0, 3.0)
    assert average_of(averages, weight) == 2.0
    averages.validated(100.0)
    assert average_of(averages, weight) == 2.0


def test_ntasgd_begins_only_after_more_validations_than_its_patience() -> None:
    averages, _ = averaging(average="nonmonotonic", average_patience=5)
    for loss in (1.0, 2.0, 3.0, 4.0, 5.0, 6.0):
        averages.validated(loss)
    assert not averages.begun
    averages.validated(1.1)
    assert averages.begun


def test_averaging_continues_from_a_saved_state() -> None:
    averages, weight = averaging(average="tail", average_after_epochs=0)
    move(averages, weight, 1.0, 5.0)
    again, other = averaging(average="tail", average_after_epochs=0)
    other.data.fill_(5.0)
    again.load_state_dict(averages.state_dict())
    for each, its_weight in ((averages, weight), (again, other)):
        move(each, its_weight, 9.0)
        assert average_of(each, its_weight) == 5.0


def test_when_the_mean_begins_does_not_depend_on_a_stop() -> None:
    averages, _ = averaging(average="nonmonotonic", average_patience=2)
    for loss in (7.0, 9.0):
        averages.validated(loss)
    again, _ = averaging(average="nonmonotonic", average_patience=2)
    again.load_state_dict(averages.state_dict())
    for loss, begins in ((7.0, False), (8.0, True)):  # the first was before the last two, and 8 is above its 7
        again.validated(loss)
        assert again.begun is begins


def test_a_checkpoint_has_the_averaged_weights_and_keeps_the_trained_ones_apart() -> None:
    averages, weight = averaging(average="tail", average_after_epochs=0)
    move(averages, weight, 1.0, 5.0)
    states = {"weights": {"w": weight.detach()}, "averaging": averages.state_dict(), "progress": {"step": 2}}
    weights, state, facts = as_saved({**states, "interval": {"nats": 7.0, "tokens": 8}, "other": 9})
    assert weights["w"].item() == 3.0
    assert state["averaging"]["trained"][0].item() == 5.0
    assert (state["interval_nats"], state["interval_tokens"], state["other"], facts) == (7.0, 8, 9, {"step": 2})
    found = as_parts(weights, state, facts)
    assert found["weights"]["w"].item() == 5.0
    assert [mean.item() for mean in found["averaging"]["means"]] == [3.0]
    assert (found["interval"], found["other"], found["progress"]) == ({"nats": 7.0, "tokens": 8}, 9, {"step": 2})


def test_a_remembered_state_is_restored() -> None:
    averages, weight = averaging(average="tail", average_after_epochs=0)
    move(averages, weight, 1.0)
    remembered = copy.deepcopy(averages.state_dict())
    move(averages, weight, 100.0)
    averages.load_state_dict(remembered)
    move(averages, weight, 3.0)
    assert average_of(averages, weight) == 2.0


@pytest.mark.parametrize("average", ["tail", "nonmonotonic"])
def test_undoing_an_update_does_not_undo_the_beginning_of_the_mean(average: str) -> None:
    averages, weight = averaging(average=average, average_after_epochs=1, average_patience=1)
    averages.validated(1.0)
    averages.validated(1.0)
    move(averages, weight, 1.0)
    remembered = copy.deepcopy(averages.state_dict())
    move(averages, weight, 100.0)
    averages.epoch_ended(1)
    averages.validated(2.0)
    assert averages.begun
    weight.data.fill_(1.0)
    averages.load_state_dict(remembered)
    move(averages, weight, 3.0)
    assert average_of(averages, weight) == 3.0  # the mean of one update
    move(averages, weight, 5.0)
    assert average_of(averages, weight) == 4.0


def test_the_averaged_model_is_scored_and_saved(make_config: Callable[..., Config]) -> None:
    config = make_config(
        {
            "model.embedding_range": 0.1,  # with it the loss of this run goes up and down
            "model.input_gain": 1,
            "optimizer.name": "sgd",
            "optimizer.lr": 5.0,
            "optimizer.schedule": "constant",
            "optimizer.average": "nonmonotonic",
            "optimizer.average_patience": 1,
            "train.evaluate_every_steps": 10,
            "train.max_steps": 120,
            "train.keep_checkpoints": 50,
            "train.log_every_steps": 1,
        }
    )
    prepare_in_process(config)
    launch.train(config, launch.in_process)
    found = checkpoint.manifests(str(config.run.directory))
    averaged = [path for path, _ in found if checkpoint.load_state(path)["averaging"]["trained"]]
    assert averaged, "the trigger never came"
    loaded = checkpoint.load_model(averaged[-1])
    score = evaluate(
        loaded.model,
        split_held_out(open_prepared(config.data.directory), "valid"),
        streams=config.evaluate.streams,
        bptt=config.train.bptt,
        burn_in=config.evaluate.burn_in,
    )
    assert score.perplexity == pytest.approx(loaded.manifest["perplexity"], rel=1e-9)
    trained = checkpoint.load_state(averaged[-1])["averaging"]["trained"]
    assert not torch.equal(trained[0], next(iter(loaded.model.parameters())))

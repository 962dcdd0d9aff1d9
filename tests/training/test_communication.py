"""Ways to average gradients: the same mathematics, and the same numbers after a stop."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn

from pipeline import config as configuration
from pipeline.config import Config, DdpConfig, ModelConfig
from pipeline.data.prepare import prepare_in_process
from pipeline.data.shards import open_prepared
from pipeline.model.language_model import LanguageModel
from pipeline.training import checkpoint, communication
from pipeline.training.communication import Exchange
from pipeline.training.embedding_rows import EmbeddingRows, summed
from pipeline.training.times import StepTimes
from tests.training.ranks import Plan, train_on_ranks
from tests.training.test_resume import assert_bitwise_equal, curve, end_state

SHORT = {
    "train.max_steps": 30,
    "train.log_every_steps": 1,
    "train.checkpoint_every_steps": 9,
    "run.sample_tokens": 0,
    "optimizer.schedule": "constant",
}


@pytest.fixture
def variant(make_config: Callable[..., Config], tmp_path: Path) -> Callable[..., Config]:
    """A function: a name and settings → the settings of a short run of that name; all share one prepared corpus."""
    base = make_config(SHORT)
    prepare_in_process(base)

    def make(name: str, changes: dict[str, Any] | None = None) -> Config:
        return configuration.with_values(base, {"run.directory": str(tmp_path / name), **(changes or {})})

    return make


def test_three_ranks_continue_bitwise_in_a_fixed_order_of_sums(variant: Callable[..., Config]) -> None:
    ordered = {"ddp.communication": "ordered", "train.max_steps": 16}
    whole, broken = variant("whole", ordered), variant("broken", ordered)
    one_bucket = variant("one", ordered)
    usual = variant("usual", {"train.max_steps": 16})
    small = {"bucket_bytes": 2000}
    plans = [Plan(whole, **small), Plan(broken, stop_after=3, **small), Plan(broken, **small)]
    train_on_ranks(3, *plans, Plan(one_bucket), Plan(usual, **small))
    assert curve(whole) == curve(broken)
    assert_bitwise_equal(end_state(whole), end_state(broken))
    assert_bitwise_equal(end_state(whole), end_state(one_bucket))  # the buckets do not matter
    assert [loss for _, loss in curve(usual)] == pytest.approx([loss for _, loss in curve(whole)], rel=1e-4)


def test_two_ranks_exchange_gradients_in_each_of_the_ways(variant: Callable[..., Config]) -> None:
    sgd = {"optimizer.name": "sgd", "optimizer.lr": 1.0, "train.precision": "float64"}
    powersgd = {
        "ddp.communication": "powersgd",
        "ddp.powersgd_rank": 1,
        "ddp.powersgd_after_steps": 6,
    }
    full, ordered = variant("full"), variant("ordered", {"ddp.communication": "ordered"})
    bf16, low_rank = variant("bf16", {"ddp.communication": "bf16"}), variant("low", powersgd)
    broken = variant("broken", powersgd)
    dense, rows = variant("dense", sgd), variant("rows", {**sgd, "train.embedding_gradients": "rows"})
    accumulated = variant(
        "accumulated", {**sgd, "train.embedding_gradients": "rows", "train.gradient_accumulation_steps": 3}
    )
    whole = [Plan(config) for config in (full, ordered, bf16, low_rank, dense, rows, accumulated)]
    whole[3].bucket_bytes = 2000
    train_on_ranks(2, *whole, Plan(broken, stop_after=4, bucket_bytes=2000), Plan(broken, bucket_bytes=2000))
    losses = {
        name: [loss for _, loss in curve(config)]
        for name, config in {"full": full, "bf16": bf16, "low": low_rank, "dense": dense, "rows": rows}.items()
    }
    assert curve(ordered) == curve(full)  # the sum of two numbers does not depend on their order
    assert_bitwise_equal(end_state(ordered)[0], end_state(full)[0])
    assert losses["bf16"] != losses["full"]
    assert losses["bf16"] == pytest.approx(losses["full"], rel=0.01)
    assert losses["low"][:7] == losses["full"][:7]  # six updates with whole gradients
    assert losses["low"][8:] != losses["full"][8:]
    assert losses["low"][-1] < losses["low"][0] - 0.3
    # what PowerSGD leaves out and remembers is part of the checkpoint
    assert curve(broken) == curve(low_rank)
    assert_bitwise_equal(end_state(broken), end_state(low_rank))
    errors = end_state(low_rank)[1]["communication"]["errors"]
    assert all(len(error) == 2 and error.abs().max() > 0 for error in errors.values())
    assert losses["rows"] == pytest.approx(losses["dense"], rel=1e-12)
    assert [loss for _, loss in curve(accumulated)] == pytest.approx(losses["dense"], rel=1e-10)
    for figure in ("forward_ms", "backward_ms", "communication_ms", "optimizer_ms"):
        assert all(milliseconds > 0 for _, milliseconds in curve(full, figure=figure))


def test_what_powersgd_left_out_is_kept_when_settings_change(variant: Callable[..., Config]) -> None:
    values = {
        "ddp.communication": "powersgd",
        "ddp.powersgd_rank": 1,
        "ddp.powersgd_after_steps": 2,
        "train.max_steps": 16,
    }
    broken = variant("broken", values)
    train_on_ranks(2, Plan(broken, stop_after=2, bucket_bytes=2000))
    tokens = checkpoint.manifests(str(broken.run.directory))[-1][1]["tokens"]
    changed = {**values, "train.changes": [{"tokens": tokens, "settings": {"optimizer.lr": 0.003}}]}
    whole, broken = variant("whole", changed), variant("broken", changed)
    train_on_ranks(2, Plan(whole, bucket_bytes=2000), Plan(broken, bucket_bytes=2000))
    assert curve(whole) == curve(broken)
    assert_bitwise_equal(end_state(whole), end_state(broken))


def test_powersgd_begins_anew_with_a_bucket_that_a_change_gave_other_parameters(variant: Callable[..., Config]) -> None:
    values = {
        "ddp.communication": "powersgd",
        "ddp.powersgd_after_steps": 2,
        "optimizer.name": "sgd",
        "train.bptt": 1,
        "train.batch_size": 2,
        "train.max_steps": 16,
        "train.changes": [{"tokens": 16, "settings": {"optimizer.weight_decay": 0.1}}],
    }
    whole, broken = variant("whole", values), variant("broken", values)
    train_on_ranks(2, Plan(whole), Plan(broken, stop_after=3), Plan(broken))
    assert len(curve(whole)) == 16
    assert curve(whole) == curve(broken)
    assert_bitwise_equal(end_state(whole), end_state(broken))
    (errors,) = end_state(whole)[1]["communication"]["errors"].values()
    model = LanguageModel(whole.model, open_prepared(str(whole.data.directory)).vocab_size)
    assert errors.shape == (2, model.num_parameters)  # the embedding's gradient, which was taken as rows, is among them


class Unwrapped:
    """Stands in for DDP."""

    def __init__(self, module: nn.Module, **how: Any) -> None: ...

    def register_comm_hook(self, state: object, hook: Callable[..., Any]) -> None: ...


def test_what_powersgd_remembers_is_where_the_gradients_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(communication, "DistributedDataParallel", Unwrapped)
    monkeypatch.setattr(dist, "get_rank", lambda: 0)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    exchange = Exchange(DdpConfig(communication="powersgd"), StepTimes(torch.device("cpu")))
    exchange.distribute(nn.Linear(3, 2, device="meta"))
    # as rank 0 of a GPU has gathered it in the host's memory, after a change of settings
    exchange.load_state_dict({"errors": {0: torch.zeros(2, 8)}, "p": {0: torch.zeros(2)}, "q": {0: torch.zeros(3)}})
    state = exchange.powersgd
    assert state is not None
    for memory in (state.error_dict, state.p_memory_dict, state.q_memory_dict):
        assert memory[0].device.type == "meta"
    assert state.error_dict[0].shape == (8,)


def test_combinations_that_would_not_be_exact_are_refused(make_config: Callable[..., Config]) -> None:
    with pytest.raises(ValueError, match=r"train\.embedding_gradients: rows need optimizer\.name=sgd"):
        make_config({"train.embedding_gradients": "rows"})
    with pytest.raises(ValueError, match=r"ddp\.communication: powersgd .* train\.precision=fp16"):
        make_config({"ddp.communication": "powersgd", "train.precision": "fp16"})
    with pytest.raises(ValueError, match=r"ddp\.communication: powersgd .* train\.on_bad_window=undo"):
        make_config({"ddp.communication": "powersgd", "train.on_bad_window": "undo"})


def test_rows_are_updated_as_a_whole_gradient_would_be_or_not_at_all() -> None:
    torch.manual_seed(0)
    model = LanguageModel(ModelConfig(hidden_size=3, num_layers=1), 7)
    before = model.embedding.weight.detach().clone()
    factors = torch.randn(4, 3)
    expected = before.clone().index_add_(0, torch.tensor([5, 2, 5, 0]), factors, alpha=-0.5 / 4)
    rows = EmbeddingRows(model)
    for finite in (False, True):
        (model.embedding(torch.tensor([5, 2, 5, 0])) * factors).sum().backward()
        rows.take(most=4)
        assert model.embedding.weight.grad is None
        rows.update(lr=0.5, divisor=torch.tensor(4.0), finite=torch.tensor(finite))
        torch.testing.assert_close(model.embedding.weight.detach(), expected if finite else before)


def test_rows_of_one_rank_are_added_in_their_order() -> None:
    values = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]])
    rows, sums = summed(torch.tensor([4, 2, 4, 9]), values)
    assert rows.tolist() == [2, 4, 9, 0]
    assert sums.tolist() == [[3.0, 4.0], [6.0, 8.0], [7.0, 8.0], [0.0, 0.0]]

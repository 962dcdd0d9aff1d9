"""Other models and orders of the text: continued bitwise, and on two ranks the same as on one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import config as configuration
from pipeline import launch
from pipeline.config import Config
from pipeline.data.prepare import prepare_in_process
from tests.training.ranks import Plan, train_on_ranks
from tests.training.test_resume import assert_bitwise_equal, curve, end_state, interrupt_after

ORDERS = {
    "reset at documents": {"train.reset_state": "document"},
    "reset by windows": {"train.reset_state": "windows"},
    "all the dropouts and penalties of AWD-LSTM": {
        "train.reset_state": "document",
        "model.last_hidden_size": 8,
        "model.embedding_size": 8,
        "model.tie_weights": True,
        **{f"model.{kind}_dropout": 0.3 for kind in ("input", "hidden", "output", "embedding", "weight")},
        "train.activation_penalty": 2.0,
        "train.temporal_activation_penalty": 1.0,
    },
    "a QRNN with layer norm and residual connections": {
        "train.reset_state": "document",
        "model.cell": "qrnn",
        "model.embedding_size": 8,
        "model.layer_norm": True,
        "model.residual": True,
        "model.weight_dropout": 0.3,
    },
    "an sLSTM of two heads": {
        "train.reset_state": "document",
        "train.max_steps": 50,
        "model.cell": "slstm",
        "model.num_heads": 2,
        "model.weight_dropout": 0.3,
    },
    "a mogrifier of low rank": {
        "train.reset_state": "document",
        "train.max_steps": 50,
        "model.mogrifier_rounds": 3,
        "model.mogrifier_rank": 4,
        "model.weight_dropout": 0.3,
    },
    "a Transformer": {
        "train.reset_state": "document",
        "train.bptt": 16,
        "model.cell": "transformer",
        "model.num_heads": 2,
        "model.num_kv_heads": 1,
        "model.context": 20,
        "model.hidden_dropout": 0.3,
    },
    "a Transformer that reads blocks": {
        "train.bptt": 16,
        "train.reset_state": "windows",
        "train.reset_every_windows": 3,
        "model.cell": "transformer",
        "model.num_heads": 2,
        "model.positions": "learned",
        "model.context": 0,
        "model.block_size": 24,
    },
    "attention beside an LSTM": {
        "train.reset_state": "document",
        "train.bptt": 16,
        "model.attention": 1,
        "model.context": 20,
        "model.weight_dropout": 0.3,
    },
    "rotated, reset at documents": {"train.epoch_order": "rotated", "train.reset_state": "document"},
}


@pytest.mark.parametrize("name", ORDERS)
def test_other_orders_of_the_text_resume_and_do_not_depend_on_workers(
    make_config: Callable[..., Config], tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for index in range(40):
        words = " ".join(f"{index} {word} tells of {index % 7}" for word in range(index % 9 + 1))
        (folder / f"{index:02d}.txt").write_text(words + "\n", encoding="utf-8")
    changes = {"corpus.train": [str(folder)], "train.epochs": 2, "train.precision": "float64", "train.batch_size": 5}
    config = make_config({**changes, "model.cell": "lstm", **ORDERS[name], "train.log_every_steps": 1})
    prepare_in_process(config)
    launch.train(config, launch.in_process)
    broken = configuration.with_values(config, {"run.directory": str(tmp_path / "broken")})
    for num_steps in (3, 41):
        interrupt_after(broken, num_steps)
    launch.train(broken, launch.in_process)
    assert curve(config) == curve(broken)
    assert_bitwise_equal(end_state(config), end_state(broken))
    two = configuration.with_values(config, {"run.directory": str(tmp_path / "two")})
    train_on_ranks(2, Plan(two))
    for kind in ("train", "valid"):
        expected, found = curve(config, kind), curve(two, kind)
        assert [step for step, _ in found] == [step for step, _ in expected]
        assert [loss for _, loss in found] == pytest.approx([loss for _, loss in expected], rel=1e-9)
    plain = configuration.with_values(config, {"run.directory": str(tmp_path / "plain"), "train.max_steps": 20})
    plain = configuration.with_values(plain, {"train.reset_state": "never", "train.epoch_order": "same"})
    launch.train(plain, launch.in_process)
    assert curve(plain)[-1][1] != curve(config)[19][1]

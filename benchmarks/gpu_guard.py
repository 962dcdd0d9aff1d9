"""Whether a training step waits for the device, for every kind of cell, head, optimizer and clipping.

A step that waits leaves the device idle until the host has handed it the next kernel. On a GPU torch itself says where
(``torch.cuda.set_sync_debug_mode``); on a CPU, where nothing waits, every number that the host reads counts, even those
that it reads only on CPUs.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from gpu_parts import Row, on_device, repeated, rows_of, synchronize
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from training_step import Setting

from pipeline.config import ModelConfig, OptimizerConfig
from pipeline.model.language_model import LanguageModel
from pipeline.model.regularization import Penalties
from pipeline.training.averaging import Averaging
from pipeline.training.clipping import Clipping
from pipeline.training.optimizers import build_optimizer
from pipeline.training.step import TrainingStep


class HostReads(TorchDispatchMode):
    """While active, collects where the host reads a number of a tensor, which on a GPU would wait for the device."""

    READS = ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::equal", "aten::_unique2")

    def __init__(self) -> None:
        super().__init__()
        self.places: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.name().partition(".")[0] in self.READS:
            self.places.append(place_in_project(traceback.extract_stack()))
        return func(*args, **(kwargs or {}))


def place_in_project(stack: traceback.StackSummary) -> str:
    """The innermost function of the project on ``stack``, with its file."""
    ours = [frame for frame in stack if "/pipeline/" in frame.filename]
    return f"{ours[-1].filename.rpartition('/pipeline/')[2]} {ours[-1].name}" if ours else "outside the project"


def waits(call: Callable[[], object], device: torch.device) -> list[str]:
    """Where ``call`` waits for the device: on a GPU the first place, by torch's own guard, otherwise all places."""
    call()  # what is made only once may wait
    synchronize(device)
    if device.type != "cuda":
        with HostReads() as reads:
            call()
        return sorted(set(reads.places))
    torch.cuda.set_sync_debug_mode("error")
    try:
        call()
    except RuntimeError as error:
        if "synchroniz" not in str(error):
            raise
        return [place_in_project(traceback.extract_tb(error.__traceback__))]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return []


# names of settings, with what they change in model, optimizer and step; the last one's head is known to wait
GUARDED: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "sgd, all dropouts, penalties": (
        {"input_dropout": 0.4, "hidden_dropout": 0.3, "output_dropout": 0.4, "embedding_dropout": 0.1,
         "weight_dropout": 0.5, "tie_weights": True}, {"weight_decay": 1e-6, "decayed": "all"}, {},
    ),
    "sgd, momentum, plain dropout": ({"dropout": 0.5}, {"momentum": 0.9}, {}),
    "sgd, rows of the embedding": ({}, {}, {"embedding_rows": True}),
    "adamw, layer norm, residual": ({"layer_norm": True, "residual": True}, {"name": "adamw"}, {}),
    "muon": ({}, {"name": "muon"}, {}),
    "rmsprop": ({}, {"name": "rmsprop"}, {}),
    "two groups of rows": ({}, {}, {"accumulation_steps": 2}),
    "averaged weights": ({}, {"average": "exponential"}, {}),
    "clipped by value": ({}, {}, {"clipping": {"value": 0.1}}),
    "clipped to a percentile": ({}, {}, {"clipping": {"percentile": 10, "history": 20}}),
    "streams that begin anew": ({}, {}, {"resets": True}),
    **{f"cell {cell}": ({"cell": cell}, {}, {}) for cell in
       ("rnn", "gru", "gru_reset_before", "mingru", "minlstm", "qrnn", "slstm")},
    "mogrifier": ({"mogrifier_rounds": 3}, {}, {}),
    "mixture of softmaxes": ({"head": "mixture", "num_experts": 3}, {}, {}),
    "adaptive softmax": ({"head": "adaptive"}, {}, {}),
}  # fmt: skip


def guarded_call(name: str, base: Setting, device: torch.device) -> Callable[[], Tensor]:
    """A call that makes an update with the settings ``name`` of ``GUARDED`` and the sizes of ``base``."""
    of_model, of_optimizer, of_step = GUARDED[name]
    of_step = dict(of_step)
    torch.manual_seed(0)
    model = LanguageModel(ModelConfig(**{**base.sizes, **of_model}), base.vocab_size).to(device)
    config = OptimizerConfig(**{"name": "sgd", "lr": base.lr, **of_optimizer})
    clipping = Clipping(**of_step.pop("clipping", {"norm": base.clip_norm}), device=device)
    resets = None
    if of_step.pop("resets", False):
        resets = np.zeros((base.bptt, base.batch_size), dtype=bool)
        resets[base.bptt // 2, ::2] = True
    step = TrainingStep(
        model,
        build_optimizer(config, model),
        clipping=clipping,
        averaging=Averaging(config, model.parameters()),
        precision="float32",
        seed=1,
        penalties=Penalties(2.0, 1.0),
        **of_step,
    )
    return repeated(
        step if resets is None else partial(step, resets=resets), model, on_device(base, device, 2), base.lr
    )


def guard(base: Setting, device: torch.device, *, until: float) -> Iterator[Row]:
    """A row for each of ``GUARDED``: whether a step waits for the device, and where."""

    def measure(seconds: float, setting: str) -> Row:
        found = waits(guarded_call(setting, base, device), device)
        return {
            "row": f"a training step waits for the device: {setting}",
            "figure": f"in {', '.join(found)}" if found else "no",
            "waits": found,
        }

    what = "a training step waits for the device"
    return rows_of(what, [{"setting": name} for name in GUARDED], measure, until=until)

"""Small Transformers and recurrent models with attention, and a text for them to read."""

from typing import Any

import torch
from torch import Tensor

from pipeline.config import ModelConfig
from pipeline.model.language_model import LanguageModel
from pipeline.model.state import State

VOCAB, STREAMS = 11, 3
CPU = torch.device("cpu")
TRANSFORMERS: dict[str, dict[str, Any]] = {
    "rotary, SwiGLU, grouped": {"cell": "transformer", "num_kv_heads": 2, "context": 5},
    "GELU": {"cell": "transformer", "feedforward": "gelu", "num_kv_heads": 1, "context": 30, "tie_weights": True},
    "rotary in blocks": {"cell": "transformer", "context": 0, "block_size": 7},
    "nanoGPT": {"cell": "transformer", "positions": "learned", "feedforward": "gelu", "context": 0, "block_size": 7},
    "beside an LSTM": {"cell": "lstm", "attention": 1, "context": 5},
    "beside a QRNN": {"cell": "qrnn", "attention": 2, "context": 30, "hidden_size": [16, 12]},
}  # fmt: skip


def make(name: str, **others: Any) -> LanguageModel:
    """A model with weights so large that attention distinguishes tokens."""
    torch.manual_seed(0)
    config = ModelConfig(**{"hidden_size": 16, "num_layers": 2, **TRANSFORMERS[name], **others})
    model = LanguageModel(config, VOCAB).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return model


def tokens(length: int, *, seed: int = 1) -> Tensor:
    return torch.randint(VOCAB, (length, STREAMS), generator=torch.Generator().manual_seed(seed))


def read(model: LanguageModel, inputs: Tensor, lengths: list[int], state: State | None = None) -> tuple[Tensor, State]:
    """Read ``inputs`` in windows of ``lengths``."""
    state = state or model.initial_state(inputs.shape[1])
    outputs = []
    for window in inputs.split(lengths):
        hidden, state = model(window, state)
        outputs.append(hidden)
    return torch.cat(outputs), state

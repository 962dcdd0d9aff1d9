"""The language model: embedding → recurrence → head.

``forward`` is (tokens, state) → (hidden, state); ``head`` turns hidden vectors into logits or nats.
Letters: T time, B streams, E embedding, H hidden, V vocabulary.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.config import ModelConfig
from pipeline.model.head import Softmax
from pipeline.model.precision import autocast_where_native
from pipeline.model.recurrence import Recurrence
from pipeline.model.segments import Segments
from pipeline.model.state import State


class LanguageModel(nn.Module):
    """A recurrent language model over ``vocab_size`` types, initialised from torch's generator."""

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__()
        embedding_size = config.embedding_size or config.hidden_size
        self.dropout = config.dropout
        self.embedding = nn.Embedding(vocab_size, embedding_size)
        self.recurrence = Recurrence(
            config.cell,
            input_size=embedding_size,
            hidden_size=config.hidden_size,
            num_layers=config.num_layers,
            dropout=config.dropout,
        )
        needs_projection = config.tie_weights and embedding_size != config.hidden_size
        self.projection = nn.Linear(config.hidden_size, embedding_size, bias=False) if needs_projection else None
        head_size = embedding_size if needs_projection else config.hidden_size
        self.head = Softmax(head_size, vocab_size, tied_to=self.embedding.weight if config.tie_weights else None)
        self._initialize(config.init_range)

    def _initialize(self, init_range: float | None) -> None:
        """Uniform in ±init_range; or embedding ±0.1, recurrence and head ±1/sqrt(size), output bias zero."""
        with torch.no_grad():
            if init_range is not None:
                for parameter in self.parameters():
                    parameter.uniform_(-init_range, init_range)
                return
            head_range = 1 / math.sqrt(self.head.weight.shape[1])
            self.head.weight.uniform_(-head_range, head_range)
            self.embedding.weight.uniform_(-0.1, 0.1)  # also where the head shares it

    @property
    def num_parameters(self) -> int:
        """Trained numbers; a tied matrix counts once."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def device(self) -> torch.device:
        return self.embedding.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.embedding.weight.dtype

    def forward(self, tokens: Tensor, state: State, segments: Segments | None = None) -> tuple[Tensor, State]:
        """(T, B) token ids, state → (T, B, H) what the head takes (E if tied), state after the last step.

        ``segments`` says where within the window streams begin anew, from a blank state.
        """
        embedded = F.dropout(self.embedding(tokens), self.dropout, self.training)  # (T, B, E)
        hidden, state = self.recurrence(embedded, state, segments)  # (T, B, H)
        hidden = F.dropout(hidden, self.dropout, self.training)
        if self.projection is not None:
            with autocast_where_native(hidden.device.type):
                hidden = self.projection(hidden)  # (T, B, E)
        return hidden, state

    def initial_state(
        self, batch_size: int, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> State:
        """A blank state for ``batch_size`` streams, on the model's device and in its precision unless said."""
        return self.recurrence.initial_state(batch_size, device=device or self.device, dtype=dtype or self.dtype)

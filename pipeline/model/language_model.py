"""The language model: embedding → recurrence, or a Transformer in its place → head.

``forward`` is (tokens, state) → (hidden, state); ``head`` turns hidden vectors into logits or nats.
Letters: T time, B streams, E embedding, H hidden, V vocabulary.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.config import ModelConfig
from pipeline.model.cpu.products import linear
from pipeline.model.head import build_head
from pipeline.model.precision import autocast_where_native
from pipeline.model.recurrence import Recurrence
from pipeline.model.regularization import INPUT, OUTPUT, Masks
from pipeline.model.segments import Segments
from pipeline.model.state import State
from pipeline.model.token_ids import as_int64
from pipeline.model.transformer import Transformer

# initial range (±) of embeddings that the head shares or a Transformer reads; initial gain of input matrices
SMALL_EMBEDDINGS, INPUT_GAIN = 0.1, 3.0


class LanguageModel(nn.Module):
    """A recurrent language model over ``vocab_size`` types, initialised from torch's generator."""

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__()
        hidden_sizes = config.layer_sizes
        embedding_size = config.embedding_size or hidden_sizes[0]
        self.dropout = config.dropout
        self.embedding_dropout = config.embedding_dropout
        self.input_dropout = config.input_dropout
        self.output_dropout = config.output_dropout
        self.attends = config.attends  # the setting that makes it attend; empty: none does
        # the type after which a stream's state was always zero in training (``ResetRule.type_before``); None: none.
        # ``forward`` does not look at it, as resets in running text are passed in; all that reads or writes texts does
        self.reset_after: int | None = None
        self.reset_every: int | None = None  # likewise the tokens between two resets (``ResetRule.every_tokens``)
        self.embedding = nn.Embedding(vocab_size, embedding_size)
        self.recurrence = Transformer(config) if config.cell == "transformer" else Recurrence.of(config)
        tied_to = self.embedding.weight if config.tie_weights else None
        # a mixture itself makes vectors of the embedding's size, whatever its input
        needs_projection = config.tie_weights and embedding_size != hidden_sizes[-1] and config.head != "mixture"
        self.projection = nn.Linear(hidden_sizes[-1], embedding_size, bias=False) if needs_projection else None
        head_size = embedding_size if needs_projection else hidden_sizes[-1]
        self.head = build_head(config, head_size, embedding_size, vocab_size, tied_to=tied_to)
        self._initialize(config)

    @torch.no_grad()
    def _initialize(self, config: ModelConfig) -> None:
        """Draw all weights but norms from ±init_range, or each from a range of its own; see ``docs/training.md``."""
        limit, of_embeddings, gain = config.init_range, config.embedding_range, config.input_gain
        if limit is None:
            self.head.reset_parameters()
        else:
            for name, parameter in self.named_parameters():
                if ".norms." not in name and not name.endswith(".head_norm"):
                    parameter.uniform_(-limit, limit)
        if limit is None or of_embeddings is not None:
            if of_embeddings is None:
                is_small = config.tie_weights or config.cell == "transformer"
                of_embeddings = SMALL_EMBEDDINGS if is_small else math.sqrt(3)
            self.embedding.weight.uniform_(-of_embeddings, of_embeddings)  # also if the head shares it
        if gain is None:
            gain = INPUT_GAIN if limit is None else 1.0
        if isinstance(self.recurrence, Recurrence):
            for weight in self.recurrence.input_weights:
                weight.mul_(gain)

    @property
    def num_parameters(self) -> int:
        """Count the trained parameters; a tied matrix counts once."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def device(self) -> torch.device:
        return self.embedding.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.embedding.weight.dtype

    def forward(
        self, tokens: Tensor, state: State, segments: Segments | None = None, masks: Masks | None = None
    ) -> tuple[Tensor, State]:
        """Read (T, B) token ids; returns (T, B, H) for the head (E if tied) and the state after the last step.

        Args:
            tokens: of any integer type.
            segments: where in the window streams restart from a zero state.
            masks: of locked, embedding and weight dropout; None: while training, seeded from torch's generator.
        """
        if self.training and masks is None:
            masks = Masks.fresh(tokens.shape[1])
        hidden, state = self.outputs(tokens, state, segments, masks)
        return self.for_head(self.drop_output(hidden, masks)), state

    def outputs(
        self, tokens: Tensor, state: State, segments: Segments | None, masks: Masks | None
    ) -> tuple[Tensor, State]:
        """Read (T, B) token ids; returns (T, B, H) of the last layer before any dropout, and the next state."""
        tokens = as_int64(tokens)
        recurrence = self.recurrence
        if isinstance(recurrence, Recurrence) and self._takes_one_hot(recurrence, tokens):
            types = self._drop_types(self.embedding.weight, torch.arange(self.embedding.num_embeddings), masks)
            one_hot = F.one_hot(tokens, len(types)).to(self.dtype)  # (T, B, V)
            with autocast_where_native(tokens.device.type):
                return recurrence.run(one_hot, state, segments, masks if self.training else None, None, types)
        embedded = self._drop_types(self.embedding(tokens), tokens, masks)  # (T, B, E)
        if self.training and masks is not None:
            embedded = masks.locked(embedded, self.input_dropout, place=INPUT)
        embedded = F.dropout(embedded, self.dropout, self.training)
        return recurrence(embedded, state, segments, masks if self.training else None)

    def _drop_types(self, embedded: Tensor, tokens: Tensor, masks: Masks | None) -> Tensor:
        """While training, drop some types from the (…, E) embeddings of ``tokens``."""
        if not self.training or masks is None:
            return embedded
        return masks.embedding(embedded, tokens, self.embedding_dropout, vocab_size=self.embedding.num_embeddings)

    def _takes_one_hot(self, recurrence: Recurrence, tokens: Tensor) -> bool:
        """Return whether ``recurrence`` is to read types in place of their embeddings; the result is the same."""
        num_types = self.embedding.num_embeddings
        if tokens.is_cuda or not torch.is_grad_enabled() or self.embedding.sparse or tokens.numel() < num_types:
            return False
        are_dropped = self.training and (self.dropout > 0 or self.input_dropout > 0)
        return not are_dropped and recurrence.takes_one_hot(num_types)

    def drop_output(self, hidden: Tensor, masks: Masks | None) -> Tensor:
        """While training, apply the dropout between the last layer and the head to (T, B, H)."""
        if self.training and masks is not None:
            hidden = masks.locked(hidden, self.output_dropout, place=OUTPUT)
        return F.dropout(hidden, self.dropout, self.training)

    def for_head(self, hidden: Tensor) -> Tensor:
        """Turn (T, B, H) into what the head takes: (T, B, E) through the projection, if there is one."""
        return hidden if self.projection is None else linear(hidden, self.projection.weight)

    def initial_state(
        self, batch_size: int, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> State:
        """Return a zero state for ``batch_size`` streams, by default on the model's device and in its precision."""
        return self.recurrence.initial_state(batch_size, device=device or self.device, dtype=dtype or self.dtype)

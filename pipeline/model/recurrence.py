"""The recurrence turns embeddings (T, B, E) and a state into hidden vectors (T, B, H) and the next state.

Its cells are tanh RNN (Elman 1990), LSTM (Hochreiter & Schmidhuber 1997), GRU (Cho et al. 2014, with the reset after
the product as in the fused kernels) and those of ``cells``, ``slstm`` and ``mogrifier``. Each layer is one call (to
cuDNN on a GPU, to oneDNN or our own loop on a CPU), so that what comes between layers is ours.
Letters: T time, B streams, E embedding, H hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.config import ModelConfig
from pipeline.model.cells import QRNN, Cell, MinGRU, MinLSTM, ResetBeforeGRU
from pipeline.model.kernels import run_layer, weights_of
from pipeline.model.mogrifier import MogrifierLSTM
from pipeline.model.past_attention import PastAttention
from pipeline.model.precision import ProductFormats, autocast_where_native
from pipeline.model.regularization import HIDDEN, Masks
from pipeline.model.segments import Segments
from pipeline.model.slstm import SLSTM
from pipeline.model.stack import LayerStack
from pipeline.model.state import State

CELLS: dict[str, Any] = {
    "rnn": nn.RNN,
    "lstm": nn.LSTM,
    "gru": nn.GRU,
    "gru_reset_before": ResetBeforeGRU,
    "mingru": MinGRU,
    "minlstm": MinLSTM,
    "qrnn": QRNN,
    "slstm": SLSTM,
}


class Recurrence(LayerStack):
    """Layers of one cell, with dropout between them and on their recurrent weights, and optional attention to the past.

    The state holds the parts of the layers, then those of the attention.
    """

    def __init__(
        self,
        cell: str,
        *,
        input_size: int,
        hidden_sizes: Sequence[int],
        dropout: float = 0.0,
        hidden_dropout: float = 0.0,
        weight_dropout: float = 0.0,
        layer_norm: bool = False,
        residual: bool = False,
        num_wide: int = 1,
        num_heads: int = 1,
        forget_gate: str = "sigmoid",
        mogrifier_rounds: int = 0,
        mogrifier_rank: int | None = None,
        attention: int | None = None,
        context: int = 0,
    ) -> None:
        """
        Args:
            attention: the layer, counted from 1, whose last ``context`` outputs are attended to; None: no attention.
            layer_norm: normalise the input of each layer, and the output of the last.
            residual: add a layer's input to its output if both have the same size.
            num_wide: how many of a QRNN's first layers see the previous input as well as the present one.
            num_heads, forget_gate: of an sLSTM; the gate is sigmoid or exponential.
            mogrifier_rounds, mogrifier_rank: of an LSTM; 0 rounds: torch's own LSTM.
        """
        super().__init__()
        sizes = [input_size, *hidden_sizes]
        self.layers = nn.ModuleList()
        for index, (before, size) in enumerate(zip(sizes, hidden_sizes, strict=False)):
            if mogrifier_rounds:
                self.layers.append(MogrifierLSTM(before, size, num_rounds=mogrifier_rounds, rank=mogrifier_rank))
                continue
            options: dict[str, Any] = {}
            if cell == "qrnn":
                options = {"width": 2 if index < num_wide else 1}
            elif cell == "slstm":
                options = {"num_heads": num_heads, "is_exponential": forget_gate == "exponential"}
            self.layers.append(CELLS[cell](before, size, **options))
        self.norms = nn.ModuleList(nn.LayerNorm(size) for size in sizes) if layer_norm else None
        self.residual = residual
        self.attended = None if attention is None else attention - 1
        self.past = None if attention is None else PastAttention(hidden_sizes[attention - 1], context)
        # for each layer, the size of each part of its state: (h, c) or (h,) or as the cell says
        self.state_sizes = [_state_sizes(layer) for layer in self.layers]
        self.hidden_sizes = tuple(hidden_sizes)
        self.dropout, self.hidden_dropout, self.weight_dropout = dropout, hidden_dropout, weight_dropout

    @property
    def input_weights(self) -> list[Tensor]:
        """Return the matrix of each layer that multiplies its inputs."""
        layers: Any = self.layers
        return [getattr(layer, "weight_ih_l0" if isinstance(layer, nn.RNNBase) else "weight") for layer in layers]

    @classmethod
    def of(cls, config: ModelConfig) -> Recurrence:
        """Build the recurrence that ``config`` describes."""
        sizes = config.layer_sizes
        return cls(
            config.cell,
            input_size=config.embedding_size or sizes[0],
            hidden_sizes=sizes,
            dropout=config.dropout,
            hidden_dropout=config.hidden_dropout,
            weight_dropout=config.weight_dropout,
            layer_norm=config.layer_norm,
            residual=config.residual,
            num_wide=config.num_layers if config.qrnn_wide_layers == "all" else 1,
            num_heads=config.num_heads,
            forget_gate=config.slstm_forget_gate,
            mogrifier_rounds=config.mogrifier_rounds,
            mogrifier_rank=config.mogrifier_rank,
            attention=config.attention,
            context=config.num_slots,
        )

    def run(
        self,
        inputs: Tensor,
        state: State,
        segments: Segments | None,
        masks: Masks | None,
        outputs: list[Tensor] | None,
        types: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """Do what ``forward`` says, with or without autocast.

        Args:
            types: the embeddings (V, E), if ``inputs`` are one-hot (T, B, V); see ``takes_one_hot``.
        """
        layers: Any = self.layers
        hidden = inputs
        ends: list[State] = []
        past: State = ()
        for index, layer in enumerate(layers):
            branch = self.normalized(hidden, index)
            if index > 0:
                branch = F.dropout(branch, self.dropout, self.training)
            if index > 0 and masks is not None:
                branch = masks.locked(branch, self.hidden_dropout, place=HIDDEN, layer=index)
            recurrent = None
            if self.weight_dropout and masks is not None:
                recurrent = masks.weight(_recurrent(layer), self.weight_dropout, layer=index)
            begin = self.begin_of(state, index)
            output, end = _run(layer, branch, begin, segments, recurrent, types if index == 0 else None)
            hidden = self.joined(hidden, output)
            ends.append(end)
            if self.past is not None and index == self.attended:
                resets = None if segments is None else segments.resets
                hidden, past = self.past(hidden, state[-2:], resets)
            if outputs is not None:
                outputs.append(hidden)
        return self.normalized(hidden, len(layers)), self.stacked(ends, state[0].dtype) + past

    def takes_one_hot(self, vocab_size: int) -> bool:
        """Return whether the first layer trains faster on one-hot types, times its products with all embeddings.

        So it does on a CPU if there are far fewer types than numbers in an embedding, as with characters. Nothing but
        the layer may look at its inputs.
        """
        first: Any = self.layers[0]
        is_looked_at = self.norms is not None or self.residual
        return isinstance(first, nn.RNNBase) and not is_looked_at and 2 * vocab_size <= first.input_size

    def begin_of(self, state: State, index: int) -> State:
        """Return what ``state`` holds for layer ``index``: (1, B, its size) for each part."""
        return tuple(
            part[index : index + 1, :, :size] for part, size in zip(state, self.state_sizes[index], strict=False)
        )

    def product_formats(self, inputs: Tensor) -> set[torch.dtype]:
        """Run the first layer over (T, B, E) ``inputs`` and return the number formats of its products."""
        begin = tuple(inputs.new_zeros(1, inputs.shape[1], size) for size in self.state_sizes[0])
        with autocast_where_native(inputs.device.type), ProductFormats() as products:
            _run(self.layers[0], inputs, begin)
        return products.found

    def step(self, inputs: Tensor, state: State, steps: Sequence[Any]) -> tuple[Tensor, State]:
        """Take a single step from (B, E), without dropout; returns (B, H) of the last layer and the next state.

        Args:
            steps: for each layer, a function (B, E), state of (B, H) → (B, H), next state.
        """
        hidden = inputs
        ends: list[State] = []
        past: State = ()
        for index, step in enumerate(steps):
            begin = tuple(part[0] for part in self.begin_of(state, index))
            output, end = step(self.normalized(hidden, index), begin)
            hidden = self.joined(hidden, output)
            ends.append(tuple(part.unsqueeze(0) for part in end))
            if self.past is not None and index == self.attended:
                hidden, past = self.past.step(hidden, state[-2:])
        return self.normalized(hidden, len(steps)), self.stacked(ends, state[0].dtype) + past

    def normalized(self, hidden: Tensor, index: int) -> Tensor:
        """Normalise the input of layer ``index``, or, after the last layer, the output."""
        if self.norms is None:
            return hidden
        normalized: Tensor = self.norms[index](hidden)
        return normalized

    def joined(self, hidden: Tensor, output: Tensor) -> Tensor:
        """Return what a layer passes on: its output, with its input added if there are residual connections."""
        return hidden + output if self.residual and hidden.shape[-1] == output.shape[-1] else output

    def stacked(self, ends: list[State], dtype: torch.dtype) -> State:
        """Stack the layers' (1, B, size) into (layers, B, H), a smaller layer's padded with zeros."""
        if len(set(self.state_sizes)) > 1:
            largest = self.largest_sizes
            ends = [tuple(map(_widened, end, largest)) for end in ends]
        return tuple(torch.cat(parts).to(dtype) for parts in zip(*ends, strict=True))

    @property
    def num_attended(self) -> int:
        """Count the numbers in the past states that a token attends to."""
        return 0 if self.past is None else self.past.size * self.past.num_slots

    @property
    def largest_sizes(self) -> list[int]:
        """Return the size of each part of the state."""
        return [max(sizes) for sizes in zip(*self.state_sizes, strict=True)]

    def initial_state(self, batch_size: int, *, device: torch.device, dtype: torch.dtype) -> State:
        """Return a zero state: (layers, B, H) each, with the largest layer's H; then the attention's parts."""
        shape = (len(self.layers), batch_size)
        state = tuple(torch.zeros(*shape, size, device=device, dtype=dtype) for size in self.largest_sizes)
        return state if self.past is None else state + self.past.initial_state(batch_size, device=device, dtype=dtype)


def _run(
    layer: Any,
    inputs: Tensor,
    state: State,
    segments: Segments | None = None,
    recurrent: Tensor | None = None,
    types: Tensor | None = None,
) -> tuple[Tensor, State]:
    """Run one layer, of whatever kind, over (T, B, E) from ``state``."""
    if isinstance(layer, Cell):
        hidden, end = layer(inputs, state, None if segments is None else segments.resets, recurrent)
        return hidden, end
    state = tuple(part.to(inputs.dtype).contiguous() for part in state)
    weights = None if recurrent is None and types is None else weights_of(layer, recurrent, types)
    if segments is None:
        return run_layer(layer, inputs, state, weights)
    return segments.run(layer, inputs, state, weights)


def _state_sizes(layer: Any) -> tuple[int, ...]:
    if isinstance(layer, Cell):
        return layer.state_sizes
    return (layer.hidden_size,) * (2 if isinstance(layer, nn.LSTM) else 1)


def _recurrent(layer: Any) -> Any:
    """Return the matrix that weight dropout acts on."""
    return layer.recurrent if isinstance(layer, Cell) else layer.weight_hh_l0


def _widened(part: Tensor, size: int) -> Tensor:
    """Pad the last dimension of ``part`` with zeros to ``size``."""
    return F.pad(part, (0, size - part.shape[-1]))

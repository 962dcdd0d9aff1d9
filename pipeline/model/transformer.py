"""A Transformer in place of the recurrence (Vaswani et al. 2017; pre-norm, Xiong et al. 2020).

Its state is a cache of the keys and values of the last M tokens in each layer, carried from window to window (Dai et
al. 2019), and how many tokens there were: see ``reach``. Single steps write into the cache in place, as into a ring;
the state says which slot is the oldest. Letters: T time, B streams, H hidden, L layers, R slots of a ring, K keys
attended to, D size of a head, S size of all keys of a token.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.config import ModelConfig
from pipeline.model.attention import attend, rotary_turns, rotated
from pipeline.model.cpu.products import linear
from pipeline.model.precision import ProductFormats, autocast_where_native
from pipeline.model.reach import Reach, Ring, in_order, newest, reach
from pipeline.model.regularization import HIDDEN, Masks
from pipeline.model.segments import Segments
from pipeline.model.stack import LayerStack
from pipeline.model.state import State

# standard deviation of initial weights (Radford et al. 2019)
DEVIATION = 0.02


class Block(nn.Module):
    """Attention and a feed-forward layer; each is applied to its normalised input and added to the input."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        size = self.hidden_size = config.layer_sizes[0]
        self.num_heads, self.num_kv_heads = config.num_heads, config.num_kv_heads or config.num_heads
        self.head_size = size // self.num_heads
        self.is_gated = config.feedforward == "swiglu"
        # two matrices into the wider layer have as many weights in all as one would
        wide = -(-8 * size // 3) if self.is_gated else 4 * size
        self.norms = nn.ModuleList(nn.LayerNorm(size, bias=False) for _ in range(2))
        self.into_attention = nn.Linear(size, size + 2 * self.cache_size, bias=False)  # queries, keys, values
        self.out_of_attention = nn.Linear(size, size, bias=False)
        self.widen = nn.Linear(size, 2 * wide if self.is_gated else wide, bias=False)
        self.narrow = nn.Linear(wide, size, bias=False)
        for matrix in (self.into_attention, self.widen):
            nn.init.normal_(matrix.weight, std=DEVIATION)
        for matrix in (self.out_of_attention, self.narrow):  # whose outputs are added 2 L times
            nn.init.normal_(matrix.weight, std=DEVIATION / math.sqrt(2 * config.num_layers))

    @property
    def cache_size(self) -> int:
        """Return the size of all keys of a token, and of all its values."""
        return self.num_kv_heads * self.head_size

    def attention(
        self, hidden: Tensor, cached: Sequence[Tensor], reach: Reach | Ring, turns: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """(B, T, H), normalised → (B, T, H) to be added, and (B, K, S) keys and values.

        Args:
            cached: (B, R, S) keys and values.
            turns: rotations for the positions of the tokens; None: their positions are in ``hidden``.
        """
        num_kv_heads = self.num_kv_heads
        heads = linear(hidden, self.into_attention.weight).unflatten(2, (-1, self.head_size))  # (B, T, all heads, D)
        if turns is None:
            queries, keys, values = heads.split([self.num_heads, num_kv_heads, num_kv_heads], dim=2)
        else:
            turning, values = heads.split([self.num_heads + num_kv_heads, num_kv_heads], dim=2)
            queries, keys = rotated(turning, turns).split([self.num_heads, num_kv_heads], dim=2)
        joined_keys = reach.joined(cached[0], keys.flatten(2))
        joined_values = reach.joined(cached[1], values.flatten(2))
        keys, values = (part.unflatten(2, (num_kv_heads, -1)) for part in (joined_keys, joined_values))
        found = attend(queries, keys, values, reach)  # over (B, K, key heads, D)
        return linear(found, self.out_of_attention.weight), (joined_keys, joined_values)

    def feedforward(self, hidden: Tensor) -> Tensor:
        """(B, T, H), normalised → (B, T, H) to be added: GELU (Hendrycks & Gimpel 2016) or SwiGLU (Shazeer 2020)."""
        wide = linear(hidden, self.widen.weight)
        if self.is_gated:
            gates, values = wide.chunk(2, dim=2)
            wide = F.silu(gates) * values
        else:
            wide = F.gelu(wide)
        return linear(wide, self.narrow.weight)


class Transformer(LayerStack):
    """Blocks one after another, and a norm; called like ``Recurrence``."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        size = config.layer_sizes[0]
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.norms = nn.ModuleList([nn.LayerNorm(size, bias=False)])
        self.in_blocks, self.num_slots = config.context == 0, config.num_slots
        self.ring_size = self.num_slots if self.in_blocks else self.num_slots + 1
        self.positions = nn.Embedding(self.num_slots, size) if config.positions == "learned" else None
        if self.positions is not None:
            nn.init.normal_(self.positions.weight, std=DEVIATION)
        self.dropout, self.hidden_dropout = config.dropout, config.hidden_dropout

    def run(
        self,
        inputs: Tensor,
        state: State,
        segments: Segments | None,
        masks: Masks | None,
        outputs: list[Tensor] | None,
    ) -> tuple[Tensor, State]:
        layers: Any = self.layers
        state = self.in_order(state)
        reaches, turns = self.reach_of(state, len(inputs), segments)
        hidden = inputs.transpose(0, 1).contiguous()  # (B, T, H), as products and attention take it
        if self.positions is not None:
            placed = self.positions(reaches.places)  # (T, H) or (T, B, H)
            hidden = hidden + (placed if placed.dim() == 2 else placed.transpose(0, 1))
        ends = []
        for index, layer in enumerate(layers):
            output, joined = layer.attention(layer.norms[0](hidden), self.cached(state, index), reaches, turns)
            hidden = hidden + self.dropped(output, masks, 2 * index)
            hidden = hidden + self.dropped(layer.feedforward(layer.norms[1](hidden)), masks, 2 * index + 1)
            ends.append(joined)
            if outputs is not None:
                outputs.append(hidden.transpose(0, 1))
        final: Any = self.norms[0]
        return final(hidden).transpose(0, 1), self.end_of(state, ends, reaches)

    def reach_of(self, state: State, num_steps: int, segments: Segments | None = None) -> tuple[Reach, Tensor | None]:
        """Return what a window of ``num_steps`` attends to after ``state``, and the rotations of its positions."""
        keys, _, count = state
        resets = None if segments is None else segments.resets
        found = reach(count[0, :, 0], num_steps, size=self.num_slots, in_blocks=self.in_blocks, resets=resets)
        layer: Any = self.layers[0]
        return found, None if self.positions is not None else rotary_turns(found.places, layer.head_size, keys.dtype)

    def cached(self, state: State, index: int) -> list[Tensor]:
        """Return the (B, R, S) keys and values of layer ``index`` in ``state``."""
        return [part[index].unflatten(1, (self.ring_size, -1)) for part in state[:2]]

    def in_order(self, state: State) -> State:
        """Return ``state`` with the oldest slot first, which it is except after single steps (only on a CPU)."""
        *slots, count = state
        oldest = count[0, :, 1].long()  # (B,)
        if count.device.type != "cpu" or not oldest.any():
            return state
        keys, values = (in_order(part, oldest, size=self.ring_size) for part in slots)
        return keys, values, torch.stack([count[..., 0], torch.zeros_like(count[..., 1])], dim=2)

    def step(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """Take a single step from (B, H), outside autograd; returns (B, H) and the state, changed in place."""
        layers: Any = self.layers
        count = state[2][0].long()  # (B, 2)
        reaches, turns = self.reach_of(state, 1)
        ring = Ring.of(count[:, 0], count[:, 1], size=self.ring_size)
        hidden = inputs.unsqueeze(1)  # (B, 1, H)
        if self.positions is not None:
            hidden = hidden + self.positions(reaches.places).view(-1, 1, hidden.shape[2])
        for index, layer in enumerate(layers):
            output, _ = layer.attention(layer.norms[0](hidden), self.cached(state, index), ring, turns)
            hidden = hidden + output
            hidden = hidden + layer.feedforward(layer.norms[1](hidden))
        final: Any = self.norms[0]
        state[2][0] = torch.stack([reaches.count, (ring.slot + 1) % self.ring_size], dim=1)
        return final(hidden)[:, 0], state

    def dropped(self, output: Tensor, masks: Masks | None, place: int) -> Tensor:
        """Apply the dropouts of training to (B, T, H), which is added to the hidden vectors as number ``place``."""
        output = F.dropout(output, self.dropout, self.training)
        if masks is None:
            return output
        return masks.locked(output.transpose(0, 1), self.hidden_dropout, place=HIDDEN, layer=place).transpose(0, 1)

    def end_of(self, state: State, ends: list[tuple[Tensor, Tensor]], reaches: Reach) -> State:
        """Return the state after a window whose layers have the keys and values ``ends``, (B, K, S) each."""
        keys, values, count = state
        count = torch.stack([reaches.count.to(count.dtype), torch.zeros_like(count[0, :, 0])], dim=1).unsqueeze(0)
        if reaches.starts_anew:  # what the slots hold does not matter
            return keys, values, count
        slots = [torch.stack([newest(joined, self.ring_size) for joined in part]) for part in zip(*ends, strict=True)]
        return slots[0].to(keys.dtype), slots[1].to(values.dtype), count

    @property
    def num_attended(self) -> int:
        """Count the numbers in the keys that a token attends to, over all heads and layers, if no stream restarts."""
        layers: Any = self.layers
        return len(layers) * layers[0].hidden_size * self.num_slots

    def product_formats(self, inputs: Tensor) -> set[torch.dtype]:
        """Run the first layer over (T, B, H) ``inputs`` and return the number formats of its products."""
        layer: Any = self.layers[0]
        state = self.initial_state(inputs.shape[1], device=inputs.device, dtype=inputs.dtype)
        how = self.reach_of(state, len(inputs))
        with autocast_where_native(inputs.device.type), ProductFormats() as products:
            layer.attention(inputs.transpose(0, 1), self.cached(state, 0), *how)
        return products.found

    def initial_state(self, batch_size: int, *, device: torch.device, dtype: torch.dtype) -> State:
        """Return an empty cache: (L, B, R · S) keys and values; (1, B, 2) the count of tokens and the oldest slot."""
        layers: Any = self.layers
        size = self.ring_size * layers[0].cache_size
        shapes = (len(layers), batch_size, size), (len(layers), batch_size, size), (1, batch_size, 2)
        return tuple(torch.zeros(shape, device=device, dtype=dtype) for shape in shapes)

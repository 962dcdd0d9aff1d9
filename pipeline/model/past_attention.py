"""One head of attention over the past states of a recurrent layer (Merity 2019, "Single Headed Attention RNN").

The state is what the layer gave at the last M tokens, normalised, and how many there were: see ``reach``. Only queries
have a matrix; keys and values are the past states themselves, each number of them scaled by a trained gate.
Letters: T time, B streams, H hidden, M slots.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from pipeline.model.attention import attend
from pipeline.model.cpu.products import linear
from pipeline.model.reach import newest, reach
from pipeline.model.state import State


class PastAttention(nn.Module):
    """Adds to a layer's (T, B, H) what it finds among the last ``num_slots`` states before and itself."""

    def __init__(self, size: int, num_slots: int) -> None:
        super().__init__()
        self.size, self.num_slots = size, num_slots
        self.query = nn.Linear(size, size, bias=False)
        nn.init.uniform_(self.query.weight, -1 / math.sqrt(size), 1 / math.sqrt(size))
        self.norms = nn.ModuleList(nn.LayerNorm(size) for _ in range(3))  # of what asks, its query, what is remembered
        self.gates = nn.Parameter(torch.zeros(3 * size))  # of queries, keys and values: half of each at the start

    def forward(self, hidden: Tensor, state: State, resets: Tensor | None = None) -> tuple[Tensor, State]:
        """(T, B, H) and a state of (1, B, M · H), (1, B, 1) → (T, B, H), the state after the last step.

        Args:
            resets: (T, B), true where a stream begins anew before that input.
        """
        slots, count = state
        reaches = reach(count[0, :, 0], len(hidden), size=self.num_slots, resets=resets)
        rows = hidden.transpose(0, 1)  # (B, T, H)
        asking, query, remembering = self.norms
        joined = reaches.joined(slots[0].unflatten(1, (self.num_slots, self.size)), remembering(rows))  # (B, K, H)
        queries = query(linear(asking(rows), self.query.weight))
        gates = torch.sigmoid(self.gates).chunk(3)
        queries, keys, values = (
            (part * gate).unsqueeze(2) for part, gate in zip((queries, joined, joined), gates, strict=True)
        )  # (B, T or K, 1, H)
        found = attend(queries, keys, values, reaches)
        end = newest(joined, self.num_slots).unsqueeze(0).to(slots.dtype)
        return hidden + found.transpose(0, 1), (end, reaches.count.to(count.dtype).view(1, -1, 1))

    def initial_state(self, batch_size: int, *, device: torch.device, dtype: torch.dtype) -> State:
        """Return the state before any text."""
        slots = torch.zeros(1, batch_size, self.num_slots * self.size, device=device, dtype=dtype)
        return slots, torch.zeros(1, batch_size, 1, device=device, dtype=dtype)

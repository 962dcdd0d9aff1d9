"""One head of attention over the past states of a recurrent layer (Merity 2019, "Single Headed Attention RNN").

The state holds the normalised outputs of the layer at the last M tokens, how many tokens there were (see ``reach``),
and which slot is the oldest, because single steps write into a ring. Only queries have a matrix; keys and values are
the past states themselves, each of their numbers scaled by a trained gate.
Letters: T time, B streams, H hidden, M slots.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.model.attention import attend
from pipeline.model.cpu.products import linear
from pipeline.model.reach import counted, in_order, newest, reach
from pipeline.model.state import State


class PastAttention(nn.Module):
    """Adds to each state in a layer's (T, B, H) what attention finds in it and in the ``num_slots`` states before."""

    def __init__(self, size: int, num_slots: int) -> None:
        super().__init__()
        self.size, self.num_slots = size, num_slots
        self.query = nn.Linear(size, size, bias=False)
        nn.init.uniform_(self.query.weight, -1 / math.sqrt(size), 1 / math.sqrt(size))
        self.norms = nn.ModuleList(nn.LayerNorm(size) for _ in range(3))  # of asking states, queries, remembered states
        self.gates = nn.Parameter(torch.zeros(3 * size))  # of queries, keys and values: half of each at the start

    def forward(self, hidden: Tensor, state: State, resets: Tensor | None = None) -> tuple[Tensor, State]:
        """(T, B, H) and a state of (1, B, M · H), (1, B, 2) → (T, B, H), the state after the last step.

        Args:
            resets: (T, B), true where a stream restarts before that input.
        """
        slots, count = self.in_order(state)
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
        count = torch.stack([reaches.count.to(count.dtype), torch.zeros_like(count[0, :, 0])], dim=1)
        return hidden + found.transpose(0, 1), (end, count.unsqueeze(0))

    def step(self, hidden: Tensor, state: State) -> tuple[Tensor, State]:
        """Take a single step from (B, H), outside autograd and on a CPU; returns (B, H) and the state, changed in
        place.

        The gates are applied to the query and to what it finds, so that the slots are read unchanged.
        """
        slots, counts = state
        size, (asking, query, remembering) = self.num_slots, self.norms
        ring = slots[0].unflatten(1, (size, self.size))  # (B, M, H)
        count, oldest = counts[0].long().unbind(1)  # (B,) each
        of_query, of_keys, of_values = torch.sigmoid(self.gates).chunk(3)
        own = remembering(hidden).to(slots.dtype)
        queries = query(linear(asking(hidden), self.query.weight)) * (of_query * of_keys / math.sqrt(self.size))
        scores = torch.cat(
            [torch.bmm(ring, queries.unsqueeze(2)).squeeze(2), (own * queries).sum(1, keepdim=True)], dim=1
        )  # (B, M + 1)
        if bool((count < size).any()):
            ages = (oldest.unsqueeze(1) - 1 - torch.arange(size)) % size  # (B, M), 0 the newest
            scores[:, :size].masked_fill_(ages >= count.unsqueeze(1), -math.inf)
        shares = scores.softmax(1)
        found = torch.bmm(shares[:, :size].unsqueeze(1), ring).squeeze(1) + shares[:, size:] * own
        ring[torch.arange(len(ring)), oldest] = own
        counts[0] = torch.stack([counted(count + 1, size), (oldest + 1) % size], dim=1)
        return hidden + found * of_values, state

    def in_order(self, state: State) -> State:
        """Return ``state`` with the oldest slot first, which it is except after single steps (only on a CPU)."""
        slots, count = state
        if count.shape[2] == 1:  # from a checkpoint older than the ring
            return slots, F.pad(count, (0, 1))
        oldest = count[0, :, 1].long()  # (B,)
        if count.device.type != "cpu" or not oldest.any():
            return state
        in_turn = torch.stack([count[..., 0], torch.zeros_like(count[..., 1])], dim=2)
        return in_order(slots, oldest, size=self.num_slots), in_turn

    def initial_state(self, batch_size: int, *, device: torch.device, dtype: torch.dtype) -> State:
        """Return the state before any text."""
        slots = torch.zeros(1, batch_size, self.num_slots * self.size, device=device, dtype=dtype)
        return slots, torch.zeros(1, batch_size, 2, device=device, dtype=dtype)

"""The cells that have no fused kernel; each runs over a whole window, or takes a single step.

minGRU and minLSTM (Feng et al. 2024) and QRNN (Bradbury et al. 2017) compute their gates from the inputs alone, so all
products of a window are one, and only ``scan``'s running average is left to compute over time. GRU with its reset
before the product (Cho et al. 2014) has to go step by step, in ``reset_before``. Products are in autocast's format if
that is on, gates and averages at least in float32. Letters: T time, B streams, E embedding, H hidden.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.model.cpu.products import linear
from pipeline.model.cpu.reset_before import ResetBefore
from pipeline.model.scan import running_average
from pipeline.model.state import State

Step = Callable[[Tensor, State], tuple[Tensor, State]]
Product = Callable[[Tensor], Tensor]
# a matrix (V, H) and a bias (V,) or None → a function that applies them to (B, H)
LayOut = Callable[[Tensor, Tensor | None], Product]


class Cell(nn.Module):
    """A layer that computes ``num_products`` products of its inputs, each from ``width`` steps of them."""

    num_products: int

    def __init__(self, input_size: int, hidden_size: int, *, width: int = 1) -> None:
        super().__init__()
        self.input_size, self.hidden_size = input_size, hidden_size
        self.weight = nn.Parameter(torch.empty(self.num_products * hidden_size, width * input_size))
        self.bias = nn.Parameter(torch.empty(self.num_products * hidden_size))
        limit = 1 / math.sqrt(width * input_size)
        for parameter in (self.weight, self.bias):
            nn.init.uniform_(parameter, -limit, limit)

    @property
    def state_sizes(self) -> tuple[int, ...]:
        """Return the size of each part of the state."""
        return (self.hidden_size,)

    @property
    def recurrent(self) -> Tensor | None:
        """Return the matrix that weight dropout acts on; None: there is none."""
        return None

    def forward(
        self, inputs: Tensor, state: State, resets: Tensor | None = None, recurrent: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Run over (T, B, E) from a state of (1, B, H); returns (T, B, H) and the state after the last step.

        Args:
            resets: (T, B), true where a stream has a zero state before that input.
            recurrent: replaces ``self.recurrent``.
        """
        raise NotImplementedError

    def step(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """Take a single step from (B, E) and a state of (B, H); returns (B, H) and the next state."""
        hidden, end = self(inputs.unsqueeze(0), tuple(part.unsqueeze(0) for part in state))
        return hidden[0], tuple(part[0] for part in end)

    def stepper(self, lay_out: LayOut) -> Step:
        """Return ``step`` for many calls, with large matrices laid out by ``lay_out``; here ``step`` itself."""
        return self.step

    def products(self, inputs: Tensor, weight: Tensor | None = None) -> tuple[Tensor, ...]:
        """(…, E) → (…, H) each, at least in float32."""
        products = linear(inputs, self.weight if weight is None else weight, self.bias)
        return products.to(torch.promote_types(products.dtype, torch.float32)).chunk(self.num_products, dim=-1)


class RecurrentCell(Cell):
    """A cell that multiplies its hidden vector by a matrix, ``weight_hh``, on which weight dropout acts."""

    weight_hh: nn.Parameter

    @property
    def recurrent(self) -> Tensor | None:
        return self.weight_hh

    def draw(self) -> None:
        """Draw all weights that exist so far from ±1/sqrt(H), as torch's LSTM and GRU do."""
        limit = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -limit, limit)


class MinCell(Cell):
    """A running average of candidates: f_t h_(t−1) + (1 − f_t) h̃_t."""

    def candidates(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """(…, E) → h̃ and the argument of f's sigmoid, (…, H) each."""
        raise NotImplementedError

    def forward(
        self, inputs: Tensor, state: State, resets: Tensor | None = None, recurrent: Tensor | None = None
    ) -> tuple[Tensor, State]:
        candidates, gates = self.candidates(inputs)
        hidden = running_average(candidates, gates, state[0][0].to(candidates.dtype), resets)
        return hidden, (hidden[-1:],)

    def step(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        candidates, gates = self.candidates(inputs)
        hidden = torch.lerp(candidates, state[0], torch.sigmoid(gates))
        return hidden, (hidden,)


class MinGRU(MinCell):
    """h_t = (1 − z_t) h_(t−1) + z_t h̃_t, where z = σ(W_z x) and h̃ = W_h x."""

    num_products = 2  # z, h̃

    def candidates(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        update, candidates = self.products(inputs)
        return candidates, -update


class MinLSTM(MinCell):
    """h_t = f' h_(t−1) + i' h̃_t, where f = σ(W_f x), i = σ(W_i x), h̃ = W_h x, f' = f / (f + i) and i' = i / (f + i).

    f' is computed as σ(log f − log i), to avoid a quotient of vanishing gates.
    """

    num_products = 3  # f, i, h̃

    def candidates(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        forget, enter, candidates = self.products(inputs)
        return candidates, F.logsigmoid(forget) - F.logsigmoid(enter)


class QRNN(Cell):
    """c_t = f_t c_(t−1) + (1 − f_t) z_t and h_t = o_t c_t, where z = tanh(W_z x), f = σ(W_f x), o = σ(W_o x).

    With a ``width`` of 2, x is the previous input beside the present one, and the previous one is part of the state.
    Weight dropout acts on W, as in Merity et al. 2018b.
    """

    num_products = 3  # z, f, o

    def __init__(self, input_size: int, hidden_size: int, *, width: int) -> None:
        super().__init__(input_size, hidden_size, width=width)
        self.width = width

    @property
    def state_sizes(self) -> tuple[int, ...]:
        return self.hidden_size, (self.width - 1) * self.input_size

    @property
    def recurrent(self) -> Tensor | None:
        return self.weight

    def forward(
        self, inputs: Tensor, state: State, resets: Tensor | None = None, recurrent: Tensor | None = None
    ) -> tuple[Tensor, State]:
        cell, before = state
        end = state[1]
        if self.width == 2:
            before = torch.cat([before.to(inputs.dtype), inputs])  # (T + 1, B, E)
            end = before[-1:]
            before = before[:-1] if resets is None else before[:-1].masked_fill(resets.unsqueeze(2), 0)
            inputs = torch.cat([before, inputs], dim=2)  # (T, B, 2E)
        candidate, forget, output = self.products(inputs, recurrent)
        cells = running_average(torch.tanh(candidate), forget, cell[0].to(candidate.dtype), resets)
        return torch.sigmoid(output) * cells, (cells[-1:], end)

    def step(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        cell, before = state
        seen = torch.cat([before, inputs], dim=1) if self.width == 2 else inputs
        candidate, forget, output = self.products(seen)
        cell = torch.lerp(torch.tanh(candidate), cell, torch.sigmoid(forget))
        return torch.sigmoid(output) * cell, (cell, inputs if self.width == 2 else before)


class ResetBeforeGRU(RecurrentCell):
    """h_t = (1 − z) n + z h_(t−1), where n = tanh(W_n x + U_n (r h_(t−1))), r = σ(W_r x + U_r h_(t−1)), z likewise."""

    num_products = 3  # r, z, n

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.weight_hh = nn.Parameter(torch.empty(3 * hidden_size, hidden_size))
        self.draw()

    def forward(
        self, inputs: Tensor, state: State, resets: Tensor | None = None, recurrent: Tensor | None = None
    ) -> tuple[Tensor, State]:
        products = linear(inputs, self.weight, self.bias)  # (T, B, 3H)
        hidden = ResetBefore.apply(products, self.weight_hh if recurrent is None else recurrent, state[0][0], resets)
        return hidden, (hidden[-1:],)

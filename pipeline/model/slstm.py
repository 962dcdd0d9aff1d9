"""The LSTM with exponential gates and several heads (Beck et al. 2024, "xLSTM", section 2.2): sLSTM.

Its state is (h, a, l): the hidden vector, the average a = c/n of what it has read, and l, the logarithm of the
normaliser n; l = 0 stands for n = 0, a stream that has read nothing. Letters: T time, B streams, E embedding,
H hidden, K heads, D = H/K units of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.model.cells import LayOut, RecurrentCell, Step
from pipeline.model.cpu.looped_slstm import LoopedSLSTM, begun, ended
from pipeline.model.cpu.products import linear
from pipeline.model.state import State

NORM_EPSILON = 1e-5


class SLSTM(RecurrentCell):
    """c_t = f c_(t−1) + i z, n_t = f n_(t−1) + i, h_t = o c_t/n_t; its output is h_t, normalised within each head.

    z = tanh(W_z x + U_z h + b), o = σ(…), i = exp(…), f = σ(…) or exp(…); U has a block for each head, so that units
    see only those of their own head. Rows of the weights: for each head D for f, D for i, D for z, D for o.
    """

    num_products = 4  # f, i, z, o

    def __init__(self, input_size: int, hidden_size: int, *, num_heads: int, is_exponential: bool) -> None:
        """
        Args:
            is_exponential: f = exp(…), else σ(…).
        """
        super().__init__(input_size, hidden_size)
        self.num_heads, self.is_exponential = num_heads, is_exponential
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden_size, hidden_size // num_heads))
        self.draw()
        self.head_norm = nn.Parameter(torch.ones(hidden_size))

    @property
    def state_sizes(self) -> tuple[int, ...]:
        return (self.hidden_size,) * 3

    def forward(
        self, inputs: Tensor, state: State, resets: Tensor | None = None, recurrent: Tensor | None = None
    ) -> tuple[Tensor, State]:
        products = linear(inputs, self.weight, self.bias)  # (T, B, 4H)
        exact = torch.promote_types(products.dtype, torch.float32)
        start = (part[0].to(exact) for part in state)
        weight = self.weight_hh if recurrent is None else recurrent
        hidden, average, log = LoopedSLSTM.apply(products, weight, *start, resets, self.is_exponential)
        return self.normalized(hidden), (hidden[-1:], average.unsqueeze(0), log.unsqueeze(0))

    def step(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        return self._step(linear(inputs, self.weight, self.bias), state)

    def stepper(self, lay_out: LayOut) -> Step:
        from_inputs = lay_out(self.weight, self.bias)
        return lambda inputs, state: self._step(from_inputs(inputs), state)

    def _step(self, from_inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """Do ``step``, given the products of the inputs, (B, 4H)."""
        before, average, log = state
        products = self._in_heads(from_inputs)  # (K, B, 4D)
        blocks = self.weight_hh.view(self.num_heads, -1, self.weight_hh.shape[1])  # (K, 4D, D)
        sums = torch.baddbmm(products.to(before.dtype), self._in_heads(before), blocks.transpose(1, 2))
        gates = sums.transpose(0, 1).chunk(4, dim=2)  # (B, K, D) each
        forget, enter, candidate, output = (gate.flatten(1) for gate in gates)
        carried = (forget if self.is_exponential else F.logsigmoid(forget)) + begun(log)
        log_share = F.logsigmoid(enter - carried)
        average = torch.lerp(average, torch.tanh(candidate), torch.exp(log_share))
        hidden = torch.sigmoid(output) * average
        return self.normalized(hidden), (hidden, average, ended(enter - log_share))

    def normalized(self, hidden: Tensor) -> Tensor:
        """Normalise (…, H) within each head."""
        heads = hidden.unflatten(-1, (self.num_heads, -1))
        return F.layer_norm(heads, heads.shape[-1:], eps=NORM_EPSILON).flatten(-2) * self.head_norm

    def _in_heads(self, values: Tensor) -> Tensor:
        """(B, ·) → (K, B, ·/K)."""
        return values.unflatten(1, (self.num_heads, -1)).transpose(0, 1)

"""The Mogrifier LSTM (Melis, Kočiský & Blunsom 2020): input and hidden vector gate each other before each step.

Letters: T time, B streams, E embedding, H hidden, R rank.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.model.cells import LayOut, Product, RecurrentCell, Step
from pipeline.model.cpu.mogrified_lstm import MogrifiedLSTM
from pipeline.model.state import State


class MogrifierLSTM(RecurrentCell):
    """Rounds of x ← 2σ(Q h) x and h ← 2σ(R x) h in alternation, then torch's LSTM with gates i, f, k, o.

    ``mixers`` are the matrices of the rounds, (E, H) and (H, E) alternately; with a rank, two each: (·, R) and (R, ·).
    """

    num_products = 4  # i, f, k, o

    def __init__(self, input_size: int, hidden_size: int, *, num_rounds: int, rank: int | None = None) -> None:
        """
        Args:
            num_rounds: at least 1.
            rank: of the matrices of the rounds; None: full matrices.
        """
        super().__init__(input_size, hidden_size)
        self.num_rounds, self.rank = num_rounds, rank
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden_size, hidden_size))
        sizes = {"inputs": input_size, "hidden": hidden_size, "rank": rank or 0}
        self.mixers = nn.ParameterList(
            nn.Parameter(torch.empty(sizes[rows], sizes[columns])) for rows, columns in self.mixed
        )
        self.draw()

    @property
    def mixed(self) -> list[tuple[str, str]]:
        """Return, for each of ``mixers``, what its rows produce and its columns read: inputs, hidden or rank."""
        wholes = [("hidden", "inputs") if index % 2 else ("inputs", "hidden") for index in range(self.num_rounds)]
        if self.rank is None:
            return wholes
        return [pair for rows, columns in wholes for pair in ((rows, "rank"), ("rank", columns))]

    @property
    def state_sizes(self) -> tuple[int, ...]:
        return self.hidden_size, self.hidden_size

    @property
    def factors(self) -> list[list[nn.Parameter]]:
        """Return the one or two matrices of each round, whose product is the matrix of the round."""
        size = 1 if self.rank is None else 2
        mixers = list(self.mixers)
        return [mixers[start : start + size] for start in range(0, len(mixers), size)]

    def forward(
        self, inputs: Tensor, state: State, resets: Tensor | None = None, recurrent: Tensor | None = None
    ) -> tuple[Tensor, State]:
        with torch.autocast(inputs.device.type, enabled=False):
            mixers = [factors[0] if len(factors) == 1 else factors[0] @ factors[1] for factors in self.factors]
        exact = torch.promote_types(inputs.dtype, torch.float32)
        start = (part[0].to(exact) for part in state)
        weight = self.weight_hh if recurrent is None else recurrent
        hidden, cell = MogrifiedLSTM.apply(inputs, *start, resets, self.weight, weight, self.bias, *mixers)
        return hidden, (hidden[-1:], cell.unsqueeze(0))

    def step(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        return self.stepper(_as_it_is)(inputs, state)

    def stepper(self, lay_out: LayOut) -> Step:
        rounds = [[lay_out(factor, None) for factor in reversed(factors)] for factors in self.factors]
        from_inputs, from_hidden = lay_out(self.weight, self.bias), lay_out(self.weight_hh, None)

        def step(inputs: Tensor, state: State) -> tuple[Tensor, State]:
            hidden, cell = state
            both = [inputs, hidden]
            for index, products in enumerate(rounds):
                sums = both[1 - index % 2]
                for product in products:
                    sums = product(sums)
                both[index % 2] = both[index % 2] * (2 * torch.sigmoid(sums))
            gates = (from_inputs(both[0]) + from_hidden(both[1])).chunk(4, dim=1)
            enter, forget, candidate, output = gates
            cell = torch.sigmoid(forget) * cell + torch.sigmoid(enter) * torch.tanh(candidate)
            hidden = torch.sigmoid(output) * torch.tanh(cell)
            return hidden, (hidden, cell)

        return step


def _as_it_is(weight: Tensor, bias: Tensor | None) -> Product:
    return lambda rows: F.linear(rows, weight, bias)

"""An LSTM layer whose input and hidden vector gate each other before each step (Melis et al. 2020): a loop over time.

    x ← 2σ(Q h) x,  h ← 2σ(R x) h,  x ← 2σ(Q' h) x, …  and then the LSTM's step from x, h and c.

No product of the inputs can be computed ahead of the loop, because they depend on h; the gradient of each matrix is one
product over the whole window. The factors of 2 are taken out of the loop: what a matrix reads is halved by every
earlier round that changed it, so the matrix is multiplied by that power of two, which rounds nothing.
Letters: T time, B streams, E embedding, H hidden, D size of what a round changes: E or H.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pipeline.model.cpu.products import (
    column_sums,
    product_dtype,
    product_over_rows,
    product_with,
    tanh_,
    transposed,
)
from pipeline.model.cpu.wide_lstm import gradient_factors


class MogrifiedLSTM(torch.autograd.Function):
    """(T, B, E) and (B, H) h and c → (T, B, H), and c after the last step.

    ``mixers``: the matrix of each round, (E, H) in the first, which changes x, (H, E) in the second, and so on. The
    rows of the LSTM's weights, (4H, E) and (4H, H), are in torch's order i, f, k, o. Products are in autocast's format,
    everything else at least in float32.
    """

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        hidden: Tensor,
        cell: Tensor,
        resets: Tensor | None,
        weight_ih: Tensor,
        weight_hh: Tensor,
        bias: Tensor,
        *mixers: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """``resets``: (T, B), true where a stream has a zero state before that input."""
        low = product_dtype(weight_hh)
        exact = torch.promote_types(low, torch.float32)
        num_steps, num_streams, width = inputs.shape
        size = weight_hh.shape[1]
        with torch.autocast(inputs.device.type, enabled=False):
            factor_ih, factor_hh = _factors_of_pair(mixers)
            weights = torch.cat([weight_ih * factor_ih, weight_hh * factor_hh], dim=1)  # (4H, E + H)
            scaled = [(mixer * factor).to(low) for mixer, factor in zip(mixers, _factors(mixers), strict=True)]
            # tanh x = 2 σ(2x) − 1: with the sums under k doubled, one σ serves all four gates
            double = weights.new_tensor([1, 1, 2, 1]).repeat_interleave(size)
            doubled = (weights * double.unsqueeze(1)).to(low)
            sums_of = product_with(doubled, (bias * double).to(low), num_rows=num_streams)
            rounds_of = [product_with(mixer, num_rows=num_streams) for mixer in scaled]

            pairs = inputs.new_empty(num_steps, num_streams, width + size, dtype=exact)  # what the LSTM reads
            changed = _buffers(pairs, len(mixers), width)
            opened = [torch.empty_like(part, memory_format=torch.contiguous_format) for part in changed]
            gates = pairs.new_empty(num_steps, num_streams, 4, size)
            hiddens = pairs.new_empty(num_steps + 1, num_streams, size)
            cells = torch.empty_like(hiddens)
            squashed = torch.empty_like(cells[1:])  # tanh of the cells
            hiddens[0], cells[0] = hidden, cell
            for t, (x, pair, gate, shown) in enumerate(zip(inputs.to(exact), pairs, gates, squashed, strict=True)):
                before, last = hiddens[t], cells[t]
                if resets is not None:
                    reset = resets[t].unsqueeze(1)
                    before, last = before.masked_fill(reset, 0), last.masked_fill(reset, 0)
                both = [x, before]
                for index, (round_of, opening, result) in enumerate(zip(rounds_of, opened, changed, strict=True)):
                    target = index % 2
                    torch.sigmoid(round_of(both[1 - target].to(low)).to(exact), out=opening[t])
                    both[target] = torch.mul(opening[t], both[target], out=result[t])
                if len(mixers) == 1:
                    pair[:, width:] = before
                torch.sigmoid(sums_of(pair.to(low)).to(exact).view_as(gate), out=gate)
                enter, forget, half, output = gate.unbind(1)
                torch.mul(last, forget, out=cells[t + 1]).addcmul_(enter, half, value=2).sub_(enter)
                tanh_(shown.copy_(cells[t + 1]))
                torch.mul(shown, output, out=hiddens[t + 1])
            gates[:, :, 2].mul_(2).sub_(1)
        rounds = (*scaled, *opened, *changed)
        ctx.save_for_backward(hiddens, cells, squashed, gates, pairs, resets, weights.to(low), *rounds)
        ctx.dtype, ctx.input_dtype = bias.dtype, inputs.dtype
        return hiddens[1:].to(low), cells[-1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_outputs: Tensor, grad_cell: Tensor) -> tuple[Tensor | None, ...]:
        hiddens, cells, squashed, gates, pairs, resets, weights, *rounds = ctx.saved_tensors
        num_rounds = len(rounds) // 3
        mixers, opened, changed = (rounds[k * num_rounds : (k + 1) * num_rounds] for k in range(3))
        num_steps, num_streams, _, size = gates.shape
        low, width = weights.dtype, pairs.shape[2] - size
        with torch.autocast(pairs.device.type, enabled=False):
            starts = [hiddens[:-1], cells[:-1]]
            if resets is not None:
                starts = [part.masked_fill(resets.unsqueeze(2), 0) for part in starts]
            from_cell, output_factor, to_cell = gradient_factors(gates, starts[1], squashed)
            # factors from ∂ of a round's result to the sums under its sigmoid: v (1 − s)
            of_sums = [torch.addcmul(v, v, s, value=-1) for v, s in zip(changed, opened, strict=True)]
            grad_sums = [torch.empty_like(part, dtype=low) for part in of_sums]
            grad_gates = torch.empty_like(gates, dtype=low)
            grad_inputs = pairs.new_empty(num_steps, num_streams, width)
            of_gates = product_with(transposed(weights), num_rows=num_streams)
            of_rounds = [product_with(transposed(mixer), num_rows=num_streams) for mixer in mixers]
            grad_cell = grad_cell.clone()
            carried = torch.zeros_like(grad_cell)  # ∂h from later steps
            for t in range(num_steps - 1, -1, -1):
                grad_shown = grad_outputs[t] + carried
                grad_cell.addcmul_(grad_shown, to_cell[t])
                torch.mul(grad_cell.unsqueeze(1), from_cell[t], out=grad_gates[t, :, :3])
                torch.mul(grad_shown, output_factor[t], out=grad_gates[t, :, 3])
                grad_cell *= gates[t, :, 1]
                both = of_gates(grad_gates[t].flatten(1)).to(gates.dtype).split([width, size], dim=1)
                for index in range(num_rounds - 1, -1, -1):
                    target, source = both[index % 2], both[1 - index % 2]
                    torch.mul(target, of_sums[index][t], out=grad_sums[index][t])
                    source += of_rounds[index](grad_sums[index][t])
                    target *= opened[index][t]
                grad_inputs[t], carried = both
                if resets is not None:
                    reset = resets[t].unsqueeze(1)
                    carried = carried.masked_fill(reset, 0)
                    grad_cell.masked_fill_(reset, 0)
            flat = grad_gates.view(-1, 4 * size)  # (T·B, 4H)
            grad_weights = _over_rows(flat, pairs).to(ctx.dtype).split([width, size], dim=1)
            read = [starts[0], *changed[:-1]]  # what each round read
            grad_mixers = [
                _over_rows(grad.flatten(0, 1), seen).to(ctx.dtype) * factor
                for grad, seen, factor in zip(grad_sums, read, _factors(mixers), strict=True)
            ]
            factors = zip(grad_weights, _factors_of_pair(mixers), strict=True)
            grad_weight_ih, grad_weight_hh = (grad * factor for grad, factor in factors)
            grad_bias = column_sums(flat, ctx.dtype)
        starts = [grad_inputs.to(ctx.input_dtype), carried, grad_cell]
        return *starts, None, grad_weight_ih, grad_weight_hh, grad_bias, *grad_mixers


def _over_rows(grads: Tensor, read: Tensor) -> Tensor:
    """(T·B, V) gradients of products and the (T, B, D) that were multiplied → the (V, D) gradient of the matrix."""
    return product_over_rows(grads, read.to(grads.dtype).flatten(0, 1).contiguous())


def _buffers(pairs: Tensor, num_rounds: int, width: int) -> list[Tensor]:
    """Return where each round writes, (T, B, D): the last of x and the last of h into the (T, B, E + H) ``pairs``."""
    parts = pairs[:, :, :width], pairs[:, :, width:]
    earlier = [torch.empty_like(parts[k % 2], memory_format=torch.contiguous_format) for k in range(num_rounds - 2)]
    return [*earlier, *(parts[k % 2] for k in range(max(0, num_rounds - 2), num_rounds))]


def _factors(mixers: Sequence[Tensor]) -> list[int]:
    """Return the factor of each round's matrix: a 2 for every earlier round that changed what it reads."""
    return [2 ** ((index + 1) // 2) for index in range(len(mixers))]


def _factors_of_pair(mixers: Sequence[Tensor]) -> tuple[int, int]:
    """Return the same for the LSTM's matrices of x and of h."""
    return 2 ** ((len(mixers) + 1) // 2), 2 ** (len(mixers) // 2)

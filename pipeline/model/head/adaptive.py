"""The adaptive softmax of Grave, Joulin, Cissé, Grangier & Jégou 2017, for large vocabularies.

Types are ordered by frequency. A first softmax holds the frequent ones and one entry for each tail of rarer ones; a
tail's own softmax is computed only for the tokens that lie in it. Untied, each tail sees a smaller projection of the
hidden vector than the one before; tied, all use the rows of the embedding in full (Merity et al. 2018, "An Analysis of
Neural Language Modeling at Multiple Scales"). Letters: N = T·B tokens, H hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.model.cpu.products import linear
from pipeline.model.head.base import Head
from pipeline.model.head.cross_entropy import (
    IGNORED,
    add_gradients,
    linear_cross_entropy,
    linear_logits,
    linear_token_nats,
    rows_at_a_time,
    scaled_once,
    spread,
)
from pipeline.model.precision import autocast_where_native


class AdaptiveSoftmax(Head):
    """A softmax over the first ``cutoffs[0]`` types and the tails that begin at each of ``cutoffs``."""

    def __init__(
        self,
        hidden_size: int,
        vocab_size: int,
        *,
        cutoffs: Sequence[int],
        div_value: int = 4,
        tied_to: Tensor | None = None,
    ) -> None:
        """``div_value``: the factor by which hidden vectors are narrower from one tail to the next, if not tied."""
        super().__init__()
        self.bounds = [0, *cutoffs, vocab_size]
        self.sizes = [end - begin for begin, end in pairwise(self.bounds)]
        self.tails = nn.Linear(hidden_size, len(cutoffs))
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        self.weight = tied_to
        self.weights = nn.ParameterList()
        self.projections = nn.ModuleList()
        if tied_to is None:
            widths = [max(1, hidden_size // div_value**index) for index in range(len(self.sizes))]
            self.weights.extend(torch.empty(pair) for pair in zip(self.sizes, widths, strict=True))
            self.projections.extend(nn.Linear(hidden_size, width, bias=False) for width in widths[1:])

    def logits(self, hidden: Tensor) -> Tensor:
        (weight, bias), *tails = self._pieces()
        first = linear_logits(hidden, weight, bias).log_softmax(-1)  # (…, types and tails)
        num_first = self.sizes[0]
        parts = [first[..., :num_first]]
        for index, (weight, bias) in enumerate(tails):
            within = linear_logits(self._narrowed(hidden, index), weight, bias).log_softmax(-1)
            parts.append(within + first[..., num_first + index, None])
        return torch.cat(parts, dim=-1)

    def reset_parameters(self) -> None:
        for weight in self.weights if self.weight is None else [self.weight]:
            spread(weight)

    def _loss(self, rows: Tensor, targets: Tensor, most_logits: int | None) -> Tensor:
        places = [_rounded_up(*self._in_tail(targets, index)) for index in range(len(self.sizes) - 1)]
        first_targets = self._first_targets(targets)
        if self.weight is not None:
            parameters = (self.weight, self.bias, self.tails.weight, self.tails.bias)
            with autocast_where_native(rows.device.type):
                tied_nats: Tensor = TiedCrossEntropy.apply(
                    rows, *parameters, first_targets, self.sizes, places, most_logits
                )
            return tied_nats
        (weight, bias), *tails = self._pieces()
        nats = linear_cross_entropy(rows, weight, bias, first_targets, most_logits=most_logits)
        for index, ((weight, bias), (chosen, within)) in enumerate(zip(tails, places, strict=True)):
            narrowed = self._narrowed(rows.index_select(0, chosen), index)
            nats = nats + linear_cross_entropy(narrowed, weight, bias, within, most_logits=most_logits)
        return nats

    def _token_nats(self, rows: Tensor, targets: Tensor, most_logits: int | None) -> Tensor:
        (weight, bias), *tails = self._pieces()
        nats = linear_token_nats(rows, weight, bias, self._first_targets(targets), most_logits=most_logits)
        for index, (weight, bias) in enumerate(tails):
            chosen, within = self._in_tail(targets, index)
            narrowed = self._narrowed(rows.index_select(0, chosen), index)
            nats[chosen] += linear_token_nats(narrowed, weight, bias, within, most_logits=most_logits)
        return nats

    def _pieces(self) -> list[tuple[Tensor, Tensor]]:
        """Return the output matrix and bias of the first softmax, tails' entries after its types, and of each tail."""
        weights = list(self.weights) if self.weight is None else list(self.weight.split(self.sizes))
        biases = list(self.bias.split(self.sizes))
        weights[0] = torch.cat([weights[0], self.tails.weight])
        biases[0] = torch.cat([biases[0], self.tails.bias])
        return list(zip(weights, biases, strict=True))

    def _narrowed(self, hidden: Tensor, index: int) -> Tensor:
        """Project (…, H) to what tail number ``index`` takes."""
        if self.weight is not None:
            return hidden
        projection: Any = self.projections[index]
        return linear(hidden, projection.weight)

    def _first_targets(self, targets: Tensor) -> Tensor:
        """Return the (N,) targets of the first softmax: the type, the entry of its tail, or −100 as before."""
        tail = torch.stack([targets >= bound for bound in self.bounds[1:-1]]).sum(0)  # from 1; 0: none
        return torch.where(tail > 0, self.sizes[0] - 1 + tail, targets)

    def _in_tail(self, targets: Tensor, index: int) -> tuple[Tensor, Tensor]:
        """Find which of (N,) lie in tail number ``index``, and where in it; on a GPU the host waits for their count."""
        begin, end = self.bounds[index + 1 : index + 3]
        chosen = ((targets >= begin) & (targets < end)).nonzero().squeeze(1)
        return chosen, targets.index_select(0, chosen) - begin


def _rounded_up(chosen: Tensor, within: Tensor) -> tuple[Tensor, Tensor]:
    """Pad (n,) rows and targets with ignored ones to a multiple of 64: oneDNN caches code for every size it meets."""
    extra = -len(chosen) % 64
    return F.pad(chosen, (0, extra)), F.pad(within, (0, extra), value=IGNORED)


class TiedCrossEntropy(torch.autograd.Function):
    """The loss of a tied adaptive softmax; its gradients are computed on the way forward, up to the incoming factor.

    All softmaxes add theirs to parts of one (V, H) gradient; separate ones would have to be joined into a second one.
    """

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        weight: Tensor,
        bias: Tensor,
        tails_weight: Tensor,
        tails_bias: Tensor,
        first_targets: Tensor,
        sizes: list[int],
        places: list[tuple[Tensor, Tensor]],
        most_logits: int | None,
    ) -> Tensor:
        ctx.gradients = tuple(torch.zeros_like(part) for part in (rows, weight, bias, tails_weight, tails_bias))
        grad_rows, grad_weight, grad_bias, grad_tails_weight, grad_tails_bias = ctx.gradients
        chunks = [rows_at_a_time(size, rows.device, most_logits) for size in sizes]
        first, num_tails = sizes[0], len(tails_bias)
        first_weight = torch.cat([weight[:first], tails_weight])
        first_bias = torch.cat([bias[:first], tails_bias])
        grads = (grad_rows, torch.zeros_like(first_weight), torch.zeros_like(first_bias))
        nats = add_gradients(grads, rows, first_weight, first_bias, first_targets, chunk=chunks[0])
        for joined, of_types, of_tails in (
            (grads[1], grad_weight, grad_tails_weight),
            (grads[2], grad_bias, grad_tails_bias),
        ):
            of_types[:first], of_tails[:] = joined.split([first, num_tails])
        begin = first
        for size, chunk, (chosen, within) in zip(sizes[1:], chunks[1:], places, strict=True):
            types = slice(begin, begin + size)
            hidden = rows.index_select(0, chosen)
            grads = (torch.zeros_like(hidden), grad_weight[types], grad_bias[types])
            nats = nats + add_gradients(grads, hidden, weight[types], bias[types], within, chunk=chunk)
            grad_rows.index_add_(0, chosen, grads[0])
            begin += size
        return nats

    @staticmethod
    def backward(ctx: Any, grad_nats: Tensor) -> tuple[Tensor | None, ...]:
        return *scaled_once(ctx, grad_nats), None, None, None, None

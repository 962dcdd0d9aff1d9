"""The norm of ∂loss_t/∂state_(t−k), k = 1 … T, of a real batch (the analysis of Pascanu, Mikolov & Bengio 2013).

A forward pass one step at a time keeps the state after every step, and one backward pass from the last step's loss
yields its gradient in all of them. Streams do not mix, so the sum of B streams' losses yields B gradients at once.
Letters: T time, B streams, H hidden, P parts of a state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.data.scoring import ScoringStreams
from pipeline.data.streams import NO_RESETS, ResetRule
from pipeline.data.windows import Resets, Tokens, Window
from pipeline.errors import UserError
from pipeline.model.evaluating import evaluating
from pipeline.model.language_model import LanguageModel
from pipeline.model.segments import Segments
from pipeline.model.state import State, detach
from pipeline.scoring import ids_of


@dataclass(frozen=True)
class GradientFlow:
    """Mean norms over ``num_samples`` places t; entry k−1 belongs to ∂loss_t/∂state_(t−k).

    ``norms`` are of the whole state, with all layers and parts; ``parts`` are of each part alone (LSTM: h and c).
    """

    norms: Sequence[float]
    parts: Sequence[Sequence[float]]
    num_samples: int

    @property
    def shares(self) -> list[float]:
        """Return, for each k, the share of the gradient one step back that is left after k steps."""
        return [norm / (self.norms[0] or 1.0) for norm in self.norms]

    def horizon(self, share: float) -> int | None:
        """Return the number of steps from which less than ``share`` is left; None if that is never seen."""
        alive = [k for k, left in enumerate(self.shares, start=1) if not left < share]
        last = max(alive, default=0)
        return last + 1 if last < len(self.norms) else None


def measure(
    model: LanguageModel,
    tokens: Tokens,
    *,
    length: int,
    num_streams: int,
    num_windows: int = 4,
    reset: ResetRule = NO_RESETS,
) -> GradientFlow:
    """Measure how far back the loss at the end of a window of ``length`` steps reaches, without dropout.

    The text is read as ``num_streams`` streams; the first window only warms up the state, the next ``num_windows``
    count. Where states are made zero, as ``reset`` says, no gradient flows on.

    Raises:
        UserError: too few tokens for two windows, or a model that attends to the past.
    """
    windows = windows_of(model, tokens, length=length, num_streams=num_streams, num_windows=num_windows, reset=reset)
    state = model.initial_state(windows[0].inputs.shape[1])
    found = []
    for window in windows:
        inputs, targets = ids_of(window, model.device)
        squares, state = gradient_squares(model, inputs, targets[-1:], state, window.resets)
        found.append(squares)
    squares = torch.cat(found[1:], dim=2)  # (T, P, samples)
    norms = squares.sum(1).sqrt().mean(1)
    return GradientFlow(norms.tolist(), squares.sqrt().mean(2).T.tolist(), squares.shape[2])


def windows_of(
    model: LanguageModel,
    tokens: Tokens,
    *,
    length: int,
    num_streams: int,
    num_windows: int = 4,
    reset: ResetRule = NO_RESETS,
) -> list[Window]:
    """Return what ``measure`` reads with the same arguments. Raises ``UserError`` as it does, before anything is read.

    So it says of several models whether all of them can be measured.
    """
    if model.attends:
        raise UserError(
            f"gradients are followed from hidden state to hidden state, which attention bypasses ({model.attends})",
            argument="run",
        )
    streams = ScoringStreams(tokens, num_streams=num_streams, bptt=length, reset=reset)
    batch_size = len(streams.rows)
    windows = [w for w, _ in zip(streams.windows(), range(num_windows + 1), strict=False) if len(w.inputs) == length]
    windows = [window for window in windows if (window.targets >= 0).all()]
    if len(windows) < 2:
        raise UserError(
            f"two windows of {length} steps on {batch_size} streams need more text than the "
            f"{len(tokens):,} tokens there are",
            argument="length",
        )
    return windows


def gradient_squares(
    model: LanguageModel, inputs: Tensor, targets: Tensor, state: State, resets: Resets | None = None
) -> tuple[Tensor, State]:
    """Read (T, B) inputs step by step; returns (T, P, B) squares of gradients and the state at the end.

    Row k−1 holds the squared norms of ∂loss/∂state, where the loss is of the (1, B) ``targets`` of the last step and
    the state is the one k steps before. ``resets``, (T, B), is true where a stream's state is made zero before an
    input.
    """
    state = tuple(part.detach().requires_grad_() for part in state)
    states = []
    with evaluating(model, gradients=True):
        for index, step in enumerate(inputs.unsqueeze(1)):  # (1, B)
            states.append(state)
            here = None if resets is None else resets[index : index + 1]
            segments = None if here is None or not here.any() else Segments(here, device=model.device)
            hidden, state = model(step, state, segments)
        nats = model.head.loss(hidden, targets)
        parts = [part for earlier in reversed(states) for part in earlier]  # (layers, B, H) each
        gradients = torch.autograd.grad(nats, parts, allow_unused=True, materialize_grads=True)
    squares = torch.stack([gradient.double().square().sum(dim=(0, 2)) for gradient in gradients])  # (T·P, B)
    return squares.view(len(inputs), -1, inputs.shape[1]), detach(state)

"""Dynamic evaluation (Krause et al. 2018): the weights adapt to the text that has been scored, segment by segment.

θ ← θ − η g / (RMS + ε) + λ (θ₀ − θ) · RMS / mean(RMS), with g the gradient of the segment just scored, θ₀ the trained
weights and RMS the root mean square of gradients on the training text; plain SGD leaves RMS out. mean(RMS) averages the
means of the parameters, as in the published code: over all numbers at once, an embedding of rare words would dominate
it. Constant memory.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

import torch
from torch import Tensor

from pipeline.data.scoring import ScoringStreams
from pipeline.data.windows import Window
from pipeline.evaluate.moving import MovedRows, MovedWeight, rows_of
from pipeline.model.evaluating import evaluating
from pipeline.model.language_model import LanguageModel
from pipeline.model.state import State, detach
from pipeline.options import DynamicSettings
from pipeline.scoring import Scored, ids_of, read

# windows of the training text that RMS is measured on
GRADIENT_WINDOWS = 300
TRIED_LRS = {"rms": (5e-4, 1e-3, 2e-3, 4e-3), "sgd": (0.03, 0.1, 0.3, 1.0)}
TRIED_EPSILONS = (3e-4, 1e-3, 3e-3)
TRIED_DECAYS = (0.0, 1e-3, 5e-3, 0.02, 0.05)


class Follower:
    """A copy of a model whose weights are moved; the model itself does not change.

    The gradient of an embedding is sparse: the rows of the types that were read. If the head shares the matrix, they
    are added to the head's gradient.
    """

    def __init__(self, model: LanguageModel) -> None:
        self.model = copy.deepcopy(model)
        self.parameters = [parameter.requires_grad_() for parameter in self.model.parameters()]
        self.model.embedding.sparse = True

    def read(
        self, window: Window, state: State | None, nats: list[Tensor] | None = None
    ) -> tuple[Tensor, Tensor, State, tuple[Tensor, ...]]:
        """Return (T, B, H) hidden, (T, B) targets, the state after ``window``, and the gradient of its mean loss.

        Args:
            nats: the (T, B) nats that the loss sums are appended to this list.
        """
        with evaluating(self.model, gradients=True):
            hidden, targets, state = read(self.model, window, state)
            if nats is None:
                loss = self.model.head.loss(hidden, targets)
            else:
                loss, each = self.model.head.loss_and_nats(hidden, targets)
                nats.append(each)
            loss = loss / max(1, int((window.targets >= 0).sum()))
            gradients = torch.autograd.grad(loss, self.parameters, allow_unused=True, materialize_grads=True)
        return hidden.detach(), targets, detach(state), gradients


class Learner(Follower):
    """A follower whose weights move by the rule of ``settings``.

    Args:
        rms: from ``gradient_rms``; None: plain SGD.
    """

    def __init__(self, model: LanguageModel, settings: DynamicSettings, rms: list[Tensor] | None) -> None:
        super().__init__(model)
        mean = 1.0 if rms is None else torch.stack([part.mean() for part in rms]).mean()
        self.weights: list[MovedWeight] = []
        self.rows: MovedRows | None = None
        is_tied = any(parameter is self.model.embedding.weight for parameter in self.model.head.parameters())
        for index, parameter in enumerate(self.parameters):
            decay: float | Tensor = settings.decay
            scale = None
            if rms is not None:
                # a decay above 1 would overshoot
                decay = (settings.decay * rms[index] / mean).clamp(max=1)
                scale = 1 / (rms[index] + settings.epsilon)
            if parameter is self.model.embedding.weight and not is_tied:
                self.rows = MovedRows(parameter, settings.lr, decay, scale)
                self.weights.append(self.rows)
            else:
                self.weights.append(MovedWeight(parameter, settings.lr, decay, scale))

    def read(
        self, window: Window, state: State | None, nats: list[Tensor] | None = None
    ) -> tuple[Tensor, Tensor, State, tuple[Tensor, ...]]:
        if self.rows is not None:
            self.rows.catch_up(ids_of(window, self.model.device)[0].long().flatten())
        return super().read(window, state, nats)

    @torch.no_grad()
    def learn(self, gradients: Sequence[Tensor]) -> None:
        """Move the weights once."""
        for weight, gradient in zip(self.weights, gradients, strict=True):
            weight.move(gradient)


def gradient_rms(model: LanguageModel, parts: ScoringStreams) -> list[Tensor]:
    """Return the root mean square of each weight's gradient over the first windows of ``parts``, training text."""
    follower = Follower(model)
    sums = [torch.zeros_like(parameter) for parameter in follower.parameters]
    state, num_windows = None, 0
    for window in islice(parts.windows(), GRADIENT_WINDOWS):
        _, _, state, gradients = follower.read(window, state)
        for total, gradient in zip(sums, gradients, strict=True):
            if gradient.is_sparse:
                rows, values = rows_of(gradient)
                total.index_add_(0, rows, values.square())
            else:
                total.addcmul_(gradient, gradient)
        num_windows += 1
    return [part.div_(num_windows).sqrt_() for part in sums]


def follow(
    model: LanguageModel, parts: ScoringStreams, settings: DynamicSettings, rms: list[Tensor] | None
) -> Iterator[Scored]:
    """Score the windows of ``parts``, one stream in segments, each before the weights learn from it.

    Args:
        rms: from ``gradient_rms``; None: plain SGD.
    """
    learner = Learner(model, settings, rms)
    state = None
    for window in parts.windows():
        nats: list[Tensor] = []
        hidden, _, state, gradients = learner.read(window, state, nats)
        yield Scored(window, hidden, nats[0])
        learner.learn(gradients)


def tune_dynamic(nats_of: Callable[[DynamicSettings], float], settings: DynamicSettings) -> DynamicSettings:
    """Find the best learning rate, for rms then the best ε at the same η / ε, then the best decay, by ``nats_of``."""

    def tried(each: DynamicSettings) -> float:
        nats = nats_of(each)
        return math.inf if math.isnan(nats) else nats  # of weights that overflowed; min would keep a nan that is first

    best = min((replace(settings, lr=lr) for lr in TRIED_LRS[settings.rule]), key=tried)
    if settings.rule == "rms":
        ratio = best.lr / best.epsilon
        best = min((replace(best, lr=ratio * epsilon, epsilon=epsilon) for epsilon in TRIED_EPSILONS), key=tried)
    return min((replace(best, decay=decay) for decay in TRIED_DECAYS), key=tried)

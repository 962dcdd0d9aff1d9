"""Dynamic evaluation (Krause et al. 2018): the weights follow the text that has been scored, a segment at a time.

θ ← θ − η g / (RMS + ε) + λ (θ₀ − θ) · RMS / mean(RMS), with g the gradient of the segment just scored, θ₀ the trained
weights and RMS the root mean square of gradients on the training text; plain SGD leaves RMS out. Constant memory.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

import torch
from torch import Tensor

from pipeline.data.scoring import ScoringStreams
from pipeline.data.windows import Window
from pipeline.evaluate.scoring import Scored
from pipeline.model.language_model import LanguageModel
from pipeline.model.segments import Segments
from pipeline.model.state import State, detach, zeros_like

EPSILON = 1e-5
# windows of the training text that RMS is measured on
GRADIENT_WINDOWS = 300
RATES = {"rms": (3e-6, 1e-5, 3e-5, 1e-4), "sgd": (0.01, 0.03, 0.1, 0.3)}
DECAYS = (0.0, 1e-3, 5e-3, 2e-2)


@dataclass(frozen=True)
class DynamicSettings:
    """Raises ``ValueError`` naming the option that is out of its range."""

    rule: str = "rms"
    lr: float = 1e-4  # η
    decay: float = 1e-3  # λ
    segment: int = 20  # tokens between two updates

    def __post_init__(self) -> None:
        if self.lr <= 0:
            raise ValueError(f"--dynamic-lr: {self.lr} is not above 0")
        if not 0 <= self.decay <= 1:
            raise ValueError(f"--dynamic-decay: {self.decay} is not in [0, 1]")
        if self.segment < 1:
            raise ValueError(f"--dynamic-segment: {self.segment} is below 1")


class Follower:
    """A copy of a model whose weights are moved; the model itself stays as it is."""

    def __init__(self, model: LanguageModel) -> None:
        self.model = copy.deepcopy(model).eval()
        self.parameters = [parameter.requires_grad_() for parameter in self.model.parameters()]

    def read(self, window: Window, state: State) -> tuple[Tensor, Tensor, State, tuple[Tensor, ...]]:
        """(T, B, H) hidden, (T, B) nats, state after ``window``, and the gradient of its mean nats per token."""
        model = self.model
        inputs = torch.from_numpy(window.inputs).to(model.device)  # (T, B)
        targets = torch.from_numpy(window.targets).to(model.device)  # (T, B)
        segments = None if window.resets is None else Segments(window.resets, device=model.device)
        # cuDNN has no gradient of a recurrence that is not training
        with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
            hidden, state = model(inputs, zeros_like(state) if window.begins else state, segments)
            loss = model.head.loss(hidden, targets) / max(1, int((window.targets >= 0).sum()))
            gradients = torch.autograd.grad(loss, self.parameters, allow_unused=True, materialize_grads=True)
        hidden = hidden.detach()
        return hidden, model.head.token_nats(hidden, targets), detach(state), gradients


def gradient_rms(model: LanguageModel, parts: ScoringStreams) -> list[Tensor]:
    """The root mean square of the gradient of each weight over the first windows of ``parts``, training text."""
    follower = Follower(model)
    sums = [torch.zeros_like(parameter) for parameter in follower.parameters]
    state, num_windows = model.initial_state(len(parts.rows)), 0
    for window in islice(parts.windows(), GRADIENT_WINDOWS):
        _, _, state, gradients = follower.read(window, state)
        torch._foreach_addcmul_(sums, gradients, gradients)
        num_windows += 1
    return [(part / num_windows).sqrt() for part in sums]


def follow(
    model: LanguageModel, parts: ScoringStreams, settings: DynamicSettings, rms: list[Tensor] | None
) -> Iterator[Scored]:
    """The windows of ``parts``, one stream in segments, each scored before the weights learn from it.

    Args:
        rms: of ``gradient_rms``; None: plain SGD.
    """
    follower = Follower(model)
    trained = [parameter.detach().clone() for parameter in follower.parameters]
    weights = [parameter.detach() for parameter in follower.parameters]
    if rms is None:
        steps = [torch.ones(())] * len(weights)
        decays: list[Tensor] = [torch.tensor(settings.decay)] * len(weights)
    else:
        mean = sum(part.double().sum() for part in rms) / sum(part.numel() for part in rms)
        steps = [1 / (part + EPSILON) for part in rms]
        decays = [(settings.decay * part / mean.to(part.dtype)).clamp(max=1) for part in rms]  # type: ignore[union-attr]
    state = model.initial_state(len(parts.rows))
    for window in parts.windows():
        hidden, nats, state, gradients = follower.read(window, state)
        yield Scored(window, hidden, nats)
        for weight, start, gradient, step, decay in zip(weights, trained, gradients, steps, decays, strict=True):
            back = (start - weight).mul_(decay)
            weight.sub_(gradient.mul_(step), alpha=settings.lr).add_(back)


def tune_dynamic(nats_of: Callable[[DynamicSettings], float], settings: DynamicSettings) -> DynamicSettings:
    """The best learning rate, then the best decay at it, by the nats that ``nats_of`` finds."""
    candidates = [replace(settings, lr=lr) for lr in RATES[settings.rule]]
    best = min(candidates, key=nats_of)
    return min((replace(best, decay=decay) for decay in DECAYS), key=nats_of)

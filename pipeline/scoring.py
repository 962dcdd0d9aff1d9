"""The one way from windows of a text to hidden vectors and nats, for everything that scores or follows gradients.

Letters: T time, B streams, H hidden.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.data.windows import Window
from pipeline.model.evaluating import evaluating
from pipeline.model.language_model import LanguageModel
from pipeline.model.precision import autocast
from pipeline.model.segments import Segments
from pipeline.model.state import State

NOT_FINITE = "the model's outputs are not finite: its training diverged"


@dataclass(frozen=True)
class Scored:
    """A window after it was scored."""

    window: Window
    hidden: Tensor  # (T, B, H) as the head takes it
    nats: Tensor  # (T, B), 0 where the target does not count
    entropy: Tensor | None = None  # (T, B) of the distribution of each target, if asked for
    log_masses: Tensor | None = None  # (T, B, G) ln P of groups of types, if asked for
    ranks: Tensor | None = None  # (T, B) of each target among all types, 1 for the likeliest, if asked for


def ids_of(window: Window, device: torch.device) -> tuple[Tensor, Tensor]:
    """Put the (T, B) inputs and targets of ``window`` on ``device``."""
    return torch.from_numpy(window.inputs).to(device), torch.from_numpy(window.targets).to(device)


def read(model: LanguageModel, window: Window, state: State | None) -> tuple[Tensor, Tensor, State]:
    """Run ``model`` over ``window``, within ``evaluating``.

    Args:
        state: what the previous window left; None: a zero state.

    Returns:
        (T, B, H) hidden vectors as the head takes them, the (T, B) targets, and the state after the window.
    """
    inputs, targets = ids_of(window, model.device)
    if state is None or window.begins:
        state = model.initial_state(inputs.shape[1])
    segments = None if window.resets is None else Segments(window.resets, device=model.device)
    hidden, state = model(inputs, state, segments)
    return hidden, targets, state


def scored_windows(
    model: LanguageModel,
    windows: Iterable[Window],
    *,
    state: State | None = None,
    precision: str = "float32",
    groups: Tensor | None = None,
    ranks: bool = False,
) -> Iterator[Scored]:
    """Score ``windows`` one after another, starting from ``state``; those at negative positions are only read.

    Args:
        groups: (V, G) as for ``Head.distribution``, whose figures are then returned as well.
        ranks: with ``groups``, return the ranks of the targets, too.
    """
    for window in windows:
        with evaluating(model), autocast(precision, model.device):
            hidden, targets, state = read(model, window, state)
            scored = score(model, window, hidden, targets, groups, ranks=ranks) if window.position >= 0 else None
        if scored is not None:
            yield scored


def score(
    model: LanguageModel,
    window: Window,
    hidden: Tensor,
    targets: Tensor,
    groups: Tensor | None = None,
    *,
    ranks: bool = False,
) -> Scored:
    """Score a ``window`` from the (T, B, H) ``hidden`` vectors and (T, B) ``targets`` of ``read``."""
    if groups is None:
        return Scored(window, hidden, model.head.token_nats(hidden, targets))
    found = model.head.distribution(hidden, targets, groups, ranks=ranks)
    return Scored(window, hidden, found.nats, found.entropy, found.log_masses, found.ranks)

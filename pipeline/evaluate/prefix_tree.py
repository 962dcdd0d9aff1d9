"""Texts with shared beginnings, each of which is read only once: minimal pairs mostly differ in a word or two.

texts → sorted, so that those with the same beginning are neighbours → one step of the model per position, with a row
for each distinct beginning up to there. Letters: T time, B texts, N beginnings, V vocabulary, G groups of types.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from pipeline.data.tokenizer import Ids
from pipeline.evaluate.windows import window_of
from pipeline.model.evaluating import evaluating
from pipeline.model.head.base import distribution_of
from pipeline.model.language_model import LanguageModel
from pipeline.model.state import select, zeros_like
from pipeline.model.stepper import Stepper, is_plain
from pipeline.scoring import Scored

# logits that exist at a time
MOST_LOGITS = 1 << 24
# of the tokens; if more of them have to be read after all, reading whole texts is faster
LARGEST_SHARE = 0.85


def in_order(texts: Sequence[Ids]) -> list[int]:
    """Return the numbers of ``texts``, sorted so that those with the same beginning are adjacent."""
    return sorted(range(len(texts)), key=lambda number: texts[number].tolist())


def pays(model: LanguageModel, texts: Sequence[Ids]) -> bool:
    """Whether ``model`` can step quickly, and ``texts`` have enough of their beginnings in common."""
    if not is_plain(model) or not texts:
        return False
    order = in_order(texts)
    num_shared = sum(_num_equal(texts[a], texts[b]) for a, b in pairwise(order))
    num_tokens = sum(len(text) - 1 for text in texts)
    return num_tokens - num_shared <= LARGEST_SHARE * num_tokens


def _num_equal(a: Ids, b: Ids) -> int:
    """Return how many inputs two texts share at their beginning; the last token is not an input."""
    length = min(len(a), len(b)) - 1
    differs = np.flatnonzero(a[:length] != b[:length])
    return int(differs[0]) if len(differs) else length


class PrefixTree:
    """Scores texts with ``model``, which must not change meanwhile."""

    def __init__(self, model: LanguageModel) -> None:
        self.model = model
        self.stepper = Stepper(model)

    def batches(self, texts: Sequence[Ids]) -> Iterator[list[int]]:
        """Yield the numbers of ``texts`` to score at a time: neighbours."""
        order = in_order(texts)
        size = max(1, MOST_LOGITS // self.model.embedding.num_embeddings)
        for begin in range(0, len(order), size):
            yield order[begin : begin + size]

    def score(self, texts: Sequence[Ids], groups: Tensor | None = None) -> Scored:
        """Score a batch of ``texts``, int64 and sorted, from a zero state; hidden vectors are not kept.

        Args:
            groups: (V, G) as in ``Head.distribution``, whose figures are then given as well.
        """
        window = window_of(texts)
        shape = window.targets.shape  # (T, B)
        lengths = np.array([len(text) - 1 for text in texts])  # (B,)
        begins_new = _begins_new(window.inputs)  # (T, B)
        row_of = np.zeros(shape[1], dtype=np.int64)  # (B,) the row of each text's beginning, one token shorter
        state = self.model.initial_state(1)
        found: list[Tensor] = []
        with evaluating(self.model):
            for position in range(shape[0]):
                alive = np.flatnonzero(lengths > position)  # (A,)
                number = np.cumsum(begins_new[position])[alive]
                _, first, rows = np.unique(number, return_index=True, return_inverse=True)  # (N,), (A,)
                state = select(state, self._on_device(row_of[alive[first]]))
                logits, state = self.stepper(self._on_device(window.inputs[position, alive[first]]), state)  # (N, V)
                if self._leaves_nothing(position):
                    state = zeros_like(state)
                row_of[alive] = rows
                targets = self._on_device(window.targets[position, alive])
                figures = figures_of(logits, self._on_device(rows), targets, groups)
                # (F, B) for all texts, 0 for those that have ended
                found.append(torch.zeros(len(figures), shape[1], device=logits.device, dtype=logits.dtype)
                             .index_copy_(1, self._on_device(alive), figures))  # fmt: skip
        nats, *others = torch.stack(found, dim=1)  # (T, B) each
        nothing = nats.new_empty(0)
        if groups is None:
            return Scored(window, nothing, nats)
        return Scored(window, nothing, nats, others[0], torch.stack(others[1:], dim=2) if others[1:] else nothing)

    def _leaves_nothing(self, position: int) -> bool:
        """Whether the state is zero after input ``position``; input 0 is what is read before the texts."""
        every = self.model.reset_every
        return (position == 0 and self.model.reset_after is not None) or (every is not None and position % every == 0)

    def _on_device(self, values: Ids) -> Tensor:
        return torch.from_numpy(values).to(self.model.device)


def _begins_new(inputs: Ids) -> np.ndarray:
    """Return (T, B): whether each of the sorted texts, up to each position, differs from the one before it."""
    differs = np.ones(inputs.shape, dtype=bool)
    differs[:, 1:] = np.logical_or.accumulate(inputs[:, 1:] != inputs[:, :-1], axis=0)
    return differs


def figures_of(logits: Tensor, rows: Tensor, targets: Tensor, groups: Tensor | None) -> Tensor:
    """(N, V) logits, (A,) rows of them, (A,) targets → (F, A): nats, and with ``groups`` the other figures."""
    if groups is None:
        total = logits.logsumexp(-1)  # (N,)
        return (total[rows] - logits[rows, targets]).unsqueeze(0)
    nats, entropy, log_masses = distribution_of(logits[rows], targets, groups)
    return torch.cat([torch.stack([nats, entropy]), log_masses.t()])

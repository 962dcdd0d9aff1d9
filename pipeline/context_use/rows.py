"""Read rows of text side by side from a zero state, for the hidden vectors at the places that are wanted.

A row may be preceded by a changed context: text from elsewhere, or what precedes it in another order. Letters: T time,
R rows, P pairs, H hidden, F tokens of the changed context.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.context_use.places import Pairs
from pipeline.data.streams import NO_RESETS, ResetRule
from pipeline.data.tokenizer import Ids
from pipeline.data.windows import Tokens
from pipeline.model.evaluating import evaluating
from pipeline.model.language_model import LanguageModel
from pipeline.model.segments import Segments
from pipeline.model.state import select

# rows read side by side, and tokens of all of them read at a time
ROWS_AT_ONCE, TOKENS_AT_ONCE = 512, 8192


# (R,) starts of rows → (R, F) tokens that are read before each, and (R,) how many of the last of them count
Changed = Callable[[Ids], tuple[Ids, Ids]]


@dataclass(frozen=True)
class Rows:
    """The rows that ``pairs`` need, the longest first, and where each pair is found in them."""

    starts: Ids  # (R,)
    lengths: Ids  # (R,)
    row: Ids  # (P,)
    step: Ids  # (P,) tokens read before the target

    @classmethod
    def of(cls, pairs: Pairs) -> Rows:
        starts, row = np.unique(pairs.starts, return_inverse=True)
        step = pairs.targets - pairs.starts
        lengths = np.zeros(len(starts), dtype=np.int64)
        np.maximum.at(lengths, row, step)
        order = np.argsort(-lengths, kind="stable")
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        return cls(starts[order], lengths[order], place[row], step)

    @property
    def num_tokens(self) -> int:
        """Return the number of tokens in all rows."""
        return int(self.lengths.sum())


def hidden_of(
    model: LanguageModel,
    tokens: Tokens,
    rows: Rows,
    *,
    reset: ResetRule = NO_RESETS,
    changed: Changed | None = None,
    on_tokens: Callable[[int], None] = lambda number: None,
) -> Iterator[tuple[Ids, Tensor]]:
    """Read ``rows``; yields indices of pairs, (n,), with their hidden vectors, (n, H), as the head takes them.

    Args:
        reset: where within a row the state is made zero.
        changed: what is read before the rows.
        on_tokens: called with the number of tokens just read.
    """
    by_row = np.argsort(rows.row, kind="stable")  # (P,)
    bounds = np.searchsorted(rows.row[by_row], np.arange(0, len(rows.starts) + ROWS_AT_ONCE, ROWS_AT_ONCE))
    for number, (low, high) in enumerate(pairwise(bounds)):
        chunk = slice(number * ROWS_AT_ONCE, (number + 1) * ROWS_AT_ONCE)
        pairs = by_row[low:high]
        reader = _Reader(model, tokens, rows.starts[chunk], rows.lengths[chunk], reset, changed)
        for begin, hidden in reader.windows(on_tokens):
            step, row = rows.step[pairs] - 1 - begin, rows.row[pairs] - chunk.start
            is_here = (step >= 0) & (step < len(hidden))
            if is_here.any():
                where = (torch.from_numpy(part[is_here]).to(hidden.device) for part in (step, row))
                yield pairs[is_here], hidden[tuple(where)]


class _Reader:
    """Reads some rows, the longest first, in windows of at most ``TOKENS_AT_ONCE`` tokens."""

    def __init__(
        self,
        model: LanguageModel,
        tokens: Tokens,
        starts: Ids,
        lengths: Ids,
        reset: ResetRule,
        changed: Changed | None,
    ) -> None:
        self.model, self.tokens, self.starts, self.lengths, self.reset = model, tokens, starts, lengths, reset
        self.before: Ids = np.zeros((len(starts), 0), dtype=np.int64)  # (R, F)
        self.num_before: Ids = np.zeros(len(starts), dtype=np.int64)  # (R,)
        if changed is not None:
            self.before, self.num_before = changed(starts)

    def windows(self, on_tokens: Callable[[int], None]) -> Iterator[tuple[int, Tensor]]:
        """Yield, for each window, its position in the rows, and the hidden vectors (T, rows that reach so far, H)."""
        position, longest = -self.before.shape[1], int(self.lengths[0])
        state = self.model.initial_state(len(self.starts))
        while position < longest:
            num_rows = int((self.lengths > position).sum())
            length = max(1, TOKENS_AT_ONCE // num_rows)
            end = min(position + length, 0 if position < 0 else int(self.lengths[num_rows - 1]))
            inputs, resets = self._window(position, end, num_rows)
            with evaluating(self.model):
                if num_rows < state[0].shape[1]:
                    state = select(state, slice(0, num_rows))
                segments = None if resets is None else Segments(resets.T, device=self.model.device)
                hidden, state = self.model(torch.from_numpy(inputs.T).to(self.model.device), state, segments)
            on_tokens(inputs.size)
            if end > 0:
                yield position, hidden
            position = end

    def _window(self, position: int, end: int, num_rows: int) -> tuple[Ids, Any]:
        """Return (rows, T) tokens from ``position`` to ``end`` of the first rows, and where states are made zero."""
        starts, length = self.starts[:num_rows], self.before.shape[1]
        if position < 0:
            inputs, resets = self.before[:num_rows, length + position : length + end], None
        else:
            inputs = self.tokens.rows(starts + position, end - position)
            resets = self.reset.mask(self.tokens, starts + position, position=position, length=end - position)
        is_begin = np.arange(position, end) == -self.num_before[:num_rows, None]
        is_begin &= self.num_before[:num_rows, None] < length  # else the state is zero anyway
        if is_begin.any():
            resets = is_begin if resets is None else resets | is_begin
        return inputs, resets

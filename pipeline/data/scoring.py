"""Held-out tokens in, (T, B) windows out that score every token once. Letters: T time, B streams or documents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from pipeline.data.document_pools import DocumentPools, block, padded_with
from pipeline.data.streams import NO_RESETS, ResetRule, part_of
from pipeline.data.windows import IGNORED, Tokens, Window, resets_of_texts
from pipeline.errors import UserError


class ScoringStreams:
    """Held-out text in streams that score each of its M = N−1 targets exactly once.

    Stream b of S takes targets b·M//S + 1 … (b+1)·M//S; a stream that is one shorter ends with a target of −100.
    There are fewer streams if the text has no window for each.
    """

    layout = "streams"

    def __init__(
        self,
        tokens: Tokens,
        *,
        num_streams: int,
        bptt: int,
        reset: ResetRule = NO_RESETS,
        burn_in: int = 0,
        rank: int = 0,
        world_size: int = 1,
        window_length: int | None = None,
    ) -> None:
        """
        Args:
            burn_in: tokens before each stream that are read first, unscored; none if states are set to zero every
                few windows anyway.
            window_length: inputs of each stream at a time; by default ``bptt``.

        Raises:
            UserError: fewer than two tokens.
        """
        num_targets = len(tokens) - 1
        if num_targets < 1:
            raise UserError(f"a text of {len(tokens)} tokens has nothing to score; at least 2 are needed")
        self.tokens = tokens
        self.reset = reset
        self.window_length = window_length or bptt
        self.num_parts = max(1, min(num_streams, num_targets // bptt))
        self.rows = range(rank * self.num_parts // world_size, (rank + 1) * self.num_parts // world_size)
        bounds = np.arange(self.num_parts + 1) * num_targets // self.num_parts
        self.starts, self.stops = bounds[:-1], bounds[1:]  # inputs of stream b: starts[b] … stops[b]-1
        self.length = int((self.stops - self.starts).max())
        self.burn_in = min(burn_in, int(self.starts[-1])) if reset.every_tokens is None else 0

    def windows(self) -> Iterator[Window]:
        """All windows of this rank's streams; those at negative positions are only read. None if it has no stream."""
        if not self.rows:
            return
        for position in range(-self.burn_in, 0, self.window_length):
            yield self._window(position, min(self.window_length, -position))
        for position in range(0, self.length, self.window_length):
            yield self._window(position, min(self.window_length, self.length - position))

    def _window(self, position: int, length: int) -> Window:
        starts = self.starts[self.rows.start : self.rows.stop]
        lengths = (self.stops - self.starts)[self.rows.start : self.rows.stop]
        # the first streams would read before the text; a shorter stream at the very end would read one token too far
        begin = np.clip(starts + position, 0, len(self.tokens) - 1 - length)
        block = self.tokens.rows(begin, length + 1)
        shift = starts + position - begin
        for row in np.flatnonzero(shift):
            block[row] = block[row, np.clip(np.arange(length + 1) + shift[row], 0, length)]
        is_scored = (position >= 0) & (position + np.arange(length) < lengths[:, None])
        resets = self.reset.mask(self.tokens, starts + position, position=position, length=length)
        is_begin = np.arange(length) == -(starts + position)[:, None]  # where the text begins
        if self.burn_in and is_begin.any():
            resets = is_begin if resets is None else resets | is_begin
        return Window(
            inputs=block[:, :-1].T,
            targets=np.where(is_scored, block[:, 1:], IGNORED).T,
            position=position,
            next_position=position + length,
            begins=position == -self.burn_in,
            resets=part_of(resets, 0, length),
            first=starts + position + 1,
        )


class ScoringDocuments:
    """Held-out documents, whole: each token is scored once, each document from a zero state on.

    ``num_rows`` documents are scored side by side, ``window_length`` tokens at a time with the state carried.
    """

    layout = "documents"

    def __init__(
        self,
        tokens: Tokens,
        *,
        num_rows: int,
        window_length: int,
        begin_id: int,
        resets_first: bool = False,
        reset_every: int | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """
        Args:
            begin_id: read before each document.
            resets_first, reset_every: as ``resets_of_texts`` has them of documents.

        Raises:
            UserError: there is no token.
        """
        self.pools = DocumentPools(tokens, num_rows=num_rows)
        self.num_parts = self.pools.num_documents
        if not self.num_parts:
            raise UserError("a text of 0 tokens has nothing to score")
        self.window_length = window_length
        self.begin_id = begin_id
        self.resets: dict[str, Any] = {"resets_first": resets_first, "every": reset_every}
        self.num_rows = num_rows
        self.rows = range(rank * num_rows // world_size, (rank + 1) * num_rows // world_size)

    def windows(self) -> Iterator[Window]:
        """All windows of this rank's documents; within a pool, by length."""
        for pool in range(len(self.pools)) if self.rows else ():
            lengths = self.pools.lengths(pool)
            tokens, starts = self.pools.read(pool)
            order = np.argsort(lengths, kind="stable")
            order = np.append(order, np.full(-len(order) % self.num_rows, -1)).reshape(-1, self.num_rows)
            for batch in order[:, self.rows.start : self.rows.stop]:
                own_lengths = padded_with(batch, lengths)
                longest = int(own_lengths.max())
                for begin in range(0, longest, self.window_length):
                    end = min(begin + self.window_length, longest)
                    inputs, targets = block(
                        tokens, starts[batch], own_lengths, begin_id=self.begin_id, begin=begin, end=end
                    )
                    yield Window(
                        inputs=inputs,
                        targets=targets,
                        position=begin,
                        next_position=end,
                        begins=begin == 0,
                        resets=resets_of_texts(inputs.shape, position=begin - 1, **self.resets),
                        first=self.pools.places(pool)[batch] + begin,
                    )

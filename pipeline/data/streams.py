"""A token sequence in, contiguous (T, B) windows for one rank out.

The N tokens of a split are laid out as B streams of L = ⌊(N−1)/B⌋ inputs: stream b covers tokens bL … (b+1)L, and a
window is T inputs with the T targets one later. Hidden state goes from window to window, so a run's position is one
integer: tokens consumed per stream. Nothing depends on the number of ranks; each takes some of the streams.
Letters: T time, B streams.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from pipeline.config import TrainConfig
from pipeline.data.windows import IGNORED, Resets, Tokens, Window
from pipeline.errors import UserError
from pipeline.seeds import mix

if TYPE_CHECKING:  # windows of ids in memory need not load these: pyarrow and the tokenizers
    from pipeline.data.tokenizer import Ids, Tokenizer
    from pipeline.data.word_counts import WordBegins, WordCounts

# keep the draws of the rotation and of window lengths apart from other draws with the same seed
ROTATION, LENGTHS = 1, 2
# random window lengths: their standard deviation, the shortest, the share of lengths around half of bptt
LENGTH_DEVIATION, LEAST_LENGTH, HALF_LENGTHS = 5, 5, 0.05
# tokens of all rows copied at a time: row by row and window by window is far slower
BLOCK_TOKENS = 1 << 20


@dataclass(frozen=True)
class ResetRule:
    """Where a stream's hidden state is set to zero, apart from its beginning."""

    at_documents: bool = False
    every_tokens: int | None = None

    @classmethod
    def of(cls, train: TrainConfig) -> ResetRule:
        """``train.reset_state``; windows are counted from the beginning of a stream."""
        by_windows = train.reset_state == "windows"
        return cls(train.reset_state == "document", train.reset_every_windows * train.bptt if by_windows else None)

    @property
    def by_documents(self) -> ResetRule:
        """The resets at documents alone: those by windows lie where ``train.bptt`` puts them."""
        return ResetRule(self.at_documents)

    def type_before(self, tokenizer: Tokenizer) -> int | None:
        """The type that only stands before resets: the <eos> of documents; None if there is none."""
        return tokenizer.eos_id if self.at_documents and tokenizer.eos == "document" else None

    def mask(self, tokens: Tokens, starts: Ids, *, position: int, length: int) -> Resets | None:
        """(B, length), true at inputs before which a row's state is set to zero; None: before none.

        ``starts`` are the rows' first tokens in the sequence, which are ``position`` tokens into their streams.
        """
        if not self.at_documents and self.every_tokens is None:
            return None
        mask = np.zeros((len(starts), length), dtype=bool)
        if self.every_tokens is not None:
            mask[:, -position % self.every_tokens :: self.every_tokens] = True
        else:
            for row, start in zip(mask, starts.tolist(), strict=True):
                row[tokens.document_starts(start, start + length) - start] = True
        return mask if mask.any() else None


NO_RESETS = ResetRule()


class Streams:
    """This rank's part of the training streams; see the module."""

    def __init__(
        self,
        tokens: Tokens,
        *,
        batch_size: int,
        bptt: int,
        reset: ResetRule = NO_RESETS,
        rotation_seed: int | None = None,
        length_seed: int | None = None,
        word_begins: WordBegins | None = None,
        with_places: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """
        Args:
            rotation_seed: begin each epoch at a new place in each stream, drawn from this and the epoch (Press
                2019); None: every epoch is in order.
            length_seed: draw the lengths of the windows of each epoch from this and the epoch; None: all ``bptt``.
            word_begins: count the words that are read; None: do not.
            with_places: give windows the places of their targets.

        Raises:
            UserError: more ranks than streams, or too few tokens for one window per stream.
        """
        num_tokens = len(tokens)
        if world_size > batch_size:
            raise UserError(
                f"cluster.num_workers: {world_size} workers, but only train.batch_size={batch_size} streams"
            )
        if num_tokens < batch_size * bptt + 1:
            raise UserError(
                f"train.batch_size: the training split has {num_tokens:,} tokens, but one window per stream needs "
                f"{batch_size * bptt + 1:,} (train.batch_size={batch_size} × train.bptt={bptt} + 1)"
            )
        self.tokens = tokens
        self.reset = reset
        self.with_places = with_places
        self.rotation_seed = rotation_seed
        self.length_seed = length_seed
        self.batch_size = batch_size
        self.bptt = bptt
        self.tokens_per_stream = (num_tokens - 1) // batch_size
        self.rows = range(rank * batch_size // world_size, (rank + 1) * batch_size // world_size)
        self.words: WordCounts | None = None
        if word_begins is not None:
            from pipeline.data.word_counts import WordCounts

            reached = partial(self._words_reached, word_begins)
            self.words = WordCounts(reached, epochs_differ=rotation_seed is not None)

    @classmethod
    def of(
        cls,
        tokens: Tokens,
        train: TrainConfig,
        *,
        word_begins: WordBegins | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> Streams:
        """As ``train`` says. Raises ``UserError`` as the constructor."""
        return cls(
            tokens,
            batch_size=train.batch_size,
            bptt=train.bptt,
            reset=ResetRule.of(train),
            rotation_seed=mix(train.seed, ROTATION) if train.epoch_order == "rotated" else None,
            length_seed=mix(train.seed, LENGTHS) if train.window_lengths == "random" else None,
            word_begins=word_begins,
            with_places=train.teacher is not None,
            rank=rank,
            world_size=world_size,
        )

    def ends(self, epoch: int = 0) -> Ids:
        """Where in its stream each window of ``epoch`` ends, the same on every rank; the last may be shorter."""
        if self.length_seed is None:
            ends = np.arange(self.bptt, self.tokens_per_stream + self.bptt, self.bptt)
        else:
            ends = np.cumsum(self._random_lengths([self.length_seed, epoch]))
            ends = ends[: np.searchsorted(ends, self.tokens_per_stream) + 1]
        ends[-1] = self.tokens_per_stream
        return ends

    def _random_lengths(self, seed: list[int]) -> Ids:
        """More lengths than an epoch needs, as in Merity et al. 2018: around bptt, one in twenty around half of it."""
        generator = np.random.default_rng(seed)
        least = min(LEAST_LENGTH, self.bptt)
        most = self.tokens_per_stream // least + 1
        mean = np.where(generator.random(most) < HALF_LENGTHS, self.bptt / 2, self.bptt)
        return np.maximum(least, generator.normal(mean, LENGTH_DEVIATION)).astype(np.int64)

    @property
    def epochs_differ(self) -> bool:
        """Whether epochs differ in their number of windows: lengths are drawn afresh for each epoch."""
        return self.length_seed is not None

    def num_windows(self, epoch: int = 0) -> int:
        """Windows of ``epoch``."""
        return len(self.ends(epoch)) if self.epochs_differ else -(-self.tokens_per_stream // self.bptt)

    def tokens_reached(self, epoch: int = 0) -> Ids:
        """Inputs of ``epoch`` over all ranks up to the end of each of its windows."""
        return self.ends(epoch) * self.batch_size

    def _words_reached(self, word_begins: WordBegins, epoch: int) -> Ids:
        """(L + 1,) words that begin in the inputs of all streams before each position of ``epoch``."""
        length = self.tokens_per_stream
        at = np.zeros(length, dtype=np.int64)  # words that begin at each position, over all streams
        for row, offset in enumerate(self.offsets(epoch).tolist()):
            for begin in range(0, length, BLOCK_TOKENS):
                end = min(begin + BLOCK_TOKENS, length)
                found = word_begins.of_part(self.tokens, row * length + begin, row * length + end)
                before = min(max(offset - begin, 0), end - begin)  # the part that a rotated stream reaches last
                at[begin - offset + length :][:before] += found[:before]
                at[max(begin - offset, 0) :][: end - begin - before] += found[before:]
        return np.append(0, np.cumsum(at))

    @property
    def epoch_end(self) -> int:
        """The position at which an epoch ends, in tokens of each stream."""
        return self.tokens_per_stream

    @property
    def tokens_per_epoch(self) -> int:
        """Inputs over all ranks."""
        return self.tokens_per_stream * self.batch_size

    @property
    def tokens_per_window(self) -> int:
        """Inputs over all ranks of every window but an epoch's last."""
        return self.bptt * self.batch_size

    @property
    def num_unused(self) -> int:
        """Tokens at the end that no stream covers, as neither input nor target."""
        return len(self.tokens) - 1 - self.tokens_per_epoch

    @property
    def unused(self) -> str:
        """The unused tokens, in words."""
        return f"{self.num_unused:,} token{'s' * (self.num_unused != 1)} left over at the end of an epoch"

    def offsets(self, epoch: int) -> Ids:
        """(B,) inputs by which each stream of all ranks is rotated in ``epoch``: the same on every rank."""
        if self.rotation_seed is None:
            return np.zeros(self.batch_size, dtype=np.int64)
        generator = np.random.default_rng([self.rotation_seed, epoch])
        return generator.integers(self.tokens_per_stream, size=self.batch_size)

    def windows(self, position: int = 0, *, epoch: int = 0) -> Iterator[Window]:
        """The windows of an epoch from ``position`` on."""
        offsets = self.offsets(epoch)
        # a rotated stream continues from its end at its beginning: the input at its end has no target
        seams = np.sort(self.tokens_per_stream - 1 - offsets[offsets > 0])
        ends = self.ends(epoch)
        ends = ends[np.searchsorted(ends, position, side="right") :]
        num_seams = np.diff(np.searchsorted(seams, [position, *ends]))
        while len(ends):
            # as many windows as a block holds, at least one
            limit = position + BLOCK_TOKENS // len(self.rows)
            num_windows = max(1, int(np.searchsorted(ends, limit, side="right")))
            begin, length = position, int(ends[num_windows - 1]) - position
            inputs, targets, resets = self._block(offsets, position, length)
            for end, without_target in zip(ends[:num_windows].tolist(), num_seams.tolist(), strict=False):
                part = slice(position - begin, end - begin)
                places = self._places(offsets, position, end - position) if self.with_places else None
                yield Window(
                    inputs=inputs[:, part].T,
                    targets=targets[:, part].T,
                    position=position,
                    next_position=end,
                    begins=position == 0,
                    resets=part_of(resets, part.start, part.stop),
                    num_inputs=(end - position) * self.batch_size,
                    num_targets=(end - position) * self.batch_size - without_target,
                    places=places,
                )
                position = end
            ends, num_seams = ends[num_windows:], num_seams[num_windows:]

    def _places(self, offsets: Ids, position: int, length: int) -> Ids:
        """(T, B) places in the split of the targets of this rank's rows; any place at a seam, which has no target."""
        rows = np.arange(self.rows.start, self.rows.stop)
        within = (offsets[rows] + position + np.arange(length)[:, None]) % self.tokens_per_stream
        return rows * self.tokens_per_stream + within + 1

    def _block(self, offsets: Ids, position: int, length: int) -> tuple[Ids, Ids, Resets | None]:
        """(B, length) inputs, targets and resets of this rank's rows."""
        own = offsets[self.rows.start : self.rows.stop]
        within = (position + own) % self.tokens_per_stream  # (B,)
        starts = np.array(self.rows) * self.tokens_per_stream
        # a block may also end at the end of a rotated stream, where there is no target
        crossing = np.flatnonzero(within + length + (own > 0) > self.tokens_per_stream)
        if not len(crossing):
            block = self.tokens.rows(starts + within, length + 1)  # (B, length + 1)
            resets = self.reset.mask(self.tokens, starts + within, position=position, length=length)
            return block[:, :-1], block[:, 1:], resets
        inputs, targets, resets = (np.empty((len(starts), length), dtype=kind) for kind in (np.int64, np.int64, bool))
        # first all rows without a seam here, in one piece; then each row with one, in two
        others = np.setdiff1d(np.arange(len(starts)), crossing)
        pieces = [(others, 0, length)] if len(others) else []
        for row in crossing:
            before = self.tokens_per_stream - int(within[row])
            pieces += [(crossing[crossing == row], 0, before), (crossing[crossing == row], before, length)]
        for rows, begin, end in pieces:
            first = starts[rows] + (within[rows] + begin) % self.tokens_per_stream
            block = self.tokens.rows(first, end - begin + 1)
            inputs[rows, begin:end], targets[rows, begin:end] = block[:, :-1], block[:, 1:]
            mask = self.reset.mask(self.tokens, first, position=position + begin, length=end - begin)
            resets[rows, begin:end] = False if mask is None else mask
            if begin > 0:
                targets[rows, begin - 1] = IGNORED
        return inputs, targets, resets


def part_of(resets: Resets | None, begin: int, end: int) -> Resets | None:
    """(B, length) → (T, B) of a window, None if it has no reset."""
    if resets is None or not resets[:, begin:end].any():
        return None
    return resets[:, begin:end].T

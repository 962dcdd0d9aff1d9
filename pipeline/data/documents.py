"""A token sequence in, (T, B) windows of independent documents out: each from a zero state, padded to the longest.

A row is one document t₁ … tₙ, <eos> last: its inputs are <eos> t₁ … tₙ₋₁ and its targets t₁ … tₙ, so that every token
is a target once, the first one included, and a model that has read <eos> writes a document from nothing. Padding has
<eos> as its input and no target.

A pool is a run of consecutive documents that are read together. An epoch takes the pools in random order and shuffles
each; within a pool, buckets of documents are sorted by length and cut into windows, so that the documents of a window
are of similar length, and the windows are shuffled again. All of that is a pure function of (seed, epoch), and nothing
depends on the number of ranks. Letters: T time, B documents.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from pipeline.config import DataConfig, TrainConfig
from pipeline.data.document_pools import DocumentPools, block, padded_with
from pipeline.data.windows import Tokens, Window
from pipeline.errors import UserError
from pipeline.seeds import mix

if TYPE_CHECKING:  # as in streams
    from pipeline.data.tokenizer import Ids
    from pipeline.data.word_counts import WordBegins, WordCounts

# keeps the draws of the order apart from other draws with the same seed
ORDER = 3


class Documents:
    """This rank's part of the training documents; positions count windows. See the module."""

    epochs_differ = False  # in the number of their windows

    def __init__(
        self,
        tokens: Tokens,
        *,
        batch_size: int,
        most_tokens: int,
        begin_id: int,
        seed: int,
        bucket_windows: int = 1,
        word_begins: WordBegins | None = None,
        with_places: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """
        Args:
            most_tokens: the length to which documents are truncated.
            begin_id: the type that the model reads before a document's first token.
            bucket_windows: windows whose documents are sorted by length together.
            word_begins: count the words that are read; None: do not.
            with_places: give windows the places of their targets.

        Raises:
            UserError: more ranks than documents in a window, or fewer documents than a window has.
        """
        if world_size > batch_size:
            raise UserError(f"cluster.num_workers: {world_size} workers, but only train.batch_size={batch_size} rows")
        self.pools = DocumentPools(tokens, num_rows=batch_size, most_tokens=most_tokens)
        if self.pools.num_documents < batch_size:
            raise UserError(
                f"data.layout: the training split has only {self.pools.num_documents:,} of the "
                f"train.batch_size={batch_size} documents in a window (corpus.document: line or paragraph makes more)"
            )
        self.batch_size = batch_size
        self.most_tokens = most_tokens
        self.begin_id = begin_id
        self.with_places = with_places
        self.seed = seed
        self.bucket_windows = bucket_windows
        self.rows = range(rank * batch_size // world_size, (rank + 1) * batch_size // world_size)
        self.windows_of_pool = -(-np.diff(self.pools.bounds) // batch_size)
        self.tokens_per_epoch = sum(int(self.pools.lengths(pool).sum()) for pool in range(len(self.pools)))
        self.num_unused = len(tokens) - self.tokens_per_epoch
        self.words: WordCounts | None = None
        if word_begins is not None:
            from pipeline.data.word_counts import WordCounts

            each = [self._words_of(word_begins, pool) for pool in range(len(self.pools))]
            self.words = WordCounts(partial(self._words_reached, each), epochs_differ=True)

    @classmethod
    def of(
        cls,
        tokens: Tokens,
        data: DataConfig,
        train: TrainConfig,
        *,
        begin_id: int,
        word_begins: WordBegins | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> Documents:
        """As ``data`` and ``train`` say. Raises ``UserError`` as the constructor."""
        return cls(
            tokens,
            batch_size=train.batch_size,
            most_tokens=train.bptt,
            begin_id=begin_id,
            seed=mix(train.seed, ORDER),
            bucket_windows=data.bucket_windows,
            word_begins=word_begins,
            with_places=train.teacher is not None,
            rank=rank,
            world_size=world_size,
        )

    @property
    def epoch_end(self) -> int:
        """The position at which an epoch ends."""
        return self.num_windows()

    @property
    def tokens_per_window(self) -> int:
        """Inputs over all ranks, on average."""
        return round(self.tokens_per_epoch / self.num_windows())

    @property
    def unused(self) -> str:
        """The tokens that truncation leaves out of every epoch."""
        number, most = self.num_unused, self.most_tokens
        return f"{number:,} token{'s' * (number != 1)} cut off beyond train.bptt={most} of a document"

    def num_windows(self, epoch: int = 0) -> int:
        """Windows of any epoch."""
        return int(self.windows_of_pool.sum())

    def tokens_reached(self, epoch: int = 0) -> Ids:
        """Inputs of ``epoch`` over all ranks up to the end of each of its windows."""
        counts = []
        for pool in self._order(epoch):
            lengths = self.pools.lengths(pool)
            counts.append(padded_with(self._batches(pool, epoch, lengths), lengths).sum(axis=1))
        return np.cumsum(np.concatenate(counts))

    def ends(self, epoch: int = 0) -> Ids:
        """The position after each window of ``epoch``."""
        return np.arange(1, self.num_windows() + 1)

    def _words_of(self, word_begins: WordBegins, pool: int) -> Ids:
        """Words of each document of ``pool``, counted only in the part that is used."""
        tokens, starts = self.pools.read(pool)
        before = np.append(0, np.cumsum(word_begins(tokens, starts)))
        return before[starts + self.pools.lengths(pool)] - before[starts]

    def _words_reached(self, words_of: Sequence[Ids], epoch: int) -> Ids:
        """(windows + 1,) words of all ranks before each window of ``epoch``, given the words of each pool's
        documents."""
        counts = [np.zeros(1, dtype=np.int64)]
        for pool in self._order(epoch):
            batches = self._batches(pool, epoch, self.pools.lengths(pool))
            counts.append(padded_with(batches, words_of[pool]).sum(axis=1))
        return np.cumsum(np.concatenate(counts))

    def windows(self, position: int = 0, *, epoch: int = 0) -> Iterator[Window]:
        """The windows of ``epoch`` from ``position`` on."""
        first = 0  # the pool's first window
        for pool in self._order(epoch):
            last = first + int(self.windows_of_pool[pool])
            if position < last:
                lengths = self.pools.lengths(pool)
                batches = self._batches(pool, epoch, lengths)[position - first :]
                tokens, starts = self.pools.read(pool)
                for batch in batches:
                    window = self._window(batch, position, tokens, starts, lengths)
                    yield self._with_places(window, batch, pool) if self.with_places else window
                    position += 1
            first = last

    def _window(self, batch: Ids, position: int, tokens: Ids, starts: Ids, lengths: Ids) -> Window:
        """This rank's part of the documents ``batch`` of all ranks."""
        all_lengths = padded_with(batch, lengths)
        own = slice(self.rows.start, self.rows.stop)
        longest = int(all_lengths.max())
        inputs, targets = block(
            tokens, starts[batch[own]], all_lengths[own], begin_id=self.begin_id, begin=0, end=longest
        )
        num_tokens = int(all_lengths.sum())
        return Window(
            inputs=inputs,
            targets=targets,
            position=position,
            next_position=position + 1,
            begins=True,
            num_inputs=num_tokens,
            num_targets=num_tokens,
        )

    def _with_places(self, window: Window, batch: Ids, pool: int) -> Window:
        """``window`` with the place of each target in the split; any place in the padding."""
        starts = self.pools.places(pool)[batch[self.rows.start : self.rows.stop]]  # (B,)
        places = np.minimum(starts + np.arange(len(window.inputs))[:, None], len(self.pools.tokens) - 1)
        return window._replace(places=places)

    def _order(self, epoch: int) -> list[int]:
        """The pools in the order of ``epoch``."""
        order: list[int] = np.random.default_rng([self.seed, epoch, 0]).permutation(len(self.pools)).tolist()
        return order

    def _batches(self, pool: int, epoch: int, lengths: Ids) -> Ids:
        """(windows, B) documents of ``pool`` in the order of ``epoch``; −1 where the last pool has too few."""
        generator = np.random.default_rng([self.seed, epoch, 1 + pool])
        order = generator.permutation(len(lengths))
        bucket = np.arange(len(order)) // (self.bucket_windows * self.batch_size)
        order = order[np.lexsort((lengths[order], bucket))]
        num_missing = -len(order) % self.batch_size
        # one window, long or short by chance, is not full
        place = generator.integers(-(-len(order) // self.batch_size)) * self.batch_size
        order = np.insert(order, place, np.full(num_missing, -1))
        return generator.permutation(order.reshape(-1, self.batch_size))

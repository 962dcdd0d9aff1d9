"""A token sequence in, (T, B) windows of independent documents out: each from a zero state, padded to the longest.

A row is one document t₁ … tₙ, <eos> last: its inputs are <eos> t₁ … tₙ₋₁ and its targets t₁ … tₙ, so that every token
is a target once, the first one as well, and a model that has read <eos> writes a document from nothing. What stands in
the padding is <eos> as input and no target.

Documents lie in pools, consecutive ones that are read together. An epoch takes the pools in random order and shuffles
each; within a pool, buckets of documents are sorted by length and cut into windows, so that those of a window are about
as long, and the windows are shuffled again. All of that is a pure function of (seed, epoch), and nothing depends on the
number of ranks. Letters: T time, B documents.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from pipeline.config import DataConfig, TrainConfig
from pipeline.data.windows import IGNORED, Tokens, Window
from pipeline.errors import UserError
from pipeline.seeds import mix

if TYPE_CHECKING:  # as in streams
    from pipeline.data.tokenizer import Ids, Tokenizer
    from pipeline.data.word_counts import WordBegins, WordCounts

# keeps the draws of the order apart from others of the same seed
ORDER = 3
# tokens of a pool, and tokens that no window needs but that are read along to read a pool in one piece
POOL_TOKENS, MOST_READ_ALONG = 1 << 22, 1 << 16


def begin_of_documents(tokenizer: Tokenizer) -> int:
    """What the model reads before a document's first token. Raises ``UserError`` where documents have no ``<eos>``."""
    if tokenizer.eos_id is None or tokenizer.eos != "document":
        raise UserError(
            "data.layout: documents begin and end with <eos>, but the corpus was prepared with "
            f"tokenizer.eos={tokenizer.eos} (auto is none where the training text is one document: corpus.document)"
        )
    return tokenizer.eos_id


def document_starts(tokens: Tokens) -> Ids:
    """Where every document begins; what a split that begins within a document holds of it, is one too."""
    starts = tokens.document_starts(0, len(tokens))
    return starts if not len(tokens) or (len(starts) and not starts[0]) else np.insert(starts, 0, 0)


def document_lengths(tokens: Tokens) -> Ids:
    """Tokens of every document."""
    return np.diff(document_starts(tokens), append=len(tokens))


class DocumentPools:
    """Where the documents of a token sequence lie: 8 bytes of memory for each."""

    def __init__(self, tokens: Tokens, *, num_rows: int, most_tokens: int | None = None) -> None:
        """
        Args:
            num_rows: documents of a window; all pools but the last hold a multiple of it.
            most_tokens: the length to which documents are truncated; None: they are not.
        """
        self.tokens = tokens
        self.most_tokens = most_tokens
        self.starts = document_starts(tokens)
        pools = np.flatnonzero(np.diff(self.starts[::num_rows] // POOL_TOKENS, prepend=-1)) * num_rows
        self.bounds = np.append(pools, len(self.starts))  # the first document of each pool, and the end

    def __len__(self) -> int:
        return len(self.bounds) - 1

    @property
    def num_documents(self) -> int:
        return len(self.starts)

    def lengths(self, pool: int) -> Ids:
        """Tokens of each document of ``pool`` that are used."""
        whole = np.diff(self.places(pool), append=self._end(pool))
        return whole if self.most_tokens is None else np.minimum(whole, self.most_tokens)

    def read(self, pool: int) -> tuple[Ids, Ids]:
        """The tokens of ``pool``, and where in them each of its documents begins."""
        starts = self.places(pool)
        ends = starts + self.lengths(pool)
        # in one piece, but around the rest of documents that are much longer than what is used of them
        first = np.append(0, 1 + np.flatnonzero(starts[1:] - ends[:-1] > MOST_READ_ALONG))
        last = np.append(first[1:], len(starts)) - 1
        parts = [self.tokens[a:b] for a, b in zip(starts[first].tolist(), ends[last].tolist(), strict=True)]
        offsets = np.cumsum([0, *(len(part) for part in parts)])[:-1] - starts[first]
        return np.concatenate(parts), starts + np.repeat(offsets, last - first + 1)

    def places(self, pool: int) -> Ids:
        """Where in the whole sequence each document of ``pool`` begins."""
        return self.starts[self.bounds[pool] : self.bounds[pool + 1]]

    def _end(self, pool: int) -> int:
        following = int(self.bounds[pool + 1])
        return int(self.starts[following]) if following < len(self.starts) else len(self.tokens)


def block(tokens: Ids, starts: Ids, lengths: Ids, *, begin_id: int, begin: int, end: int) -> tuple[Ids, Ids]:
    """(end − begin, B) inputs and targets number ``begin`` to ``end`` of documents, filled at once.

    ``starts`` are their first tokens in ``tokens``, ``lengths`` how many they have: 0 gives a row of padding.
    """
    steps = np.arange(begin - 1, end)[:, None]
    found = tokens[np.clip(starts + steps, 0, len(tokens) - 1)].astype(np.int64)  # (end − begin + 1, B)
    is_token = steps[1:] < lengths
    inputs = np.where(is_token, found[:-1], begin_id)
    if begin == 0:
        inputs[0] = begin_id
    return inputs, np.where(is_token, found[1:], IGNORED)


def padded_with(rows: Ids, lengths: Ids) -> Ids:
    """``lengths`` of the documents ``rows``, 0 for those of −1."""
    return np.where(rows >= 0, lengths[rows], 0)


class Documents:
    """This rank's part of the training documents; positions are windows. See the module."""

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
            UserError: more ranks than documents in a window, or fewer documents than that.
        """
        if world_size > batch_size:
            raise UserError(f"cluster.num_workers: {world_size} workers, but only train.batch_size={batch_size} rows")
        self.pools = DocumentPools(tokens, num_rows=batch_size, most_tokens=most_tokens)
        if self.pools.num_documents < batch_size:
            raise UserError(
                f"data.layout: the training split has only {self.pools.num_documents:,} of the "
                f"train.batch_size={batch_size} documents of a window (corpus.document: line or paragraph makes more)"
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
        """Inputs over all ranks, in the mean."""
        return round(self.tokens_per_epoch / self.num_windows())

    @property
    def unused(self) -> str:
        """The tokens that truncation leaves out of every epoch."""
        return f"{self.num_unused:,} tokens cut off beyond train.bptt={self.most_tokens} of a document"

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
        """Words of each document of ``pool``, as far as it is used."""
        tokens, starts = self.pools.read(pool)
        before = np.append(0, np.cumsum(word_begins(tokens, starts)))
        return before[starts + self.pools.lengths(pool)] - before[starts]

    def _words_reached(self, words_of: Sequence[Ids], epoch: int) -> Ids:
        """(windows + 1,) words of all ranks before each window of ``epoch``, from those of the documents of each
        pool."""
        counts = [np.zeros(1, dtype=np.int64)]
        for pool in self._order(epoch):
            batches = self._batches(pool, epoch, self.pools.lengths(pool))
            counts.append(padded_with(batches, words_of[pool]).sum(axis=1))
        return np.cumsum(np.concatenate(counts))

    def windows(self, position: int = 0, *, epoch: int = 0) -> Iterator[Window]:
        """The windows of ``epoch`` from ``position`` on."""
        first = 0  # window of the pool
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
        """The part of this rank in the documents ``batch`` of all ranks."""
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
        """``window`` with where in the split each target stands; in the padding any place."""
        starts = self.pools.places(pool)[batch[self.rows.start : self.rows.stop]]  # (B,)
        places = np.minimum(starts + np.arange(len(window.inputs))[:, None], len(self.pools.tokens) - 1)
        return window._replace(places=places)

    def _order(self, epoch: int) -> list[int]:
        """The pools as they come in ``epoch``."""
        order: list[int] = np.random.default_rng([self.seed, epoch, 0]).permutation(len(self.pools)).tolist()
        return order

    def _batches(self, pool: int, epoch: int, lengths: Ids) -> Ids:
        """(windows, B) documents of ``pool`` as they come in ``epoch``; −1 where the last pool has not enough."""
        generator = np.random.default_rng([self.seed, epoch, 1 + pool])
        order = generator.permutation(len(lengths))
        bucket = np.arange(len(order)) // (self.bucket_windows * self.batch_size)
        order = order[np.lexsort((lengths[order], bucket))]
        num_missing = -len(order) % self.batch_size
        # one window, long or short by chance, is not full
        place = generator.integers(-(-len(order) // self.batch_size)) * self.batch_size
        order = np.insert(order, place, np.full(num_missing, -1))
        return generator.permutation(order.reshape(-1, self.batch_size))

"""What training and scoring iterate over, whatever the layout of the data: (T, B) windows of ids.

token sequence → ``streams`` or ``documents`` → windows. Letters: T time, B rows of this rank, each a stream or a
document.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    from pipeline.data.tokenizer import Ids
    from pipeline.data.word_counts import WordCounts

Resets = np.ndarray[Any, np.dtype[np.bool_]]

IGNORED = -100


class Tokens(Protocol):
    """What windows need from a token sequence."""

    def __len__(self) -> int: ...

    def __getitem__(self, where: slice) -> Ids: ...

    def rows(self, starts: Ids, length: int) -> Ids: ...  # int64

    def document_starts(self, start: int, stop: int) -> Ids: ...


@dataclass
class ArrayTokens:
    """A token sequence in memory, for a text that was not prepared; ``starts``: of its documents, None: only one."""

    array: Ids
    starts: Ids | None = None

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, where: slice) -> Ids:
        return self.array[where]

    def rows(self, starts: Ids, length: int) -> Ids:
        return self.array[np.asarray(starts)[:, None] + np.arange(length)].astype(np.int64)

    def document_starts(self, start: int, stop: int) -> Ids:
        starts = np.zeros(1, dtype=np.int64) if self.starts is None else self.starts
        return starts[(starts >= start) & (starts < stop)]


def resets_of_texts(
    shape: tuple[int, int], *, position: int, resets_first: bool = False, every: int | None = None
) -> Resets | None:
    """(T, B), as ``shape`` says, true where the states of texts side by side are set to zero; None if nowhere.

    Args:
        position: of the first input in its text; −1: it is what is read before the first token.
        resets_first: the first token of a text is read from a zero state.
        every: tokens between two resets, counted from the first one; None: there are no others.
    """
    resets = np.zeros(shape, dtype=bool)
    if resets_first and position <= 0:
        resets[-position : 1 - position] = True
    if every is not None:
        resets[-position % every :: every] = True
    return resets if resets.any() else None


class Window(NamedTuple):
    """(T, B) int64 ids of this rank's rows; ``position`` says how much of the epoch came before.

    ``begins``: the hidden state before it is zero. ``resets``, (T, B), is true where a row's state is set to zero
    before that input; None: nowhere. Over all ranks, ``num_inputs`` counts the inputs that are not padding and
    ``num_targets`` the targets that count. Held-out text has neither: there each rank counts its own, and ``first``,
    (B,), is the place in the text of each row's first target. ``places``, (T, B), has the place of every target that
    counts in training, if asked for.
    """

    inputs: np.ndarray[Any, np.dtype[np.int64]]
    targets: np.ndarray[Any, np.dtype[np.int64]]
    position: int
    next_position: int
    begins: bool
    resets: Resets | None = None
    num_inputs: int = 0
    num_targets: int = 0
    first: Ids | None = None
    places: Ids | None = None


class TrainingData(Protocol):
    """A rank's part of the training split, epoch after epoch; a run's position in an epoch is one integer."""

    batch_size: int  # rows of a window over all ranks
    rows: range  # this rank's rows
    words: WordCounts | None  # None: they are not counted

    @property
    def epoch_end(self) -> int:
        """The position at which an epoch ends."""

    @property
    def tokens_per_epoch(self) -> int:
        """Inputs over all ranks."""

    @property
    def tokens_per_window(self) -> int:
        """Inputs over all ranks of a usual window."""

    @property
    def num_unused(self) -> int:
        """Tokens of the split that an epoch leaves out."""

    @property
    def unused(self) -> str:
        """The unused tokens, in words."""

    @property
    def epochs_differ(self) -> bool:
        """Whether epochs differ in their number of windows."""

    def num_windows(self, epoch: int = 0) -> int:
        """Windows of ``epoch``."""

    def tokens_reached(self, epoch: int = 0) -> Ids:
        """Inputs of ``epoch`` over all ranks up to the end of each of its windows."""

    def ends(self, epoch: int = 0) -> Ids:
        """The position after each window of ``epoch``."""

    def windows(self, position: int = 0, *, epoch: int = 0) -> Iterator[Window]:
        """The windows of ``epoch`` from ``position`` on; the same number, of the same lengths, on every rank."""


class HeldOutData(Protocol):
    """A rank's part of held-out text, to be scored in parts that each begin from a zero state."""

    layout: str  # what the parts are: streams, documents
    num_parts: int  # over all ranks
    rows: range  # this rank's rows of a window

    def windows(self) -> Iterator[Window]:
        """All windows; none if this rank has no row."""

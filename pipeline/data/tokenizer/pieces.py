"""Texts in, groups of them out, each large enough for a pass of its own: short texts together, long ones cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from pipeline.data.tokenizer.base import Ids
from pipeline.data.tokenizer.characters import CUT, END

# the working arrays of a group stay in the processor's cache; up to twice as much is one group, too
GROUP_BYTES = 1 << 20
# (data, start) → the first place at or after start > 0 where UTF-8 may be cut; None if there is none
CutInText = Callable[[bytes, int], int | None]


class Group(NamedTuple):
    """Consecutive ``texts`` in UTF-8, the first of them number ``first``; ``ends``: whether each ends its document.

    The first may be the rest of a text, and the last a part of one, which continues in the next group.
    """

    texts: list[bytes]
    ends: list[bool]
    first: int

    @property
    def joined(self) -> bytes:
        """All texts, each followed by ``END`` or ``CUT``."""
        marks = [END if end else CUT for end in self.ends]
        return b"".join(chain.from_iterable(zip(self.texts, marks, strict=True)))


def groups_of(texts: Sequence[bytes], ends: Sequence[bool] | None = None, *, cut: CutInText) -> Iterator[Group]:
    """The texts in order, in groups of about ``GROUP_BYTES``.

    Args:
        ends: whether each text ends its document; None: all of them do.
        cut: where a text may be cut.
    """
    all_ends = [True] * len(texts) if ends is None else list(ends)
    if sum(map(len, texts)) <= 2 * GROUP_BYTES:
        yield Group(list(texts), all_ends, 0)
        return
    group, first, room = list[bytes](), 0, GROUP_BYTES
    for index, text in enumerate(texts):
        start = 0
        while room <= len(text) - start and (stop := cut(text, start + room)) is not None:
            yield Group([*group, text[start:stop]], [*all_ends[first:index], False], first)
            group, first, room, start = [], index, GROUP_BYTES, stop
        group.append(text[start:])
        room -= len(text) - start
        if room <= 0:
            yield Group(group, all_ends[first : index + 1], first)
            group, first, room = [], index + 1, GROUP_BYTES
    if group:
        yield Group(group, all_ends[first:], first)


def encode_in_groups(
    encode: Callable[[Group], tuple[Ids, Ids]],
    texts: Sequence[bytes],
    *,
    ends: Sequence[bool] | None,
    dtype: np.dtype[Any],
    cut: CutInText,
) -> tuple[Ids, Ids]:
    """The ids of ``texts``, encoded group by group with ``encode``, and how many each text has."""
    parts, lengths = [np.zeros(0, dtype=dtype)], np.zeros(len(texts), dtype=np.int64)
    for group in groups_of(texts, ends, cut=cut) if texts else ():
        ids, counts = encode(group)
        parts.append(ids)
        lengths[group.first : group.first + len(counts)] += counts
    return np.concatenate(parts) if len(parts) > 2 else parts[-1], lengths


def join_rows(
    rows: Sequence[Sequence[int]], ends: Sequence[bool], *, eos_id: int | None, dtype: np.dtype[Any]
) -> tuple[Ids, Ids]:
    """The ids of texts, given as rows, one after another with ``<eos>`` where a document ends; how many each has."""
    last = [] if eos_id is None else [eos_id]
    whole = [[*row, *last] if end else row for row, end in zip(rows, ends, strict=True)]
    return np.fromiter(chain.from_iterable(whole), dtype=dtype), np.array([len(row) for row in whole])

"""Texts in, groups of pieces out that are worth one pass each: short texts together, long ones cut."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, repeat
from typing import Any, NamedTuple

import numpy as np

from pipeline.data.tokenizer.base import Ids

# the working arrays of a group stay in the processor's cache
GROUP_CHARACTERS = 1 << 20
# neither words nor merges cross from a character to white space after it, so a text may be cut there
AT_WHITE_SPACE = re.compile(r"\S[ \t-\r]")
# the first place at or after some place of a text at which it may be cut; None if there is none
CutInText = Callable[[str, int], int | None]


class TextPiece(NamedTuple):
    """Some ``characters`` of text number ``text``, which its document ``ends`` with or not."""

    characters: str
    text: int
    ends: bool


def cut_after(pattern: re.Pattern[str] | None, text: str, start: int) -> int | None:
    """Cuts after the first character of what ``pattern`` matches; nowhere without one."""
    found = pattern.search(text, start - 1) if pattern else None
    return found.start() + 1 if found else None


at_white_space: CutInText = partial(cut_after, AT_WHITE_SPACE)


def groups_of(
    texts: Iterable[str], ends: Iterable[bool] | None = None, *, cut: CutInText = at_white_space
) -> Iterator[list[TextPiece]]:
    """The texts in order, in groups of about ``GROUP_CHARACTERS``.

    Args:
        ends: whether each text ends its document; None: all of them do.
        cut: where a text may be cut.
    """
    group: list[TextPiece] = []
    room = GROUP_CHARACTERS
    pairs = zip(texts, repeat(True), strict=False) if ends is None else zip(texts, ends, strict=True)
    for index, (text, text_ends) in enumerate(pairs):
        start = 0
        while room <= len(text) - start and (stop := cut(text, start + room)) is not None:
            yield [*group, TextPiece(text[start:stop], index, False)]
            group, room, start = [], GROUP_CHARACTERS, stop
        group.append(TextPiece(text[start:], index, text_ends))
        room -= len(text) - start
        if room <= 0:
            yield group
            group, room = [], GROUP_CHARACTERS
    if group:
        yield group


def encode_in_groups(
    encode: Callable[[Sequence[TextPiece]], tuple[Ids, Ids]],
    texts: Sequence[str],
    *,
    ends: Sequence[bool] | None,
    dtype: np.dtype[Any],
    cut: CutInText = at_white_space,
) -> tuple[Ids, Ids]:
    """The ids of ``texts`` and how many each has, from those of the pieces by ``encode``."""
    parts, lengths = [np.zeros(0, dtype=dtype)], np.zeros(len(texts), dtype=np.int64)
    for pieces in groups_of(texts, ends, cut=cut):
        ids, counts = encode(pieces)
        parts.append(ids)
        np.add.at(lengths, [piece.text for piece in pieces], counts)
    return np.concatenate(parts), lengths


def join_rows(
    rows: Sequence[Sequence[int]], pieces: Sequence[TextPiece], *, eos_id: int | None, dtype: np.dtype[Any]
) -> tuple[Ids, Ids]:
    """The ids of ``pieces``, a row each, one after another with ``<eos>`` where a document ends; how many each has."""
    end = [] if eos_id is None else [eos_id]
    whole = [[*row, *end] if piece.ends else row for row, piece in zip(rows, pieces, strict=True)]
    return np.fromiter(chain.from_iterable(whole), dtype=dtype), np.array([len(row) for row in whole])

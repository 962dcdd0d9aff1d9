"""Texts in, groups of pieces out that are worth one pass each: short texts together, long ones cut."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np

from pipeline.data.tokenizer.base import Ids

# the working arrays of a group stay in the processor's cache
GROUP_CHARACTERS = 1 << 20
# neither words nor merges cross from a character to white space after it, so a text may be cut there
AT_WHITE_SPACE = re.compile(r"\S[ \t-\r]")


class TextPiece(NamedTuple):
    """Some ``characters`` of text number ``text``, which its document ``ends`` with or not."""

    characters: str
    text: int
    ends: bool


def groups_of(
    texts: Iterable[str], ends: Iterable[bool] | None = None, *, cut: re.Pattern[str] | None = AT_WHITE_SPACE
) -> Iterator[list[TextPiece]]:
    """The texts in order, in groups of about ``GROUP_CHARACTERS``.

    Args:
        ends: whether each text ends its document; None: all of them do.
        cut: matches the character after which a text may be cut; None: nowhere.
    """
    group: list[TextPiece] = []
    room = GROUP_CHARACTERS
    pairs = zip(texts, repeat(True), strict=False) if ends is None else zip(texts, ends, strict=True)
    for index, (text, text_ends) in enumerate(pairs):
        start = 0
        while cut and room <= len(text) - start and (found := cut.search(text, start + room - 1)):
            yield [*group, TextPiece(text[start : found.start() + 1], index, False)]
            group, room, start = [], GROUP_CHARACTERS, found.start() + 1
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
    cut: re.Pattern[str] | None = AT_WHITE_SPACE,
) -> tuple[Ids, Ids]:
    """The ids of ``texts`` and how many each has, from those of the pieces by ``encode``."""
    parts, lengths = [np.zeros(0, dtype=dtype)], np.zeros(len(texts), dtype=np.int64)
    for pieces in groups_of(texts, ends, cut=cut):
        ids, counts = encode(pieces)
        parts.append(ids)
        np.add.at(lengths, [piece.text for piece in pieces], counts)
    return np.concatenate(parts), lengths

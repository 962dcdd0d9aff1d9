"""The words that byte-level merges stay within, found for a whole text at once (Radford et al. 2019).

GPT-2 and Hugging Face's ``ByteLevel`` cut a text with this expression before any merge:

    's|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+

A word is thus a run of letters, of digits or of other marks, with the single space before it. Here every byte gets the
class of its character, and a word starts where the class changes, apart from three rules: a space belongs to what
follows it, the last white space before a word stands alone, and a contraction ends before the letters after it. The
classes of characters are asked of Hugging Face's own engine, so that both know the same Unicode.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from tokenizers import Regex, normalizers

Array = np.ndarray[Any, np.dtype[Any]]

# between texts, each the end of the one before it: bytes that no UTF-8 holds
END, CUT = b"\xff", b"\xfe"  # of a document; of a part of one
SPACE, EDGE, LETTER, DIGIT, MARK, UNSEEN = 0, 1, 2, 3, 4, 255  # from LETTER on: what words are made of
CLASSES = {SPACE: Regex(r"\s"), LETTER: Regex(r"\p{L}"), DIGIT: Regex(r"\p{N}")}


def classify(characters: str) -> Array:
    """The class of each of ``characters``, by the regular expressions of Hugging Face."""
    classes = np.full(len(characters), MARK, dtype=np.uint8)
    for value, expression in CLASSES.items():
        others = set(normalizers.Replace(expression, "").normalize_str(characters))
        classes[[character not in others for character in characters]] = value
    return classes


# code point → class, filled in as characters are met
CLASS_OF = np.full(0x110000, UNSEEN, dtype=np.uint8)
CLASS_OF[:128] = classify("".join(map(chr, range(128))))
CLASS_OF_BYTE = np.full(256, EDGE, dtype=np.uint8)
CLASS_OF_BYTE[:128] = CLASS_OF[:128]


def split_pretokens(data: bytes) -> pa.BinaryArray:
    """The words of UTF-8 ``data``, which hold all of its bytes; ``END`` and ``CUT`` are words that part texts."""
    values = np.frombuffer(data, dtype=np.uint8)
    offsets = np.append(find_starts(values), len(values)).astype(np.int32)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.binary(), len(offsets) - 1, buffers)


def find_starts(values: Array) -> Array:
    """Where the words of ``values``, the bytes of UTF-8, start."""
    if not len(values):
        return np.zeros(0, dtype=np.int64)
    classes, any_wide = classes_of(values)
    starts = np.ones(len(values), dtype=bool)
    np.not_equal(classes[1:], classes[:-1], out=starts[1:])
    # the last white space before a word starts one, of its own or, if it is a space, with the word
    before_word = (classes[:-1] == SPACE) & (classes[1:] >= LETTER)
    starts[1:] &= ~(before_word & (values[:-1] == ord(" ")))
    last = np.flatnonzero(before_word)
    if any_wide:
        last = first_byte(values, last)
    starts[last] = True
    starts[classes == EDGE] = True
    end_contractions(values, classes, starts)
    return np.flatnonzero(starts)


def classes_of(values: Array) -> tuple[Array, bool]:
    """The class of each byte's character, and whether there are characters of more than one byte."""
    classes = CLASS_OF_BYTE[values]
    first = np.flatnonzero((values >= 0xC0) & (values < 0xF8))
    if not len(first):
        return classes, False
    length = 2 + (values[first] >= 0xE0) + (values[first] >= 0xF0)
    points = (values[first] & (0x7F >> length)).astype(np.uint32)
    for i in range(1, 4):
        more = np.flatnonzero(length > i)
        points[more] = points[more] << 6 | values[first[more] + i] & 0x3F
    found = CLASS_OF[points]
    if UNSEEN in found:
        unseen = np.unique(points[found == UNSEEN])
        CLASS_OF[unseen] = classify("".join(map(chr, unseen.tolist())))
        found = CLASS_OF[points]
    for i in range(4):
        more = np.flatnonzero(length > i)
        classes[first[more] + i] = found[more]
    return classes, True


def first_byte(values: Array, positions: Array) -> Array:
    """The first byte of the characters (of at most three bytes) whose last bytes are at ``positions``."""
    wide = np.flatnonzero(values[positions] >= 0x80)
    before = positions[wide] - 1
    positions[wide] = before - (values[before] & 0xC0 == 0x80)
    return positions


def end_contractions(values: Array, classes: Array, starts: Array) -> None:
    """Move, in ``starts``, the start after an apostrophe to the end of 's, 't, 'm, 'd, 're, 've, 'll."""
    marks = np.flatnonzero(values[:-1] == ord("'"))
    marks = marks[starts[marks] & (classes[marks + 1] == LETTER)]
    one = values[marks + 1]
    two = np.where(marks + 2 < len(values), values[np.minimum(marks + 2, len(values) - 1)], 0)
    is_short = np.isin(one, list(b"stmd"))
    is_long = (np.isin(one, list(b"rv")) & (two == ord("e"))) | ((one == ord("l")) & (two == ord("l")))
    found = is_short | is_long
    starts[marks[found] + 1] = False
    ends = marks[found] + 2 + is_long[found]
    starts[ends[ends < len(values)]] = True

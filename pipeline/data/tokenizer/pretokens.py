"""The words that byte-level merges stay within, found for a whole text at once (Radford et al. 2019).

GPT-2 and Hugging Face's ``ByteLevel`` cut a text with this expression before any merge:

    's|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+

A word is thus a run of letters, of digits or of other marks, with the single space before it. Here every byte gets the
class of its character, and a word starts where the class changes, apart from three rules: a space belongs to what
follows it, the last white space before a word stands alone, and a contraction ends before the letters after it. The
classes of characters come from Hugging Face's own engine, so that both use the same version of Unicode.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from tokenizers import Regex, normalizers

from pipeline.data.tokenizer.base import Ids
from pipeline.data.tokenizer.characters import CharacterClasses, binary_array

SPACE, EDGE, LETTER, DIGIT, MARK = range(5)  # from LETTER on: what words are made of
CLASSES = {SPACE: Regex(r"\s"), LETTER: Regex(r"\p{L}"), DIGIT: Regex(r"\p{N}")}


def classify(characters: str) -> Ids:
    """The class of each of ``characters``, from the regular expressions of Hugging Face."""
    classes = np.full(len(characters), MARK, dtype=np.uint8)
    for value, expression in CLASSES.items():
        others = set(normalizers.Replace(expression, "").normalize_str(characters))
        classes[[character not in others for character in characters]] = value
    return classes


CLASSES_OF = CharacterClasses(classify, edge=EDGE)


def split_pretokens(data: bytes) -> pa.BinaryArray:
    """The words of UTF-8 ``data``, which cover all its bytes; ``END`` and ``CUT`` are words that separate texts."""
    values = np.frombuffer(data, dtype=np.uint8)
    return binary_array(values, find_starts(values, CLASSES_OF(data)))


def find_starts(values: Ids, classes: Ids) -> Ids:
    """Where the words of ``values``, the bytes of UTF-8, start."""
    starts = np.ones(len(values), dtype=bool)
    np.not_equal(classes[1:], classes[:-1], out=starts[1:])
    # the last white space before a word starts one of its own or, if it is a space, that word
    before_word = (classes[:-1] == SPACE) & (classes[1:] >= LETTER)
    starts[1:] &= ~(before_word & (values[:-1] == ord(" ")))
    starts[first_byte(values, np.flatnonzero(before_word))] = True
    starts[classes == EDGE] = True
    end_contractions(values, classes, starts)
    return np.flatnonzero(starts)


def first_byte(values: Ids, positions: Ids) -> Ids:
    """The first byte of the characters (of at most three bytes) whose last bytes are at ``positions``."""
    wide = np.flatnonzero(values[positions] >= 0x80)
    before = positions[wide] - 1
    positions[wide] = before - (values[before] & 0xC0 == 0x80)
    return positions


def end_contractions(values: Ids, classes: Ids, starts: Ids) -> None:
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

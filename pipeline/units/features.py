"""Properties of a text at each of its tokens: inside quotes, how deep in brackets, how far into the line, …

Letters: N tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Numbers = np.ndarray[Any, np.dtype[np.floating[Any]]]

OPENING, CLOSING = "([{", ")]}"
QUOTES = {"“": True, "”": False, "«": True, "»": False}  # whether it opens; a straight one does both
SENTENCE_ENDS = ".!?"


@dataclass(frozen=True)
class Feature:
    """A label of each token, after it was read: yes or no, or a number."""

    name: str
    values: Numbers  # (N,)
    is_number: bool


class _Scanner:
    """Reads a text character by character and keeps track of where in it the last one is."""

    def __init__(self) -> None:
        self.is_quoted = False
        self.depth = self.column = self.indent = self.letters = self.sentence = 0
        self.is_blank = True  # only white space in this line so far
        self.is_ended = True  # a sentence, so the next letter or digit begins another

    def push(self, character: str) -> None:
        if character == "\n":
            if self.is_blank:  # nothing stays open across paragraphs
                self.is_quoted, self.depth = False, 0
            self.column = self.indent = 0
            self.is_blank = True
        else:
            self.column += 1
            if self.is_blank and character in " \t":
                self.indent += 1
            elif not character.isspace():
                self.is_blank = False
        self.letters = self.letters + 1 if character.isalpha() or (character in "'’" and self.letters) else 0
        if character in QUOTES:
            self.is_quoted = QUOTES[character]
        elif character == '"':
            self.is_quoted = not self.is_quoted
        if character in OPENING:
            self.depth += 1
        elif character in CLOSING:
            self.depth = max(0, self.depth - 1)
        if self.is_ended and character.isalnum():
            self.is_ended, self.sentence = False, 0
        self.sentence += 1
        self.is_ended |= character in SENTENCE_ENDS


# by name: its value in the state of a scanner, and whether that is a number
FEATURES = {
    "inside quotes": (lambda scanner, piece: scanner.is_quoted, False),
    "depth of brackets": (lambda scanner, piece: scanner.depth, True),
    "position in line": (lambda scanner, piece: scanner.column, True),
    "indentation": (lambda scanner, piece: scanner.indent, True),
    "capital letter": (lambda scanner, piece: any(map(str.isupper, piece)), False),
    "digit": (lambda scanner, piece: any(map(str.isdigit, piece)), False),
    "position in word": (lambda scanner, piece: scanner.letters, True),
    "position in sentence": (lambda scanner, piece: scanner.sentence, True),
    "end of sentence": (lambda scanner, piece: scanner.is_ended, False),
}


def features_of(pieces: Sequence[str], documents: Sequence[int] = ()) -> list[Feature]:
    """Return every feature of a text of N ``pieces``, with positions in characters.

    Quotes and brackets end with a paragraph (an empty line), all features with a document.

    Args:
        documents: the tokens at which documents begin.
    """
    scanner, begins = _Scanner(), set(documents)
    found: dict[str, list[float]] = {name: [] for name in FEATURES}
    for place, piece in enumerate(pieces):
        if place in begins:
            scanner = _Scanner()
        for character in piece:
            scanner.push(character)
        for name, (ask, _) in FEATURES.items():
            found[name].append(float(ask(scanner, piece)))
    return [Feature(name, np.array(found[name]), is_number) for name, (_, is_number) in FEATURES.items()]

"""Tokens and a model's figures for each in, words and their nats out.

A word is what stands between white space, with the white space before it. Its nats depend on a convention, since white
space is both the end of one word and the beginning of the next (Pimentel & Meister 2024, "How to Compute the
Probability of a Word"; Oh & Schuler 2024, "Leading Whitespaces of Language Models' Subword Vocabulary Pose a Confound
for Calculating Word Probabilities"):

- ``corrected``: the probability that exactly this word comes next. The end of a word counts with the word itself, not
  with the white space or end that follows: p(tokens) · P(boundary or end | after) / P(boundary or end | before). The
  first word of a document is taken among all that can begin one in that way:
  p(tokens) / P(neither boundary nor end | start).
- ``preceding``: the probability of its tokens, including the white space before it but not its end.
- ``none``: the same, given the white space: tokens that are white space only do not count, and the probability of a
  token that begins with white space is taken among the types that do.

A boundary is a type that begins with white space, the end is ``<eos>``. A type that ends with white space itself marks
the end of its word. ``<eos>``, and every token of a word tokenizer, is a word of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from operator import attrgetter
from typing import Literal, get_args

from pipeline.data.tokenizer import Tokenizer
from pipeline.evaluate.type_classes import Place

WordBoundary = Literal["corrected", "preceding", "none"]
WORD_BOUNDARIES: tuple[WordBoundary, ...] = get_args(WordBoundary)


class Known(Enum):
    """What is known of the first token of a word, before it is read."""

    NOTHING = "it may be any"
    WITHIN = "it has no white space in front, and is no end"
    OVER = "it begins with white space, or is the end"


@dataclass(slots=True)
class Row:
    """A token or word, with the number of its document, its position there (among tokens or words), and its nats."""

    level: str
    data: bytes  # as the model has it
    document: int
    position: int
    nats: float
    own: bytes | None = None  # what the text has there, if part of it is unknown to the model
    entropy_nats: float | None = None  # of the distribution of its (first) token
    labels: Mapping[str, str | int | None] = field(default_factory=dict)  # of its stimulus
    rank: int | None = None  # of its first token
    is_end: bool = False  # <eos>
    begin: int = 0  # which token of the whole text is its first
    num_tokens: int = 1
    known: Known = Known.NOTHING  # of a word
    values: dict[str, float | int | None] = field(default_factory=dict)  # of other columns, or replacing the above

    def to_json(self) -> dict[str, object]:
        """The row of the table."""
        return {**self.labels, **{name: shown(self) for name, shown in SHOWN.items()}, **self.values}

    @property
    def word(self) -> str | None:
        """The word as the text has it; None for ``<eos>``, or if it is all white space."""
        data = (self.data if self.own is None else self.own).strip()
        return data.decode(errors="replace") if data and not self.is_end else None

    def shown(self, data: bytes | None) -> str | None:
        """Return ``data`` as a text, without white space around a word."""
        if data is None:
            return None
        text = data.decode(errors="replace")
        return text if self.level == "token" else text.strip() or text


# the columns that every row has, and their contents, unless ``values`` overrides them
SHOWN: dict[str, Callable[[Row], object]] = {
    **{name: attrgetter(name) for name in ("level", "document", "position", "nats", "entropy_nats")},
    "text": lambda row: row.shown(row.data),
    "unknown": lambda row: row.shown(row.own),
    "rank": lambda row: row.rank if row.num_tokens == 1 else None,
}


class Before(Enum):
    """What comes before a word."""

    START = "nothing of its document"
    OPEN = "a word whose end has yet to come"
    CLOSED = "white space that belongs to the word before"


class Words:
    """Tokens in, one by one; words out as soon as they are complete.

    Args:
        before: what comes before the first token.
    """

    def __init__(
        self, tokenizer: Tokenizer, convention: WordBoundary = "corrected", *, before: Before = Before.START
    ) -> None:
        self.tokenizer = tokenizer
        self.convention = convention
        self.before = before
        self.word: Row | None = None  # the word being put together
        self.space: Row | None = None  # tokens after it that are white space only: where the next one begins
        self.document = self.num_words = self.num_tokens = 0

    def push(self, token: int, data: bytes, document: int, place: Place, own: bytes | None = None) -> Iterator[Row]:
        """Yield the words that end before ``token``, and ``token`` itself if it is one."""
        if document != self.document:
            yield from self.finish(place)
            self.document, self.num_words = document, 0
        self.num_tokens += 1
        if self.tokenizer.kind == "word":
            row = self._row(data, place, place.nats, own)
            row.is_end = token == self.tokenizer.eos_id
            yield self._numbered(row)
        elif token == self.tokenizer.eos_id:
            yield from self._end(data, place)
        elif self.word is None:
            self.word = self._begun(data, place, own)
        elif self.space is not None and _is_space(data):
            self._extend(self.space, data, place, own)
        elif self.space is not None:
            yield self._numbered(self.word)
            self.word, self.space = self.space, None
            self._extend(self.word, data, place, own)
        elif self.word.data.strip() and (self.word.data[-1:].isspace() or data[:1].isspace()):
            self._close(place)
            if _is_space(data):
                self.space = self._begun(data, place, own)
            else:
                yield self._numbered(self.word)
                self.word = self._begun(data, place, own)
        else:
            self._extend(self.word, data, place, own)

    def finish(self, place: Place) -> Iterator[Row]:
        """Yield the last word of a document; ``place`` is the one after it."""
        self._close(place)
        yield from self._last()

    def _last(self) -> Iterator[Row]:
        """Yield the last word; the nats of white space after it are added only by ``preceding``."""
        word, space = self.word, self.space
        self.word, self.space, self.before = None, None, Before.START
        if word is None or (self.convention != "preceding" and not word.data.strip()):
            return
        if space is not None:
            _join(word, space.data, None)
            if self.convention == "preceding":
                word.nats, word.num_tokens = word.nats + space.nats, word.num_tokens + space.num_tokens
        yield self._numbered(word)

    def _end(self, data: bytes, place: Place) -> Iterator[Row]:
        """Yield the last word, then ``<eos>``; under ``corrected`` the white space before ``<eos>`` counts with it."""
        self._close(place)
        row = self._row(data, place, place.nats)
        row.is_end, row.known = True, self._known(may_begin=False)
        space = self.space
        if self.word is not None and not self.word.data.strip():  # all of the document
            space = self.word
        if space is not None:
            row.begin, row.known = space.begin, space.known
        if self.convention == "corrected" and space is not None:
            row.nats, row.num_tokens = row.nats + space.nats, 1 + space.num_tokens
            row.entropy_nats = space.entropy_nats
        elif self.convention == "corrected":
            row.nats = _positive(row.nats - _claimed(place, row.known))
        yield from self._last()
        yield self._numbered(row)

    def _begun(self, data: bytes, place: Place, own: bytes | None) -> Row:
        """Begin a word, or the white space before one, with ``data`` as its first token."""
        nats, known = self._nats(data, place), self._known(may_begin=not data[:1].isspace())
        if self.convention == "corrected":
            nats = _positive(nats - _claimed(place, known))
        row = self._row(data, place, nats, own)
        row.known = known
        return row

    def _known(self, *, may_begin: bool) -> Known:
        """Return what is already known of the first token of a word.

        Args:
            may_begin: the token does not begin with white space and is not the end.
        """
        if self.before is Before.CLOSED:
            return Known.NOTHING
        if not may_begin:
            return Known.OVER
        return Known.WITHIN if self.before is Before.START else Known.NOTHING

    def _nats(self, data: bytes, place: Place) -> float:
        """Return the nats that a token adds to its word."""
        if self.convention != "none" or not data[:1].isspace():
            return place.nats
        return 0.0 if _is_space(data) else _positive(place.nats - place.boundary)

    def _close(self, place: Place) -> None:
        """End the current word, as what comes at ``place`` shows, unless it has ended before."""
        if self.word is None or self.space is not None:
            return
        is_closed = self.word.data[-1:].isspace()
        self.before = Before.CLOSED if is_closed else Before.OPEN
        if self.convention == "corrected" and not is_closed:
            self.word.nats += place.over

    def _extend(self, word: Row, data: bytes, place: Place, own: bytes | None) -> None:
        _join(word, data, own)
        word.nats += self._nats(data, place)
        word.num_tokens += 1

    def _row(self, data: bytes, place: Place, nats: float, own: bytes | None = None) -> Row:
        begin = self.num_tokens - 1
        return Row("word", data, self.document, 0, nats, own, place.entropy, rank=place.rank, begin=begin)

    def _numbered(self, word: Row) -> Row:
        word.position = self.num_words
        self.num_words += 1
        return word


def _claimed(place: Place, known: Known) -> float:
    """Return −ln P of what is ``known`` of a first token."""
    if known is Known.OVER:
        return place.over
    return place.within if known is Known.WITHIN else 0.0


def _is_space(data: bytes) -> bool:
    """Whether a token is only white space."""
    return bool(data) and not data.strip()


def _join(word: Row, data: bytes, own: bytes | None) -> None:
    if own is not None or word.own is not None:
        word.own = (word.data if word.own is None else word.own) + (data if own is None else own)
    word.data += data


def _positive(nats: float) -> float:
    """Return ``nats``, a difference that rounding can bring below 0, but at least 0."""
    return max(nats, 0.0)

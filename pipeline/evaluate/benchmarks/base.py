"""What every benchmark offers: it is read from a folder once, and scored by any number of models.

A benchmark reads its published layout (``read``), then says how a model does (``score``): a ``Figure`` for all items,
for each group of items, and for each part of a group.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, NamedTuple, Self

import numpy as np

from pipeline.data.tokenizer import Tokenizer
from pipeline.data.utf8 import is_text, parse_json, read_file
from pipeline.errors import UserError
from pipeline.evaluate.benchmarks.word_forms import WordForms
from pipeline.evaluate.regions import spans
from pipeline.evaluate.side_by_side import sentence_nats, sentence_words
from pipeline.evaluate.statistics import share_interval
from pipeline.evaluate.stimuli import split_words
from pipeline.evaluate.words import Row, WordBoundary
from pipeline.model.language_model import LanguageModel

ALL = "all"
MOST_NAMED = 5  # missing files in a sentence


@dataclass(frozen=True)
class Figure:
    """A figure for some items; ``level`` 0: all items, 1: a group, 2: a part of a group."""

    group: str
    level: int
    value: float  # a share; with ``unit`` "r", a correlation, with "points", a share of variance explained, times 100
    low: float  # the 95 % interval
    high: float
    items: int
    ties: int = 0  # items that are wrong because two figures are equal
    unit: str = "share"


@dataclass(frozen=True)
class Outcome:
    """How a model does, and how many of the words that it scored it does not know."""

    figures: list[Figure]
    words: int
    unknown: int
    notes: list[str] = field(default_factory=list)


class Judged(NamedTuple):
    """The verdict on an item."""

    is_right: bool
    is_tie: bool = False


class Scorer:
    """Scores texts with a model. Texts are rewritten to fit its vocabulary, see ``WordForms``."""

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: Tokenizer,
        *,
        word_boundary: WordBoundary = "corrected",
        on_texts: Callable[[int], None] = lambda number: None,
    ) -> None:
        self.model, self.tokenizer, self.word_boundary, self.on_texts = model, tokenizer, word_boundary, on_texts
        self.forms = WordForms(tokenizer)
        self.num_words = self.num_unknown = 0

    def sentences(self, texts: Sequence[str]) -> list[float]:
        """Return the nats of each text, its end included."""
        written = [self._written(text) for text in texts]
        self._count(sum(len(text.split()) for text in written), self._num_unknown(written))
        return sentence_nats(self.model, self.tokenizer, written, on_sentences=self.on_texts)

    def words(self, parts: Sequence[Sequence[str]]) -> list[list[Sequence[Row]]]:
        """Return the rows of the words of each part of each text; parts are whole words, and can be empty.

        Raises:
            UserError: the tokenizer divides a text into other words than white space does.
        """
        written = [[self._written(part).strip() for part in text] for text in parts]
        texts = [" ".join(filter(None, text)) for text in written]
        found = sentence_words(
            self.model, self.tokenizer, texts, word_boundary=self.word_boundary, on_sentences=self.on_texts
        )
        rows = []
        for text, text_parts, words in zip(texts, written, found, strict=True):
            counts = [len(split_words(self.tokenizer, part)) for part in text_parts]
            if sum(counts) != len(words):
                raise UserError(f"the model's tokenizer makes {len(words)} words of {text!r}, not {sum(counts)}")
            self._count(len(words), sum(row.own is not None for row in words))
            rows.append(list(spans(words, counts)))
        return rows

    def continuations(self, options: Sequence[tuple[str, str]]) -> list[float]:
        """Return the nats of the words of the continuation, for each (prefix, continuation)."""
        return [sum(row.nats for row in rows[1]) for rows in self.words(options)]

    def _written(self, text: str) -> str:
        return self.forms(self.tokenizer.normalized(text))

    def _num_unknown(self, texts: Sequence[str]) -> int:
        """Return how many words of ``texts`` contain something that the tokenizer does not know."""
        if self.tokenizer.unk_id is None or not texts:
            return 0
        flat, lengths = self.tokenizer.encode_documents(texts)
        text_of = np.repeat(np.arange(len(texts)), lengths)
        found = [texts[i] for i in np.unique(text_of[flat == self.tokenizer.unk_id]).tolist()]
        return sum(max(1, sum(bool(self.tokenizer.unknown_in(word)) for word in text.split())) for text in found)

    def _count(self, words: int, unknown: int) -> None:
        self.num_words += words
        self.num_unknown += unknown

    def outcome(self, figures: list[Figure]) -> Outcome:
        return Outcome(figures, self.num_words, self.num_unknown, self.forms.notes)


class Benchmark(ABC):
    """A benchmark, read from a folder."""

    name: ClassVar[str]  # on the command line
    title: ClassVar[str]
    source: ClassVar[str]  # where it was published
    variant: str = ""  # which part was read, if published figures are for that part: a language

    @classmethod
    @abstractmethod
    def read(cls, folder: Path) -> Self:
        """Read ``folder``. Raises ``UserError`` if files are missing, naming them, or have other contents."""

    @property
    @abstractmethod
    def num_texts(self) -> int:
        """The number of texts that a model scores."""

    @abstractmethod
    def score(self, scorer: Scorer) -> Outcome: ...


def figures_of(items: Iterable[tuple[str, str, Judged]], *, is_pooled: bool = False) -> list[Figure]:
    """Return the figures of (group, part, verdict): for a part the share of right items, for a group its parts' mean.

    The figure of all items is the mean over all parts. A group that is its own only part gets one figure.

    Args:
        is_pooled: the figures of groups and of all are shares of their items instead.
    """
    parts: dict[tuple[str, str], list[Judged]] = {}
    for group, part, judged in items:
        parts.setdefault((group, part), []).append(judged)

    def together(own: Iterable[list[Judged]]) -> list[list[Judged]]:
        return [[judged for part in own for judged in part]] if is_pooled else list(own)

    found = [share_of(ALL, 0, together(parts.values()))]
    for group in dict.fromkeys(group for group, _ in parts):
        own = {part: judged for (other, part), judged in parts.items() if other == group}
        found.append(share_of(group, 1, together(own.values())))
        if set(own) != {group}:
            found += [share_of(part, 2, [judged]) for part, judged in own.items()]
    return found


def share_of(
    group: str, level: int, parts: Sequence[Sequence[Judged]], weights: Sequence[float] | None = None
) -> Figure:
    """Return the weighted mean share of right items; ``weights`` of the parts sum to 1; None: equal weights."""
    right = [sum(judged.is_right for judged in part) for part in parts]
    totals = [len(part) for part in parts]
    weights = weights or [1 / len(parts)] * len(parts)
    value = sum(w * r / n for w, r, n in zip(weights, right, totals, strict=True))
    low, high = share_interval(right, totals, weights=weights)
    ties = sum(judged.is_tie for part in parts for judged in part)
    return Figure(group, level, value, low, high, sum(totals), ties)


def likeliest_first(nats: Sequence[float]) -> Judged:
    """Judge whether the first text is likelier than every other; a tie with the best of them is wrong."""
    best = min(nats[1:])
    return Judged(nats[0] < best, nats[0] == best)


def require(folder: Path, names: Iterable[str], benchmark: str) -> None:
    """Raise ``UserError`` if ``folder`` does not have all files of ``names``."""
    names = list(names)
    missing = [name for name in names if not (folder / name).is_file()]
    if not missing:
        return
    if not folder.is_dir():
        raise UserError(f"{benchmark}={folder}: there is no such folder", argument="benchmark")
    some = ", ".join(missing[:MOST_NAMED]) + (f" and {len(missing) - MOST_NAMED} more" * (len(missing) > MOST_NAMED))
    is_are = "is" if len(missing) == 1 else "are"
    raise UserError(
        f"{benchmark}={folder}: {some} {is_are} missing; {len(names)} {'files are' if len(names) > 1 else 'file is'} "
        "expected",
        argument="benchmark",
    )


def subfolder(folder: Path, *names: str) -> Path:
    """Return the first of ``names`` that exists in ``folder``, or ``folder`` itself."""
    return next((folder / name for name in names if (folder / name).is_dir()), folder)


def read_json_lines(path: Path) -> list[dict[str, object]]:
    """Read the JSON objects of a file, one per line. Raises ``UserError`` naming a line that is not one."""
    found = []
    for number, line in enumerate(read_file(str(path)).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            values = parse_json(line)
        except ValueError as error:
            raise UserError(f"{path} line {number} is not JSON: {error}") from None
        if not isinstance(values, dict):
            raise UserError(f"{path} line {number} is not a JSON object")
        found.append(values)
    if not found:
        raise UserError(f"{path} has no items")
    return found


def text_in(values: dict[str, object], field_name: str, where: str) -> str:
    """Return a text of an object. Raises ``UserError`` saying ``where`` it is missing."""
    value = values.get(field_name)
    if not isinstance(value, str) or not value.strip() or not is_text(value):
        raise UserError(f"{where} has no text in its field {field_name!r}")
    return value

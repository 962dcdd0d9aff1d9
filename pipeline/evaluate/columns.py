"""More than surprisal: rows of tokens and words in, the same rows with the figures of other columns out.

Each function reads a stream of rows and yields them a little later; none keeps all of them. A missing figure is null,
never 0.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

import numpy as np
import pyarrow as pa
import torch

from pipeline.evaluate.next_words import NextWords
from pipeline.evaluate.reading import Reading
from pipeline.evaluate.words import Row
from pipeline.model.evaluating import evaluating
from pipeline.model.language_model import LanguageModel
from pipeline.model.state import State, concatenate, zeros_like
from pipeline.ngram import BEGIN, END, UNKNOWN, NGramModel
from pipeline.scoring import read

# the columns of the table for each of ``SURPRISAL_COLUMNS``
COLUMNS: dict[str, list[pa.Field]] = {
    "entropy": [pa.field("entropy_nats", pa.float64())],
    "rank": [pa.field("rank", pa.int64())],
    "lags": [pa.field("nats_lag1", pa.float64()), pa.field("nats_lag2", pa.float64())],
    "length": [pa.field("length", pa.int64())],
    "frequency": [pa.field("training_count", pa.int64()), pa.field("log_frequency", pa.float64())],
    "word-entropy": [
        pa.field("word_entropy_nats", pa.float64()),
        pa.field("word_entropy_missing_nats", pa.float64()),
        pa.field("word_entropy_mass", pa.float64()),
        pa.field("entropy_reduction_nats", pa.float64()),
    ],
}
NGRAM_COLUMNS = [pa.field("ngram_nats", pa.float64()), pa.field("ngram_order", pa.int64())]
# rows looked up in an n-gram model at a time, and places whose next word is expanded at a time
ROWS_AT_ONCE, PLACES_AT_ONCE = 4096, 16


def with_lags(rows: Iterable[Row]) -> Iterator[Row]:
    """Add the nats of the token or word before, and of the one before that, in the same document."""
    former: dict[str, tuple[int, float | None, float | None]] = {}
    for row in rows:
        document, one, two = former.get(row.level, (-1, None, None))
        if document != row.document:
            one = two = None
        row.values |= {"nats_lag1": one, "nats_lag2": two}
        former[row.level] = (row.document, None if math.isnan(row.nats) else row.nats, one)
        yield row


def with_lengths(rows: Iterable[Row]) -> Iterator[Row]:
    """Add the number of characters of each word, as the text has it."""
    for row in rows:
        word = row.word if row.level == "word" else None
        row.values["length"] = None if word is None or is_unknown(row) else len(word)
        yield row


def with_frequencies(rows: Iterable[Row], counts: Mapping[str, int], *, unknown: str = UNKNOWN) -> Iterator[Row]:
    """Add how often each word is in the training text, and ln of its share of all words there.

    Args:
        counts: from ``TrainingText.counts``.
        unknown: what stands in a word for a part of it that the tokenizer does not know.
    """
    num_words = sum(number for word, number in counts.items() if word not in (BEGIN, END))
    for row in rows:
        count = None
        if row.level == "word" and row.is_end:
            count = counts[END]
        elif row.level == "word" and row.own is None and not is_unknown(row) and row.word is not None:
            words = row.word.split()
            is_counted = len(words) == 1 and unknown not in words[0] and words[0] not in (BEGIN, END)
            count = counts.get(words[0], 0) if is_counted else None
        row.values["training_count"] = count
        row.values["log_frequency"] = math.log(count / num_words) if count and not row.is_end else None
        yield row


def is_unknown(row: Row) -> bool:
    """Whether the model has ``<unk>`` here and nothing says what the text has."""
    return row.own is None and row.data == UNKNOWN.encode()


def with_ngrams(rows: Iterable[Row], model: NGramModel) -> Iterator[Row]:
    """Add the nats of each word under an n-gram model, which restarts at each sentence and document, and the number of
    words of the n-gram that was found: 0 for an unknown word, whose nats are those of ``<unk>``.
    """
    rows = iter(rows)
    history = History(model)
    while batch := list(islice(rows, ROWS_AT_ONCE)):
        questions = [history.push(row) for row in batch]
        flat = [question for found in questions for question in found]
        if flat:
            asked = np.array(flat, dtype=np.int64)
            log_p, orders = model.log_probabilities(asked)
            orders[asked[:, -1] == model.unknown_id] = 0
        start = 0
        for row, found in zip(batch, questions, strict=True):
            own = slice(start, start := start + len(found))
            nats = -float(log_p[own].sum()) if found else math.nan
            row.values["ngram_nats"] = None if math.isnan(nats) else nats
            row.values["ngram_order"] = int(orders[own].min()) if found else None
            yield row


class History:
    """The preceding words, as an n-gram model knows them."""

    def __init__(self, model: NGramModel) -> None:
        self.model = model
        self.document = -1
        self.words: deque[int] = deque(maxlen=model.order)

    def push(self, row: Row) -> list[list[int]]:
        """Return a question for each word of ``row``, given those before it; none for a token."""
        if row.level != "word":
            return []
        if row.document != self.document:
            self.document = row.document
            self._begin()
        questions = []
        # in the training text, a word that only looks like a mark counts as <unk>
        own = (UNKNOWN if word in (BEGIN, END) else word for word in (row.word or "").split())
        for word in [END] if row.is_end else own:
            self.words.append(self.model.id_of.get(word, self.model.unknown_id))
            questions.append([-1] * (self.model.order - len(self.words)) + list(self.words))
        if row.is_end:
            self._begin()
        return questions

    def _begin(self) -> None:
        self.words.clear()
        self.words.append(self.model.id_of[BEGIN])


def with_word_entropies(
    rows: Iterable[Row], model: LanguageModel, reading: Reading, *, mass: float = 0.9
) -> Iterator[Row]:
    """Add the entropy of each word before it is read, and by how much the entropy of the next word is lower.

    Args:
        rows: those of ``reading`` under ``model``.
        mass: the probability that is expanded to whole words (see ``next_words``); models of words cover all of it.
    """
    is_word = reading.tokenizer.kind == "word"
    found = with_entropies_of_types(rows) if is_word else with_expanded_entropies(rows, model, reading, mass)
    waiting: list[Row] = []  # a word, and what came after it
    for row in found:
        if row.level == "word":
            if waiting:
                waiting[0].values["entropy_reduction_nats"] = reduction(waiting[0], row)
            yield from waiting
            waiting = []
        if waiting or row.level == "word":
            waiting.append(row)
        else:
            yield row
    yield from waiting


def reduction(row: Row, following: Row) -> float | None:
    """Return by how much a word reduces the entropy of the next word; None for the last word of a document."""
    before, after = row.values["word_entropy_nats"], following.values["word_entropy_nats"]
    if row.document != following.document or before is None or after is None:
        return None
    return before - after


def with_entropies_of_types(rows: Iterable[Row]) -> Iterator[Row]:
    """Add the entropy of the next token as that of the next word, for models whose tokens are words."""
    for row in rows:
        if row.level == "word":
            figures = {"nats": row.entropy_nats, "missing_nats": 0.0, "mass": 1.0}
            row.values |= {f"word_entropy_{name}": value for name, value in figures.items()}
        yield row


def with_expanded_entropies(rows: Iterable[Row], model: LanguageModel, reading: Reading, mass: float) -> Iterator[Row]:
    next_words, walk = NextWords(model, reading.tokenizer, mass=mass), Walk(model, reading)
    rows = iter(rows)
    while batch := list(_up_to_words(rows, PLACES_AT_ONCE)):
        words = sorted((row for row in batch if row.level == "word"), key=lambda row: row.begin)
        if words:
            inputs = reading.inputs_of(np.array([row.begin for row in words])).tolist()
            hidden, states = zip(*(walk.to(place) for place in inputs), strict=True)
            found = next_words.entropies(torch.cat(hidden), concatenate(list(states)), [row.known for row in words])
            for row, entropy in zip(words, found, strict=True):
                row.values |= {f"word_entropy_{name}": value for name, value in vars(entropy).items()}
        yield from batch


def _up_to_words(rows: Iterator[Row], number: int) -> Iterator[Row]:
    """Yield ``rows`` until ``number`` of them were words."""
    while number and (row := next(rows, None)) is not None:
        number -= row.level == "word"
        yield row


class Walk:
    """Reads a text from left to right, as far as it is asked to."""

    def __init__(self, model: LanguageModel, reading: Reading) -> None:
        self.model, self.reading = model, reading
        self.position = 0
        self.reached: tuple[torch.Tensor, State] | None = None

    def to(self, place: int) -> tuple[torch.Tensor, State]:
        """Return (1, H) for the head, and the state, after input ``place``, which is never before the previous one.

        The state is that in which the next input is read: zero if it is reset there.
        """
        for window in self.reading.windows(self.position, place + 1):
            with evaluating(self.model):
                hidden, _, state = read(self.model, window, self.reached[1] if self.reached else None)
            self.reached = hidden[-1], state
        self.position = max(self.position, place + 1)
        assert self.reached is not None
        hidden, state = self.reached
        return hidden, zeros_like(state) if self.reading.resets_before(place + 1) else state

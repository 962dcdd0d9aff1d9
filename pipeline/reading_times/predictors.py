"""Words and times in, the columns of a regression out: what is known of a word without a model, and its surprisal.

Each is given for the word itself and for the two before it in its item, which the reader may still be processing
(spillover). Letters: N readings, K columns.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.errors import UserError
from pipeline.files import reason
from pipeline.reading_times.words import Surprisals, Times
from pipeline.tables import Numbers

LAGS = (0, 1, 2)
LOG_FREQUENCY, LENGTH, POSITION = "log_frequency", "length", "position"
COUNT = "training_count"  # how often a word occurs in the training text
FIRST, UNKNOWN, RARE = (
    "of the first two words of an item",
    "of words near one that a model does not know",
    "of words near one whose frequency is not known",
)
Frequency = Callable[[str], float]


@dataclass(frozen=True)
class Observations:
    """The readings for which all columns are known, and why others were left out."""

    times: Numbers  # (N,)
    items: Numbers  # (N,) number of the item
    num_items: int
    baseline: dict[str, Numbers]  # (N,) by name: what is known without a model
    surprisal: dict[str, Numbers]  # (N, 3) nats by model: of the word, the one before it, the one before that
    subjects: list[str] | None
    left_out: dict[str, int]  # number of readings by reason

    def __len__(self) -> int:
        return len(self.times)


def observations(
    times: Times, models: Mapping[str, tuple[Surprisals, str]], *, frequency: Frequency | None
) -> Observations:
    """Return the readings whose word and both words before it are known to all ``models``.

    Args:
        models: by name, a table's words and the name of the column with this model's nats.
        frequency: returns the log frequency of a word; None: the first table has a column of frequencies or counts.

    Raises:
        UserError: no frequencies are given, or no reading is left.
    """
    (first, _), *_ = models.values()
    frequencies, lengths = _frequencies(first, frequency), np.array([float(len(text)) for text in first.texts])
    rows, kept, left_out = [], [], dict.fromkeys((FIRST, UNKNOWN, RARE), 0)
    for row, (item, position) in enumerate(times.places):
        if position < max(LAGS):
            left_out[FIRST] += 1
            continue
        found = [[words.place_of[item, position - lag] for lag in LAGS] for words, _ in models.values()]
        asked = zip(models.values(), found, strict=True)
        if any(words.is_unknown[column][at] for (words, column), own in asked for at in own):
            left_out[UNKNOWN] += 1
        elif np.isnan(frequencies[found[0]]).any():
            left_out[RARE] += 1
        else:
            rows.append(found)
            kept.append(row)
    if not kept:
        raise UserError(f"{times.table.path}: no time is left whose word and both words before it are known")
    at = np.array(rows)  # (N, models, 3)
    baseline = {}
    for name, values in ((LOG_FREQUENCY, frequencies), (LENGTH, lengths)):
        for lag in LAGS:
            baseline[f"{name}{_suffix(lag)}"] = values[at[:, 0, lag]]
    baseline[POSITION] = np.array([float(times.places[row][1]) for row in kept])
    numbers = {item: number for number, item in enumerate(first.num_words)}
    items = np.array([numbers[times.places[row][0]] for row in kept])
    return Observations(
        times=times.values[kept],
        items=items,
        num_items=len(set(items.tolist())),
        baseline=baseline,
        surprisal={
            name: words.nats[column][at[:, index]] for index, (name, (words, column)) in enumerate(models.items())
        },
        subjects=None if times.subjects is None else [times.subjects[row] for row in kept],
        left_out={why: number for why, number in left_out.items() if number},
    )


def _suffix(lag: int) -> str:
    return f"_lag_{lag}" if lag else ""


def _frequencies(words: Surprisals, frequency: Frequency | None) -> Numbers:
    """Return ln of the frequency of each word; NaN if it is not known."""
    table = words.table
    if frequency is not None:
        return np.array([frequency(text) for text in words.texts])
    if COUNT in table.columns:  # words that never occur have a count, too
        return np.log1p(table.floats(COUNT, may_miss=True))
    if LOG_FREQUENCY in table.columns:
        return table.floats(LOG_FREQUENCY, may_miss=True)
    raise UserError(
        f"{table.path} has no column {COUNT} or {LOG_FREQUENCY}; name a text whose words are counted, such as the one "
        "that the model was trained on",
        argument="corpus",
    )


def frequency_in(paths: Sequence[str]) -> Frequency:
    """Return a function of a word: ln(1 + its count in some texts), ignoring case and the punctuation around it.

    Raises:
        UserError: a text cannot be read, or none has a word in it.
    """
    counts: Counter[str] = Counter()
    for path in paths:
        try:
            with open(path, encoding="utf-8") as file:
                for line in file:
                    counts.update(map(bare, line.split()))
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {reason(error)}", argument="corpus") from None
        except UnicodeDecodeError:
            raise UserError(f"{path}: is not UTF-8", argument="corpus") from None
    if not counts:
        raise UserError(f"{', '.join(paths)}: there is no word in it", argument="corpus")
    return lambda word: math.log1p(counts[bare(word)])


def bare(word: str) -> str:
    """Return ``word`` in lower case without the punctuation around it, unless it is all punctuation."""
    places = [place for place, character in enumerate(word) if character.isalnum()]
    return (word[places[0] : places[-1] + 1] if places else word).casefold()

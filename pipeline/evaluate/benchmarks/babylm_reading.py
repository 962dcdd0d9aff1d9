"""Reading times in BabyLM's evaluation: words of 205 sentences, eye tracking and self-paced (de Varda et al. 2024).

A regression of time on frequency, length and position of a word, with their products, leaves some variance. The figure
is the share of it that surprisal explains: for eye tracking the mean over four measures; for self-paced reading the
predictors include length and surprisal of the word before.
"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Self

import numpy as np

from pipeline.errors import UserError
from pipeline.evaluate.benchmarks.babylm_tasks import Task
from pipeline.evaluate.benchmarks.base import Figure, Scorer, require
from pipeline.evaluate.statistics import explained
from pipeline.tables import Numbers, TableRow, read_table

FILE = "reading_data.csv"
EYE_TRACKING = ("RTfirstfix", "RTfirstpass", "RTgopast", "RTrightbound")
SELF_PACED = "self_paced_reading_time"
PREDICTORS = ("Subtlex_log10", "length", "context_length")
BEFORE = "prev_length"
TEXTS = ("item", "word", "prev_item", "prev_word")  # the text before a word, the word; the same for the word before
# a share of the variance that is left by rounding alone
ROUNDING = 1e-12
MISSING = {"", "na", "nan", "null"}  # in small letters


class ReadingTask(Task):
    def __init__(
        self, name: str, words: list[tuple[str, str]], before: list[tuple[str, str] | None], columns: dict[str, Numbers]
    ) -> None:
        """
        Args:
            words: (text before it, word) of each row.
            before: the same for the word before it, if there is one.
            columns: predictors and times, nan where missing.
        """
        self.name, self.words, self.before, self.columns = name, words, before, columns

    @classmethod
    def read(cls, folder: Path, name: str) -> Self:
        require(folder, [FILE], "babylm")
        table = read_table(str(folder / FILE))
        numbers = (*PREDICTORS, BEFORE, *EYE_TRACKING, SELF_PACED)
        if missing := [column for column in (*TEXTS, *numbers) if column not in table.columns]:
            raise UserError(f"{table.path} has no column {', '.join(missing)}")
        words: list[tuple[str, str]] = []
        before: list[tuple[str, str] | None] = []
        for row in table.rows:
            words.append((_text(row, "item"), table.text(row, "word").strip()))
            former = _text(row, "prev_word")
            before.append((_text(row, "prev_item"), former) if former else None)
        return cls(name, words, before, {column: table.floats(column, may_miss=True) for column in numbers})

    @property
    def num_texts(self) -> int:
        return len(self.words) + sum(pair is not None for pair in self.before)

    def figures(self, scorer: Scorer) -> list[Figure]:
        nats = np.array(scorer.continuations(self.words))
        former = np.full(len(nats), np.nan)
        former[[pair is not None for pair in self.before]] = scorer.continuations(
            [p for p in self.before if p is not None]
        )
        predictors = [self.columns[name] for name in PREDICTORS]
        eye = [share_explained(predictors, nats, self.columns[name]) for name in EYE_TRACKING]
        paced = share_explained([*predictors, self.columns[BEFORE], former], nats, self.columns[SELF_PACED])
        return [
            Figure(f"{self.name}, eye tracking", 1, float(np.mean(eye)), np.nan, np.nan, len(nats), unit="points"),
            Figure(f"{self.name}, self-paced", 1, paced, np.nan, np.nan, len(nats), unit="points"),
        ]


def share_explained(predictors: list[Numbers], surprisal: Numbers, times: Numbers) -> float:
    """Return the share that (N,) ``surprisal`` explains of the variance of (N,) ``times`` left by ``predictors``.

    ``predictors``, (N,) each, include their products. Rows with nan anywhere are left out; nan if too few remain, or
    if the predictors leave nothing to explain.
    """
    products = [first * second for first, second in combinations(predictors, 2)]
    columns = np.column_stack([*predictors, *products, surprisal, times])
    columns = columns[~np.isnan(columns).any(1)]
    if len(columns) < columns.shape[1] + 1 or np.ptp(columns[:, -1]) == 0:
        return float("nan")
    without, whole = (explained(columns[:, :n], columns[:, -1]) for n in (-2, -1))
    return (whole - without) / (1 - without) if 1 - without > ROUNDING else float("nan")


def _text(row: TableRow, column: str) -> str:
    """Return the text in a cell; empty if it has none."""
    value = row.cells.get(column)
    return "" if not isinstance(value, str) or value.strip().lower() in MISSING else value.strip()

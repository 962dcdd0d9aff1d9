"""The Natural Stories Corpus: ten stories, word by word, with the mean time that people took to read each word.

Futrell et al. 2021 (Language Resources and Evaluation 55), self-paced reading. A model reads each story from beginning
to end. The figure is Pearson's correlation of the surprisal of words with their mean reading times, a first look;
``jobs.reading`` measures how much surprisal explains beyond frequency, length and the previous words. Words with
``<unk>`` in them are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from pipeline.errors import UserError
from pipeline.evaluate.benchmarks.base import ALL, Benchmark, Figure, Outcome, Scorer, require, subfolder
from pipeline.evaluate.statistics import correlation, correlation_interval
from pipeline.tables import read_table

WORDS, TIMES = "all_stories.tok", "processed_wordinfo.tsv"
KEY = ("item", "zone")
MEAN_TIME = "meanItemRT"


@dataclass(frozen=True)
class Story:
    name: str
    words: list[str]
    times: list[float]  # mean reading time of each word, in milliseconds


class NaturalStories(Benchmark):
    name: ClassVar[str] = "natural-stories"
    title: ClassVar[str] = "Natural Stories, surprisal and reading times"
    source: ClassVar[str] = "Futrell et al. 2021"

    def __init__(self, stories: list[Story]) -> None:
        self.stories = stories

    @classmethod
    def read(cls, folder: Path) -> Self:
        folder = subfolder(folder, "naturalstories_RTS")
        require(folder, [WORDS, TIMES], cls.name)
        times = _mean_times(folder / TIMES)
        table = read_table(str(folder / WORDS))
        stories: dict[str, Story] = {}
        for row in table.rows:
            item, zone, word = (table.text(row, column) for column in (*KEY, "word"))
            if (item, zone) not in times:
                raise table.error(row.number, f"has the word {word!r}, of which {TIMES} has no reading time")
            known, time = times.pop((item, zone))
            if known != word:
                raise table.error(row.number, f"has the word {word!r}, where {TIMES} has {known!r}")
            story = stories.setdefault(item, Story(item, [], []))
            story.words.append(word)
            story.times.append(time)
        if times:
            item, zone = next(iter(times))
            raise UserError(f"{folder / TIMES} has zone {zone} of item {item}, which {WORDS} does not have")
        return cls(list(stories.values()))

    @property
    def num_texts(self) -> int:
        return len(self.stories)

    def score(self, scorer: Scorer) -> Outcome:
        found = scorer.words([story.words for story in self.stories])
        pairs: dict[str, list[tuple[float, float]]] = {}
        for story, words in zip(self.stories, found, strict=True):
            pairs[story.name] = [
                (sum(row.nats for row in rows), time)
                for rows, time in zip(words, story.times, strict=True)
                if rows and all(row.own is None for row in rows)
            ]
        every = [pair for part in pairs.values() for pair in part]
        figures = [_figure(ALL, 0, every)]
        figures += [_figure(f"story {name}", 1, part) for name, part in pairs.items()]
        return scorer.outcome(figures)


def _mean_times(path: Path) -> dict[tuple[str, str], tuple[str, float]]:
    """(item, zone) → word and mean time."""
    table = read_table(str(path))
    times: dict[tuple[str, str], tuple[str, float]] = {}
    for row, time in zip(table.rows, table.floats(MEAN_TIME).tolist(), strict=True):
        item, zone, word = (table.text(row, column) for column in (*KEY, "word"))
        if (item, zone) in times:
            raise table.error(row.number, f"has item {item} zone {zone} a second time")
        times[item, zone] = word, time
    return times


def _figure(name: str, level: int, pairs: list[tuple[float, float]]) -> Figure:
    r = correlation([nats for nats, _ in pairs], [time for _, time in pairs])
    low, high = correlation_interval(r, len(pairs))
    return Figure(name, level, r, low, high, len(pairs), unit="r")

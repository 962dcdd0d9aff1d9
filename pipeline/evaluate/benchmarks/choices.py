"""Items that are a choice: of several texts a model should find the first likeliest.

Either whole sentences are compared, their ends included, or what comes after a prefix: the words of one continuation
against those of another. ``--word-boundary`` says where white space and the ends of words count; with ``corrected`` a
form is not likelier only because a longer one begins with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from pipeline.evaluate.benchmarks.base import Benchmark, Judged, Outcome, Scorer, figures_of, likeliest_first


@dataclass(frozen=True)
class Choice:
    """(prefix, continuation) of each option, the right one first; whole sentences have no prefix."""

    options: tuple[tuple[str, str], ...]
    group: str
    part: str = ""

    @classmethod
    def of_sentences(cls, good: str, bad: str, group: str, part: str = "") -> Choice:
        return cls((("", good), ("", bad)), group, part)


def judge(choices: Sequence[Choice], scorer: Scorer) -> list[Judged]:
    """Judge each of ``choices``, all or none of which have prefixes."""
    options = [option for choice in choices for option in choice.options]
    if any(prefix for prefix, _ in options):
        nats = scorer.continuations(options)
    else:
        nats = scorer.sentences([text for _, text in options])
    found, start = [], 0
    for choice in choices:
        stop = start + len(choice.options)
        found.append(likeliest_first(nats[start:stop]))
        start = stop
    return found


class ChoiceBenchmark(Benchmark):
    """A benchmark that is a list of choices."""

    is_pooled: ClassVar[bool] = False  # a group's figure is the share of its items, not the mean over its parts

    def __init__(self, choices: list[Choice], variant: str = "") -> None:
        self.choices = choices
        self.variant = variant

    @property
    def num_texts(self) -> int:
        return sum(len(choice.options) for choice in self.choices)

    def score(self, scorer: Scorer) -> Outcome:
        judged = judge(self.choices, scorer)
        items = [(c.group, c.part or c.group, found) for c, found in zip(self.choices, judged, strict=True)]
        return scorer.outcome(figures_of(items, is_pooled=self.is_pooled))

"""The tasks of BabyLM's evaluation that are choices between sentences or continuations, and those of word forms."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Self

from pipeline.errors import UserError
from pipeline.evaluate.benchmarks.base import Figure, Judged, Scorer, read_json_lines, share_of, text_in
from pipeline.evaluate.benchmarks.choices import Choice, judge
from pipeline.evaluate.statistics import correlation_interval, rank_correlation

# an object of a file, the file, and the place in it → the choice, with its group and part
Decode = Callable[[dict[str, object], Path, str], Choice]
ENTITY_GROUPS = ("regular", "ambiref", "move_contents")


class Task(ABC):
    """A task, read from its folder."""

    @property
    @abstractmethod
    def num_texts(self) -> int:
        """The number of texts that a model scores."""

    @abstractmethod
    def figures(self, scorer: Scorer) -> list[Figure]: ...


class ChoiceTask(Task):
    """Choices in groups and parts; the figure is the mean over groups of the mean over the parts of each."""

    def __init__(self, name: str, choices: list[Choice]) -> None:
        self.name, self.choices = name, choices

    @classmethod
    def reader(cls, decode: Decode) -> Callable[[Path, str], ChoiceTask]:
        """Return a function that reads a task from its folder, with ``decode`` for each line."""

        def read(folder: Path, name: str) -> ChoiceTask:
            return cls(name, [decode(*line) for line in lines_of(folder)])

        return read

    @property
    def num_texts(self) -> int:
        return sum(len(choice.options) for choice in self.choices)

    def figures(self, scorer: Scorer) -> list[Figure]:
        parts: dict[tuple[str, str], list[Judged]] = {}
        for choice, judged in zip(self.choices, judge(self.choices, scorer), strict=True):
            parts.setdefault((choice.group, choice.part), []).append(judged)
        groups = [group for group, _ in parts]
        weights = [1 / len(set(groups)) / groups.count(group) for group in groups]
        whole = share_of(self.name, 1, list(parts.values()), weights)
        return [whole, *(share_of(f"{self.name}: {part}", 2, [found]) for (_, part), found in parts.items())]


def lines_of(folder: Path) -> list[tuple[dict[str, object], Path, str]]:
    """Return the objects in the files of a task, each with its file and its place there."""
    paths = sorted(folder.glob("*.jsonl"))
    if not paths:
        raise UserError(f"babylm={folder}: there is no file *.jsonl in this folder", argument="benchmark")
    return [(v, path, f"{path} line {i}") for path in paths for i, v in enumerate(read_json_lines(path), start=1)]


def sentences(values: dict[str, object], path: Path, where: str) -> Choice:
    """BLiMP and its supplement: whole sentences."""
    good, bad = (text_in(values, f"sentence_{which}", where) for which in ("good", "bad"))
    part = text_in(values, "UID", where) if "UID" in values else path.stem
    return Choice.of_sentences(good, bad, "", part)


def ewok(values: dict[str, object], path: Path, where: str) -> Choice:
    """EWoK: what follows from a context against what does not."""
    context, right, wrong = (text_in(values, name, where) for name in ("Context1", "Target1", "Target2"))
    return Choice(((context, right), (context, wrong)), "", text_in(values, "Domain", where))


def entities(values: dict[str, object], path: Path, where: str) -> Choice:
    """Entity tracking: what is in a box after some moves; the first option is right."""
    prefix, options = text_in(values, "input_prefix", where), values.get("options")
    if not isinstance(options, list) or len(options) < 2 or not all(isinstance(o, str) and o.strip() for o in options):
        raise UserError(f"{where} has no field 'options' with two or more texts")
    if not prefix[-1:].isspace() and not all(option[:1].isspace() for option in options):
        raise UserError(f"{where} has no white space between its prefix and its options")
    part = f"{path.stem}_{values.get('numops')}_ops"
    group = next((group for group in ENTITY_GROUPS if part.startswith(group)), part)
    return Choice(tuple((prefix.strip(), option.strip()) for option in options), group, part)


def comps(values: dict[str, object], path: Path, where: str) -> Choice:
    """A property of the one thing that has it against one that has not."""
    right, wrong = (text_in(values, f"prefix_{which}", where) for which in ("acceptable", "unacceptable"))
    phrase = text_in(values, "property_phrase", where)
    return Choice(((right, phrase), (wrong, phrase)), "", path.stem)


class FormsTask(Task):
    """Two forms of a made-up word, and the share of people who chose the first; the figure is Spearman's ρ."""

    def __init__(self, name: str, pairs: list[tuple[str, str]], shares: list[float]) -> None:
        self.name, self.pairs, self.shares = name, pairs, shares

    @classmethod
    def read(cls, folder: Path, name: str) -> Self:
        pairs, shares = [], []
        for values, _, where in lines_of(folder):
            first, _, second = text_in(values, "sentences", where).partition("\t")
            if not first.strip() or not second.strip():
                raise UserError(f"{where} has no two sentences with a tab between them")
            ratio = values.get("ratio")
            try:
                shares.append(float(ratio))  # type: ignore[arg-type]
            except (TypeError, ValueError):
                raise UserError(f"{where} has no number in its field 'ratio'") from None
            pairs.append((first, second))
        return cls(name, pairs, shares)

    @property
    def num_texts(self) -> int:
        return 2 * len(self.pairs)

    def figures(self, scorer: Scorer) -> list[Figure]:
        nats = scorer.sentences([text for pair in self.pairs for text in pair])
        # the probability of the first form relative to both
        shares = [
            1 / (1 + math.exp(min(first - second, 700.0))) for first, second in zip(nats[::2], nats[1::2], strict=True)
        ]
        found = rank_correlation(shares, self.shares)
        interval = correlation_interval(found, len(shares), is_of_ranks=True)
        return [Figure(self.name, 1, found, *interval, len(shares), unit="r")]

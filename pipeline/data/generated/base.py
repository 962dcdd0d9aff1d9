"""A task: examples of text drawn by rule, and which characters of each follow from what came at what distance before.

Every example is one line of characters. The draws use nothing but ``random.Random.random``, whose numbers are the same
in every version of Python, so a name and a seed determine the text.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields
from functools import lru_cache
from random import Random
from typing import Any, ClassVar, NamedTuple
from urllib.parse import parse_qsl

from pipeline.errors import UserError

# of the files that a corpus consists of
EXAMPLES_OF_A_BLOCK = 10_000
MOST_EXAMPLES, MOST_LENGTH = 10_000_000, 100_000


class Answer(NamedTuple):
    """A character that follows from the text before it."""

    place: int  # in the text; its length: the end of the line
    distance: int  # see ``Task.distance``


class Example(NamedTuple):
    """A line of text and its answers."""

    text: str
    answers: tuple[Answer, ...]


class Draws:
    """Uniform whole numbers drawn with a seed."""

    def __init__(self, *seed: object) -> None:
        self.random = Random(" ".join(map(str, seed))).random

    def below(self, number: int) -> int:
        """From 0 to ``number`` − 1."""
        return int(self.random() * number)

    def between(self, least: int, most: int) -> int:
        """From ``least`` to ``most``, both included."""
        return least + self.below(most - least + 1)

    def choice(self, items: str) -> str:
        return items[self.below(len(items))]

    def sample(self, items: str, number: int) -> str:
        """``number`` different items, in random order."""
        rest, chosen = list(items), []
        for _ in range(number):
            chosen.append(rest.pop(self.below(len(rest))))
        return "".join(chosen)


def difficulty(default: int, doc: str, *, least: int, most: int = MOST_LENGTH) -> Any:
    """A parameter of a task: ``doc`` in a phrase, with its range."""
    return field(default=default, metadata={"doc": doc, "least": least, "most": most})


@dataclass(frozen=True)
class Task(ABC):
    """A kind of text; its fields are its difficulty."""

    name: ClassVar[str]
    source: ClassVar[str]
    rule: ClassVar[str]  # a sentence, with an example
    distance: ClassVar[str] = "characters back to what the answer follows from"
    among: ClassVar[str] = ""  # the characters that an answer is chosen from; empty: all

    examples: int = difficulty(10_000, "lines of the corpus", least=1, most=MOST_EXAMPLES)
    seed: int = difficulty(1, "seed of the draws", least=0, most=2**32 - 1)

    @property
    @abstractmethod
    def chance(self) -> float:
        """The accuracy of the best guess made without the text that an answer follows from."""

    @abstractmethod
    def example(self, draws: Draws) -> Example:
        """One line, as the fields say."""

    def check(self) -> None:  # noqa: B027
        """Raise ``UserError`` for fields that do not go together; most do."""

    @property
    def num_blocks(self) -> int:
        """Number of files that the corpus consists of."""
        return -(-self.examples // EXAMPLES_OF_A_BLOCK)

    def block(self, number: int) -> bytes:
        """The text of one of the files, one example a line."""
        return _block(self, number)

    def fresh(self, number: int, *, seed: int) -> list[Example]:
        """``number`` examples, drawn separately from those of the corpus."""
        draws = Draws(self.name, "fresh", seed)
        return [self.example(draws) for _ in range(number)]

    @classmethod
    def of(cls, query: str, pattern: str) -> Task:
        """The task with the difficulty that ``query`` (``delay=50&seed=2``) gives. Raises ``UserError``."""
        known = {each.name: each.metadata for each in fields(cls)}
        values: dict[str, int] = {}
        for name, value in parse_qsl(query, keep_blank_values=True):
            if name not in known:
                raise UserError(f"{pattern}: {cls.name} has no {name} (it has {', '.join(known)})")
            if name in values:
                raise UserError(f"{pattern}: {name} is given twice")
            least, most = known[name]["least"], known[name]["most"]
            number = int(value) if value.isascii() and value.isdigit() and len(value) < 20 else -1
            if not least <= number <= most:
                raise UserError(
                    f"{pattern}: {name} must be a whole number from {least:,} to {most:,}, not {value!r:.40}"
                )
            values[name] = number
        found = cls(**values)
        try:
            found.check()
        except UserError as error:
            raise UserError(f"{pattern}: {error}") from None
        return found


@lru_cache(maxsize=4)
def _block(task: Task, number: int) -> bytes:
    draws = Draws(task.name, task.seed, number)
    size = min(EXAMPLES_OF_A_BLOCK, task.examples - number * EXAMPLES_OF_A_BLOCK)
    return "".join(task.example(draws).text + "\n" for _ in range(size)).encode()

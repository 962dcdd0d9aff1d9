"""The tasks, each with its source. All are posed as text: one example a line, one token a character."""

from __future__ import annotations

from dataclasses import dataclass
from string import ascii_lowercase, ascii_uppercase, digits

from pipeline.data.generated.base import Answer, Draws, Example, Task, difficulty
from pipeline.errors import UserError

PREFIX = "builtin:"
LETTERS_OF_COUNTING = "abcdefgh"
OPENINGS, CLOSINGS = "([", ")]"


@dataclass(frozen=True)
class Copy(Task):
    """Some symbols, a pause of random length, and the symbols again."""

    name = "copy"
    source = "Hochreiter & Schmidhuber 1997; Arjovsky et al. 2016"
    rule = "symbols, a pause, and the same symbols again: cabd.......:cabd"

    symbols: int = difficulty(8, "different symbols", least=2, most=26)
    length: int = difficulty(5, "symbols to copy", least=1)
    delay: int = difficulty(20, "longest pause", least=1)

    @property
    def chance(self) -> float:
        return 1 / self.symbols

    def example(self, draws: Draws) -> Example:
        symbols = "".join(draws.choice(ascii_lowercase[: self.symbols]) for _ in range(self.length))
        pause = draws.between(1, self.delay)
        distance = self.length + pause + 1
        answers = tuple(Answer(distance + index, distance) for index in range(self.length))
        return Example(f"{symbols}{'.' * pause}:{symbols}", answers)


@dataclass(frozen=True)
class Adding(Task):
    """Digits, two of which are marked, and the sum of these as one letter, A for 0 to S for 18."""

    name = "adding"
    source = "Hochreiter & Schmidhuber 1997, with digits in place of real numbers"
    rule = "digits, two of them marked, and the sum of these as a letter, A for 0: 41+73+05=H"
    distance = "characters back to the first marked digit"

    length: int = difficulty(10, "most digits", least=2)

    @property
    def chance(self) -> float:
        return 0.1  # 9, the likeliest sum of two digits

    def example(self, draws: Draws) -> Example:
        number = draws.between(2, self.length)
        first = draws.below(number)
        second = (first + 1 + draws.below(number - 1)) % number
        values = [draws.below(10) for _ in range(number)]
        parts = [f"+{value}" if index in (first, second) else str(value) for index, value in enumerate(values)]
        text = "".join(parts)
        answer = ascii_uppercase[values[first] + values[second]]
        place = len(text) + 1
        return Example(f"{text}={answer}", (Answer(place, place - text.index("+") - 1),))


@dataclass(frozen=True)
class Dyck2(Task):
    """Balanced brackets of two kinds; which kind closes follows from what is open."""

    name = "dyck-2"
    source = "Suzgun et al. 2019"
    rule = "balanced brackets of two kinds; each closing one must be of its opening one's kind: ([])[()]"
    distance = "characters back to the opening bracket"
    among = CLOSINGS

    length: int = difficulty(40, "most brackets of a line", least=2)
    depth: int = difficulty(10, "most brackets that are open", least=1)

    @property
    def chance(self) -> float:
        return 0.5

    def example(self, draws: Draws) -> Example:
        size = 2 * draws.between(1, self.length // 2)
        text, answers, opened = "", [], list[int]()
        for place in range(size):
            must_open, must_close = not opened, len(opened) in (size - place, self.depth)
            if must_open or (not must_close and draws.below(2)):
                opened.append(place)
                text += draws.choice(OPENINGS)
            else:
                opening = opened.pop()
                text += CLOSINGS[OPENINGS.index(text[opening])]
                answers.append(Answer(place, place - opening))
        return Example(text, tuple(answers))


@dataclass(frozen=True)
class Counting(Task):
    """aⁿbⁿ, or with more letters: how many of each come is known once the first letter has stopped."""

    name = "counting"
    source = "Gers & Schmidhuber 2001; Weiss et al. 2018"
    rule = (
        "n letters a, n letters b (and c …): aaaabbbb. The last of each but the first, and what follows it, are known"
    )
    distance = "n"

    most: int = difficulty(20, "largest n", least=2)
    letters: int = difficulty(2, "different letters", least=2, most=len(LETTERS_OF_COUNTING))

    @property
    def chance(self) -> float:
        return 0.5  # always repeating the letter is right at every other answer

    def example(self, draws: Draws) -> Example:
        number = draws.between(2, self.most)
        text = "".join(letter * number for letter in LETTERS_OF_COUNTING[: self.letters])
        ends = range(2 * number, len(text) + 1, number)
        return Example(text, tuple(Answer(place, number) for end in ends for place in (end - 1, end)))


@dataclass(frozen=True)
class AssociativeRecall(Task):
    """Keys with a value each, then keys again, whose values are asked for."""

    name = "associative-recall"
    source = "Ba et al. 2016; Arora et al. 2023"
    rule = "letters with a digit each, then letters again with the digit that each had: c9k8j3?k8"
    distance = "characters back to where the value stood last"

    pairs: int = difficulty(8, "most letters of a line", least=1, most=26)
    queries: int = difficulty(1, "letters that are asked for", least=1)

    @property
    def chance(self) -> float:
        return 0.1

    def example(self, draws: Draws) -> Example:
        number = draws.between(min(2, self.pairs), self.pairs)
        keys = draws.sample(ascii_lowercase, number)
        values = [draws.choice(digits) for _ in keys]
        text, answers = "".join(map("".join, zip(keys, values, strict=True))), []
        for _ in range(self.queries):
            index = draws.below(number)
            last = text.rindex(pair := keys[index] + values[index]) + 1  # an earlier answer, if it was asked for before
            text += f"?{pair}"
            answers.append(Answer(len(text) - 1, len(text) - 1 - last))
        return Example(text, tuple(answers))


TASKS: dict[str, type[Task]] = {task.name: task for task in (Copy, Adding, Dyck2, Counting, AssociativeRecall)}


def is_generated(name: str) -> bool:
    """Whether ``name`` names a task, with or without its difficulty, or a part of its text."""
    return name.startswith(PREFIX) and name.removeprefix(PREFIX).partition("?")[0].partition("/")[0] in TASKS


def task_of(pattern: str) -> Task:
    """The task that ``pattern`` names: ``builtin:copy``, ``builtin:copy?delay=50&seed=2``.

    Raises:
        UserError: it names no task, or a difficulty that the task does not have.
    """
    name, _, query = pattern.removeprefix(PREFIX).partition("?")
    if not pattern.startswith(PREFIX) or name not in TASKS:
        raise UserError(f"{pattern} is not a task; there are {', '.join(PREFIX + name for name in TASKS)}")
    return TASKS[name].of(query, pattern)

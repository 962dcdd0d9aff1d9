"""How often a model is right when the preceding text determines what comes next, by distance.

Fresh examples of a task (``pipeline.data.generated``) are read side by side, each from a zero state after the end of a
line: what ends one in the text that the model was trained on, a line end or an ``<eos>``. An answer is right if it is
the likeliest of all types, or of those that the task chooses among. Letters: T time, B examples side by side, H hidden,
V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from pipeline.data.generated import Example, Task
from pipeline.data.tokenizer import Ids, Tokenizer
from pipeline.data.windows import IGNORED, Window, resets_of_texts
from pipeline.errors import UserError
from pipeline.model.evaluating import evaluating
from pipeline.model.language_model import LanguageModel
from pipeline.scoring import NOT_FINITE, read

ROWS_AT_ONCE, STEPS_AT_ONCE = 64, 256
Document = Literal["file", "line", "paragraph"]


@dataclass(frozen=True)
class Probed:
    """The answers of all examples: how far back each reaches, and whether the model gave it."""

    distances: Ids  # (answers,)
    is_right: Ids  # (answers,) bool

    @property
    def accuracy(self) -> float:
        return float(self.is_right.mean())

    def by_distance(self, *, bins: int | None = None) -> list[tuple[int, int, int, float]]:
        """Return (first distance, last distance, answers, accuracy), near to far.

        Args:
            bins: merge neighbouring distances into this many groups of about equal numbers of answers; None: do not.
        """
        values, counts = np.unique(self.distances, return_counts=True)
        groups = [[int(value)] for value in values]
        if bins is not None and len(values) > bins:
            share = np.minimum((np.cumsum(counts) - counts / 2) * bins // counts.sum(), bins - 1)
            groups = [values[share == number].tolist() for number in range(bins)]
        found = []
        for group in filter(None, groups):
            own = np.isin(self.distances, group)
            found.append((group[0], group[-1], int(own.sum()), float(self.is_right[own].mean())))
        return found


def probe(
    model: LanguageModel, tokenizer: Tokenizer, task: Task, examples: Sequence[Example], *, document: Document = "file"
) -> Probed:
    """Ask ``model`` for the answers of ``examples``.

    Args:
        document: what a document was in training; if a line was one, ``<eos>`` is read in place of line ends.

    Raises:
        UserError: the tokenizer does not have one token per character, or does not know some of them; or nothing ended
            the lines that the model was trained on; or the model's outputs are not finite.
    """
    end = _end(tokenizer, document)
    among = [int(one) for one in _ids(tokenizer, task.among)] if task.among else None
    order = sorted(range(len(examples)), key=lambda index: len(examples[index].text))
    distances, is_right = [], []
    for start in range(0, len(order), ROWS_AT_ONCE):
        batch = [examples[index] for index in order[start : start + ROWS_AT_ONCE]]
        rows = [np.append(_ids(tokenizer, example.text), end) for example in batch]
        chosen = _chosen(model, rows, [[a.place for a in example.answers] for example in batch], end, among)
        for example, row, found in zip(batch, rows, chosen, strict=True):
            distances += [answer.distance for answer in example.answers]
            is_right += [found[answer.place] == int(row[answer.place]) for answer in example.answers]
    return Probed(np.array(distances), np.array(is_right))


def check(tokenizer: Tokenizer, task: Task, examples: Sequence[Example], *, document: Document = "file") -> None:
    """Raise ``UserError`` as ``probe`` does, before anything is read: to ask it of several models first."""
    _end(tokenizer, document)
    for text in (task.among or "", *(example.text for example in examples)):
        if text:
            _ids(tokenizer, text)


def _end(tokenizer: Tokenizer, document: Document) -> int:
    """Return the token at the end of an example, and so before the next. Raises ``UserError`` if there is none."""
    are_records = tokenizer.eos == "document" and tokenizer.unknown_in("\n")  # of JSON Lines: documents in any case
    if document != "line" and not are_records:
        return int(_ids(tokenizer, "\n")[0])
    if tokenizer.eos_id is None:
        raise UserError(
            "the model was trained on lines with nothing between them (corpus.document=line without tokenizer.eos), so "
            "it cannot tell where one ends",
            argument="probe",
        )
    return tokenizer.eos_id


def _ids(tokenizer: Tokenizer, text: str) -> Ids:
    """Return one id for each character. Raises ``UserError`` if that is not possible."""
    unknown = tokenizer.unknown_in(text)
    if unknown and tokenizer.kind != "word":
        raise UserError(f"the model was not trained on this task: it does not know {min(unknown)!r}", argument="probe")
    ids = tokenizer.encode(text)
    if len(ids) != len(text):
        raise UserError(
            f"the model reads {tokenizer.unit} tokens, but a task has an answer for each character; train on it with "
            "tokenizer.kind=char",
            argument="probe",
        )
    return ids


def _chosen(
    model: LanguageModel, rows: Sequence[Ids], places: Sequence[Sequence[int]], end: int, among: list[int] | None
) -> list[dict[int, int]]:
    """Return the likeliest id at each of the given ``places`` of each row, by place."""
    found: list[dict[int, int]] = [{} for _ in rows]
    state = None
    resets: dict[str, Any] = {"resets_first": model.reset_after == end, "every": model.reset_every}
    with evaluating(model):
        for window in _windows(rows, end, resets):
            hidden, _, state = read(model, window, state)
            begin, stop = window.position, window.next_position
            asked = [(place, row) for row, own in enumerate(places) for place in own if begin <= place < stop]
            if not asked:
                continue
            time, row = (torch.tensor(column) for column in zip(*asked, strict=True))
            logits = model.head.logits(hidden[time - begin, row])  # (answers, V)
            if bool(logits.isnan().any()):
                raise UserError(NOT_FINITE)
            if among is None:
                best = logits.argmax(-1).tolist()
            else:
                best = [among[index] for index in logits[:, among].argmax(-1).tolist()]
            for (place, index), value in zip(asked, best, strict=True):
                found[index][place] = value
    return found


def _windows(rows: Sequence[Ids], end: int, resets: Mapping[str, Any]) -> Iterator[Window]:
    """Yield (T, B) windows over ``rows``, each read after ``end``; what is beyond a row's end does not matter.

    ``resets``: where the state is zero again, as for ``resets_of_texts``.
    """
    longest = max(map(len, rows))
    inputs = np.full((longest, len(rows)), end, dtype=np.int64)
    targets = np.full((longest, len(rows)), IGNORED, dtype=np.int64)
    for column, row in enumerate(rows):
        inputs[1 : len(row), column], targets[: len(row), column] = row[:-1], row
    for begin in range(0, longest, STEPS_AT_ONCE):
        stop = min(begin + STEPS_AT_ONCE, longest)
        own = resets_of_texts(inputs[begin:stop].shape, position=begin - 1, **resets)
        yield Window(inputs[begin:stop], targets[begin:stop], begin, stop, begins=begin == 0, resets=own)

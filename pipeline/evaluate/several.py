"""The words of one text under several models, one row per word: the figure of each model, and the mean."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import pyarrow as pa

from pipeline.errors import UserError
from pipeline.evaluate.words import Row

# the fields of a row that are a model's figures; all those in ``values`` are
FIGURES = ("nats", "entropy_nats", "rank")


def fields_of_runs(fields: Iterable[pa.Field], names: Sequence[str]) -> list[pa.Field]:
    """Return each of ``fields`` for the mean, followed by one for each of the models ``names``."""
    found = []
    for field in fields:
        found.append(pa.field(field.name, pa.float64()))
        found += [pa.field(f"{field.name}_{name}", field.type) for name in names]
    return found


def joined_rows(names: Sequence[str], streams: Sequence[Iterable[Row]], *, tokens: bool) -> Iterator[Row]:
    """Join the rows of several models on one text: a figure is the mean, or null if one of the models has none.

    An ``<eos>`` that only some of the models have is a row in which the others have no figures.

    Args:
        tokens: the models have the same tokenizer, so rows of tokens are joined as well; else they are left out.

    Raises:
        UserError: the models have different words.
    """
    iterators = [(row for row in rows if tokens or row.level == "word") for rows in streams]
    heads = [next(rows, None) for rows in iterators]
    while any(row is not None for row in heads):
        ends = [row is not None and row.is_end and row.level == "word" for row in heads]
        taken = ends if any(ends) else [True] * len(heads)
        rows = [row if is_taken else None for row, is_taken in zip(heads, taken, strict=True)]
        _check_same(names, heads, rows, is_end=any(ends))
        yield _joined(names, rows)
        heads = [next(it, None) if is_taken else row for it, row, is_taken in zip(iterators, heads, taken, strict=True)]


def _check_same(names: Sequence[str], heads: Sequence[Row | None], rows: Sequence[Row | None], *, is_end: bool) -> None:
    """Raise ``UserError`` unless ``rows`` are of the same word of the text."""
    found = [row for row in rows if row is not None]
    if len({row.document for row in found}) == 1 and (is_end or len({_word(row) for row in rows}) == 1):
        return
    number = next(i for i, row in enumerate(heads) if _place(row) != _place(heads[0]))
    told = [f"{names[i]} has {_told(heads[i])}" for i in (0, number)]
    raise UserError(f"{told[0]} where {told[1]}; the words of several runs must be the same", argument="runs")


def _place(row: Row | None) -> tuple[int, str | None] | None:
    return None if row is None else (row.document, _word(row))


def _word(row: Row | None) -> str | None:
    if row is None:
        return None
    return row.word if row.level == "word" else row.data.decode(errors="replace")


def _told(row: Row | None) -> str:
    if row is None:
        return "no more words"
    return f"{row.word or row.to_json()['text']!r} as word {row.position + 1:,} of document {row.document + 1:,}"


def _joined(names: Sequence[str], rows: Sequence[Row | None]) -> Row:
    figures = [None if row is None else {name: row.to_json()[name] for name in (*FIGURES, *row.values)} for row in rows]
    first = next(row for row in rows if row is not None)
    found: dict[str, float | int | None] = {}
    for name in (*FIGURES, *first.values):
        each = [None if one is None else one.get(name) for one in figures]
        found |= {f"{name}_{run}": value for run, value in zip(names, each, strict=True)}  # type: ignore[misc]
        numbers = [value for value in each if isinstance(value, (int, float))]
        found[name] = sum(numbers) / len(each) if len(numbers) == len(each) else None
    mean = found["nats"]
    # a word that any of the models does not know is unknown in the joined row, whichever model comes first
    own = next((row.own for row in rows if row is not None and row.own is not None), None)
    return replace(first, nats=math.nan if mean is None else mean, own=own, values=found)

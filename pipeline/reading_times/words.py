"""The words of tables of surprisal and of reading times, matched: checked to be the same words of the same text.

A table of surprisal is one that ``jobs.evaluate --surprisal`` wrote: rows of ``level`` word, in documents. A table of
times has one row per word of an item, or one per reading of a word by a subject. Items are documents: they are matched
by the column ``item`` if the table of surprisal has it, else the first item is the first document, and so on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.data.tokenizer import EOS
from pipeline.errors import UserError
from pipeline.tables import Numbers, Table

Place = tuple[str, int]  # of a word: its item, and its number in it, from 0
# columns of surprisal under n-grams, and of the length of the longest n-gram: 0 for a word that they do not know
NGRAM_NATS, NGRAM_ORDER = "ngram_nats", "ngram_order"
# what published sets call the columns of a table of times, in lower case
KNOWN: dict[str, tuple[str, ...]] = {
    "item": ("item", "story", "text_id", "item_id", "document"),
    "position": ("position", "zone", "word_number", "word_in_item", "region"),
    "word": ("word", "text", "token"),
    "time": ("time", "rt", "reading_time", "meanitemrt", "mean_rt", "duration"),
    "subject": ("subject", "workerid", "participant", "subject_id", "subj"),
}


@dataclass(frozen=True)
class Surprisals:
    """The words of a table of surprisal by their place, and the numbers that it has for each."""

    table: Table  # of words only
    place_of: dict[Place, int]  # → row
    num_words: dict[str, int]  # item → number of words
    texts: list[str]
    is_unknown: dict[str, list[bool]]  # by column: the model knows only <unk>, so the figure is not that of the word
    nats: dict[str, Numbers]  # by column


@dataclass(frozen=True)
class Times:
    """Reading times, each with the place of its word."""

    table: Table
    places: list[Place]
    values: Numbers  # (N,)
    words: list[str]
    subjects: list[str] | None = None
    num_readings: Numbers = field(default_factory=lambda: np.zeros(0))  # over which each value is the mean


def read_surprisals(table: Table, columns: Sequence[str], *, items: Sequence[str]) -> Surprisals:
    """Return the words of ``table`` with their ``columns`` of nats.

    Args:
        items: those of the times, in the order of the documents if the table has no column ``item``.

    Raises:
        UserError: it is not a table of words, or has other items; the message names the row.
    """
    for name in ("text", "document", "position", *columns):
        if name not in table.columns:
            raise UserError(f"{table.path}: has no column {name!r}, which tables of surprisal by jobs.evaluate have")
    if "level" in table.columns:
        table = table.kept(level == "word" for level in table.columns["level"])
    table = table.kept(text != EOS for text in table.columns["text"])
    if not len(table):
        raise UserError(f"{table.path}: has no rows of words")
    unknown = table.values("unknown") if "unknown" in table.columns else [""] * len(table)
    texts = [own or text for own, text in zip(unknown, table.values("text"), strict=True)]
    item_of = _items_of(table, items)
    # the words of an item in order: their numbers can have gaps, since rows of <eos> were dropped
    places = sorted(zip(item_of, table.whole_numbers("position"), range(len(table)), strict=True), key=lambda p: p[1])
    place_of: dict[Place, int] = {}
    num_words: dict[str, int] = {}
    last: dict[str, int] = {}
    for item, position, row in places:
        if last.get(item) == position:
            raise UserError(f"{table.where(row)}: word {position} of item {item} occurs twice")
        last[item] = position
        place_of[item, num_words.get(item, 0)] = row
        num_words[item] = num_words.get(item, 0) + 1
    is_unknown = {name: _unknown_to(name, table, [bool(own) for own in unknown]) for name in columns}
    nats = {name: table.floats(name, may_miss=is_unknown[name]) for name in columns}
    return Surprisals(table, place_of, num_words, texts, is_unknown, nats)


def _unknown_to(column: str, table: Table, unknown: list[bool]) -> list[bool]:
    """Return which words the model of ``column`` does not know; n-grams do not know the same words as ``unknown``."""
    if column != NGRAM_NATS or NGRAM_ORDER not in table.columns:
        return unknown
    return [order == 0 for order in table.whole_numbers(NGRAM_ORDER)]


def _items_of(table: Table, items: Sequence[str]) -> list[str]:
    """Return the item of each row."""
    if "item" in table.columns:
        return table.texts("item")
    documents = table.whole_numbers("document")
    order = {document: number for number, document in enumerate(sorted(set(documents)))}
    if len(order) != len(items):
        raise UserError(
            f"{table.path}: has {len(order):,} documents, but there are times of {len(items):,} items; without a "
            "column item the first line of the text must be the first item, and so on"
        )
    return [items[order[document]] for document in documents]


def read_times(table: Table, names: Mapping[str, str | None], *, wants_subjects: bool) -> Times:
    """Return the times of ``table``; for several readings of a word their mean, unless ``wants_subjects``.

    Args:
        names: the columns by the keys of ``KNOWN``, if the table calls them something else.

    Raises:
        UserError: a column is missing, a cell is empty, or a word of an item occurs twice; the message names the row.
    """
    items, words = (table.texts(_named(table, names, what)) for what in ("item", "word"))
    values = table.floats(_named(table, names, "time"))
    subject = _named(table, names, "subject") if wants_subjects else _optional(table, names, "subject")
    subjects = None if subject is None else table.texts(subject)
    places = _places(table, names, items, subjects)
    seen: dict[tuple[Any, ...], int] = {}
    for row, place in enumerate(places):
        who = None if subjects is None else subjects[row]
        if (first := seen.setdefault((who, place), row)) != row:
            by = "" if who is None else f" by {subject} {who}"
            raise UserError(
                f"{table.where(row)}: word {words[row]!r} of item {items[row]} is at the place of {words[first]!r} in "
                f"row {table.numbers[first]}{by}: each occurs once"
            )
    times = Times(table, places, values, words, subjects, np.ones(len(values)))
    return times if wants_subjects or subjects is None else mean_times(times)


def _optional(table: Table, names: Mapping[str, str | None], what: str) -> str | None:
    """Return the name of a column that may be missing, unless the user named it."""
    return _named(table, names, what) if names.get(what) or table.column(*KNOWN[what]) else None


def _named(table: Table, names: Mapping[str, str | None], what: str) -> str:
    """Return the name of the column ``what``, as ``names`` or the published sets call it.

    Raises:
        UserError: there is none; the option ``what`` can name another.
    """
    wanted = names.get(what)
    if found := table.column(*KNOWN[what]) if wanted is None else wanted if wanted in table.columns else None:
        return found
    there = ", ".join([*table.columns][:12]) + (", …" if len(table.columns) > 12 else "")
    if wanted is not None:
        raise UserError(f"{table.path} has no column {wanted!r}; it has {there}", argument=what)
    known = ", ".join(KNOWN[what][:3])
    raise UserError(f"{table.path} has no column {known}; name the one that is meant (it has {there})", argument=what)


def _places(
    table: Table, names: Mapping[str, str | None], items: Sequence[str], subjects: Sequence[str] | None
) -> list[Place]:
    """Return the place of each row's word: from the column of positions, from 0 or 1, else from the rows' order."""
    position = _optional(table, names, "position")
    if position is not None:
        numbers = table.whole_numbers(position)
        first = min(1, min(numbers))
        return [(item, number - first) for item, number in zip(items, numbers, strict=True)]
    counts: dict[tuple[Any, ...], int] = {}
    places = []
    for row, item in enumerate(items):
        key = (None if subjects is None else subjects[row], item)
        places.append((item, counts.get(key, 0)))
        counts[key] = counts.get(key, 0) + 1
    return places


def mean_times(times: Times) -> Times:
    """Return the mean over the readings of each word; its row is that of the first reading."""
    rows: dict[Place, list[int]] = {}
    for row, place in enumerate(times.places):
        rows.setdefault(place, []).append(row)
    for place, found in rows.items():
        first = times.words[found[0]]
        for row in found:
            if times.words[row].casefold() != first.casefold():
                raise UserError(
                    f"{times.table.where(row)}: word {times.words[row]!r} of item {place[0]} is {first!r} in row "
                    f"{times.table.numbers[found[0]]}"
                )
    firsts = [found[0] for found in rows.values()]
    kept = set(firsts)
    return Times(
        times.table.kept(row in kept for row in range(len(times.table))),
        list(rows),
        np.array([times.values[found].mean() for found in rows.values()]),
        [times.words[row] for row in firsts],
        None,
        np.array([float(len(found)) for found in rows.values()]),
    )


def items_in_order(times: Sequence[str]) -> list[str]:
    """Return the items of a table of times: sorted if all are numbers, else in order of first occurrence."""
    items = list(dict.fromkeys(times))
    return sorted(items, key=int) if all(item.isdecimal() for item in items) else items


def check_same_words(times: Times, surprisals: Surprisals) -> None:
    """Raise ``UserError`` naming the first time whose word differs, ignoring case, from the one that was scored."""
    for row, (item, position) in enumerate(times.places):
        if item not in surprisals.num_words:
            raise UserError(f"{times.table.where(row)}: {surprisals.table.path} has no words of item {item}")
        found = surprisals.place_of.get((item, position))
        if found is None:
            raise UserError(
                f"{times.table.where(row)}: is of word {position + 1:,} of item {item}, {times.words[row]!r}, of which "
                f"{surprisals.table.path} has only {surprisals.num_words[item]:,}"
            )
        if surprisals.texts[found].casefold() != times.words[row].casefold():
            raise UserError(
                f"{times.table.where(row)}: word {position + 1:,} of item {item} is {times.words[row]!r}, but "
                f"{surprisals.texts[found]!r} in {surprisals.table.where(found)}"
            )

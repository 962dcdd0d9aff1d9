"""Regions of stimuli: stretches of whole words, each with the sum of its words' surprisal.

Borders are given in one of three ways: ``|`` between two words of a sentence, a row for each region (as in SyntaxGym's
tables), or a row for each word with the name of its region.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import pyarrow as pa

from pipeline.data.tokenizer import Tokenizer
from pipeline.errors import UserError
from pipeline.evaluate.stimuli import (
    ROW,
    SENTENCE,
    WORD,
    Labels,
    Stimuli,
    Stimulus,
    fitted,
    labels_of,
    one_line,
    refuse_repeated,
    split_words,
    text_columns,
)
from pipeline.evaluate.words import Row
from pipeline.tables import Table, read_table

REGION, CONTENT = ("region", "region_name", "region_number"), ("content",)
MARK = "|"
SCHEMA = pa.schema(
    [("document", pa.int64()), ("region", pa.string()), ("position", pa.int64()), ("text", pa.string()),
     ("nats", pa.float64()), ("words", pa.int64()), ("unknown", pa.int64())]
)  # fmt: skip


@dataclass(frozen=True)
class Region:
    """A stretch of a text; an empty one has no words, and a surprisal of 0."""

    name: str
    text: str
    row: int


@dataclass(frozen=True)
class Regions:
    """Stimuli, and the regions of each of their texts, which together make up the text."""

    stimuli: Stimuli
    regions: list[list[Region]]


def read_regions(path: str) -> Regions:
    """Read the texts and regions of a table.

    Raises:
        UserError: it defines no regions, a border lies inside a word, or for the reasons of ``read_stimuli``.
    """
    table = read_table(path, lines_are=SENTENCE[0])
    region, word = table.column(*REGION), table.column(*WORD)
    content = table.column(*CONTENT, *SENTENCE)
    if region and word:
        return _by_row(table, region, word, is_word=True)
    if region and content:
        return _by_row(table, region, content, is_word=False)
    if content and any(MARK in str(row.cells.get(content)) for row in table.rows):
        return _marked(table, content)
    raise UserError(
        f"{path} defines no regions: put {MARK} between words of a column sentence, or give a column region and one of "
        "content or word",
        argument="regions",
    )


def _marked(table: Table, column: str) -> Regions:
    columns = [name for name in table.columns if name != column]
    texts, regions = [], []
    for row in table.rows:
        whole = one_line(table, row, column)
        if found := re.search(r"(\S+)\|(\S+)", whole.replace(f"{MARK}{MARK}", f"{MARK} {MARK}")):
            raise table.error(row.number, f"has the border of a region inside a word: {found[0]}", argument="regions")
        parts = [" ".join(part.split()) for part in whole.split(MARK)]
        regions.append([Region(str(i), part, row.number) for i, part in enumerate(parts, start=1)])
        texts.append(Stimulus(joined(parts), row.number, labels_of(table, row, columns)))
        if not texts[-1].text:
            raise table.error(row.number, f"has no word in its column {column!r}")
    refuse_repeated(table, texts)
    return Regions(Stimuli(table.path, columns, texts), regions)


def _by_row(table: Table, region: str, column: str, *, is_word: bool) -> Regions:
    keys = text_columns(table)
    if not keys:
        raise UserError(f"{table.path} has no column item or condition to tell its texts apart", argument="regions")
    texts, regions = [], []
    seen: dict[tuple[str | None, ...], int] = {}
    for key, group in groupby(table.rows, lambda row: tuple(labels_of(table, row, keys).values())):
        rows = list(group)
        if key in seen:
            what = ", ".join(map(str, key))
            raise table.error(
                rows[0].number, f"continues {what} of row {seen[key]}; regions of a text must be adjacent"
            )
        seen[key] = rows[0].number
        found: list[Region] = []
        for row in rows:
            name, value = table.text(row, region), row.cells.get(column)
            text = one_line(table, row, column) if is_word or (isinstance(value, str) and value.strip()) else ""
            if is_word and found and found[-1].name == name:
                found[-1] = Region(name, joined([found[-1].text, text]), found[-1].row)
            else:
                found.append(Region(name, " ".join(text.split()), row.number))
        text = joined([part.text for part in found])
        if not text:
            raise table.error(rows[0].number, "begins a text in which no region has a word")
        regions.append(found)
        texts.append(Stimulus(text, rows[0].number, labels_of(table, rows[0], keys)))
    return Regions(Stimuli(table.path, keys, texts), regions)


def joined(parts: Iterable[str]) -> str:
    """Return the parts of a text that are not empty, joined with blanks."""
    return " ".join(filter(None, parts))


def region_rows(rows: Iterable[Row], tokenizer: Tokenizer, regions: Regions) -> Iterator[dict[str, object]]:
    """Yield a row of ``SCHEMA``, with the labels of its stimulus, for each region, from ``rows`` of tokens and words.

    Raises:
        UserError: the tokenizer divides a text into other words than white space does.
    """
    words = (row for row in fitted(rows, tokenizer, regions.stimuli) if row.level == "word")
    for document, group in groupby(words, lambda row: row.document):
        found = list(group)
        stimulus, parts = regions.stimuli.texts[document], regions.regions[document]
        counts = [len(split_words(tokenizer, part.text)) for part in parts]
        for position, (part, span) in enumerate(zip(parts, spans(found, counts), strict=True)):
            labels: Labels = stimulus.labels
            yield {
                **labels,
                ROW: part.row,
                "document": document,
                "region": part.name,
                "position": position,
                "text": part.text,
                "nats": sum(row.nats for row in span),
                "words": len(span),
                "unknown": sum(row.own is not None for row in span),
            }


def spans(rows: Sequence[Row], counts: Iterable[int]) -> Iterator[Sequence[Row]]:
    """Cut ``rows`` into consecutive parts of ``counts`` rows each."""
    start = 0
    for count in counts:
        yield rows[start : start + count]
        start += count

"""Stimuli: texts that are scored one by one, each with an item and condition, and possibly with its words given.

A file → ``Stimuli`` → tokens to be scored (``held_out_stimuli``) → rows of words (``surprisal``), which ``fitted``
combines into the words of the file and labels as their stimuli are. Each plain line is a text. Tables (CSV, TSV) and
JSON Lines have one text per row, in a column ``sentence`` or ``text``, or one word per row, in a column ``word``: rows
with the same item and condition are then one text, their words joined by blanks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

import numpy as np

from pipeline.data.tokenizer import Tokenizer, UnknownTextError
from pipeline.data.windows import ArrayTokens
from pipeline.errors import UserError
from pipeline.evaluate.held_out import HeldOut, laid_out
from pipeline.evaluate.words import Row
from pipeline.tables import Table, TableRow, read_table

SENTENCE, WORD, WORDS = ("sentence", "text"), ("word",), ("words",)
ITEM, CONDITION = ("item", "item_number"), ("condition", "condition_name")
ROW = "row"  # the column of the number of a row of the file

Labels = dict[str, str | None]


@dataclass(frozen=True)
class Word:
    """A word of the file."""

    text: str
    row: int
    labels: Labels


@dataclass(frozen=True)
class Stimulus:
    """A text; ``words`` are those of the file, if it gives them, and are joined by blanks in the text."""

    text: str
    row: int  # the first one
    labels: Labels = field(default_factory=dict)
    words: tuple[Word, ...] | None = None


@dataclass(frozen=True)
class Stimuli:
    path: str
    columns: list[str]  # of labels
    texts: list[Stimulus]


def read_stimuli(path: str) -> Stimuli:
    """Read the texts of a file.

    Raises:
        UserError: the file cannot be read, has no texts, has empty cells, or the same item and condition twice.
    """
    table = read_table(path, lines_are=SENTENCE[0])
    if column := table.column(*WORD):
        return _words(table, column)
    if column := table.column(*WORDS, *SENTENCE):
        return _sentences(table, column)
    raise UserError(f"{path} has no column word, sentence or text; it has {', '.join(table.columns)}")


def labels_of(table: Table, row: TableRow, columns: Sequence[str]) -> Labels:
    """Return the cells of ``columns`` as texts."""
    found: Labels = {}
    for column in columns:
        value = row.cells.get(column)
        found[column] = " ".join(value) if isinstance(value, list) else value
    return found


def one_line(table: Table, row: TableRow, column: str) -> str:
    """Return the text in a cell, without white space around it. Raises ``UserError`` for no text or several lines."""
    text = table.text(row, column).strip()
    if "\n" in text or "\r" in text:
        raise table.error(row.number, f"has a line end in its column {column!r}")
    return text


def _sentences(table: Table, column: str) -> Stimuli:
    columns = [name for name in table.columns if name != column]
    texts = []
    for row in table.rows:
        labels, value = labels_of(table, row, columns), row.cells.get(column)
        if isinstance(value, list):
            words = tuple(Word(text.strip(), row.number, {}) for text in value)
            if not words or not all(word.text and "\n" not in word.text for word in words):
                raise table.error(row.number, f"has an empty word, or none, in its column {column!r}")
            texts.append(Stimulus(" ".join(word.text for word in words), row.number, labels, words))
        else:
            texts.append(Stimulus(one_line(table, row, column), row.number, labels))
    refuse_repeated(table, texts)
    return Stimuli(table.path, columns, texts)


def refuse_repeated(table: Table, texts: Iterable[Stimulus]) -> None:
    """Raise ``UserError`` if two texts have the same item and condition; with only an item, the same labels."""
    item, condition = table.column(*ITEM), table.column(*CONDITION)
    first: dict[tuple[str | None, ...], int] = {}
    for stimulus in texts:
        key = tuple(stimulus.labels.values())
        if item and condition:
            key = (stimulus.labels[item], stimulus.labels[condition])
        elif not item:
            return
        if (before := first.setdefault(key, stimulus.row)) != stimulus.row:
            what = ", ".join(str(value) for value in key)
            raise table.error(stimulus.row, f"has the item and condition of row {before}: {what}")


def _words(table: Table, column: str) -> Stimuli:
    columns = [name for name in table.columns if name != column]
    texts: list[Stimulus] = []
    seen: dict[Labels | tuple[str | None, ...], int] = {}
    keys = text_columns(table)
    for key, group in groupby(table.rows, lambda row: tuple(labels_of(table, row, keys).values())):
        rows = list(group)
        if key in seen:
            what = ", ".join(str(value) for value in key)
            raise table.error(rows[0].number, f"continues {what} of row {seen[key]}; words of a text must be adjacent")
        seen[key] = rows[0].number
        words = tuple(Word(one_line(table, row, column), row.number, labels_of(table, row, columns)) for row in rows)
        labels = labels_of(table, rows[0], keys)
        texts.append(Stimulus(" ".join(word.text for word in words), rows[0].number, labels, words))
    return Stimuli(table.path, columns, texts)


def text_columns(table: Table) -> list[str]:
    """Return the columns that distinguish texts in a table of words; without any, the table is one text."""
    found = [name for name in (table.column(*ITEM), table.column(*CONDITION)) if name]
    if not found and (sentence := table.column(*SENTENCE)):
        found = [sentence]
    return found


def held_out_stimuli(tokenizer: Tokenizer, stimuli: Stimuli) -> HeldOut:
    """Return the tokens of ``stimuli``, each a document that is read after what a text begins with.

    Raises:
        UserError: a text has something that the tokenizer has no type for, or no token at all, or the model knows
            nothing in any text.
    """
    ids = []
    for stimulus in stimuli.texts:
        try:
            ids.append(tokenizer.encode_document(tokenizer.normalized(stimulus.text)))
        except UnknownTextError as error:
            raise UserError(f"{stimuli.path} row {_row_of_unknown(tokenizer, stimulus)}: {error}") from None
        if not len(ids[-1]):  # without a token it would have no row in any table
            where = f"{stimuli.path} row {stimulus.row}"
            raise UserError(f"{where}: the model's tokenizer makes nothing of {stimulus.text!r}")
    starts = np.cumsum([0, *map(len, ids[:-1])])
    tokens = ArrayTokens(np.concatenate(ids).astype(tokenizer.dtype), starts)
    num_unknown = 0
    if tokenizer.unk_id is not None:
        num_unknown = int((tokens.array == tokenizer.unk_id).sum())
        if not set(np.unique(tokens.array).tolist()) - {tokenizer.unk_id, tokenizer.eos_id}:
            raise UserError(f"the model knows no {tokenizer.unit} of {stimuli.path}")
    found = laid_out(
        tokenizer,
        tokens,
        int(tokenizer.start_ids[0]),
        num_bytes=sum(len(tokenizer.normalized(stimulus.text).encode()) for stimulus in stimuli.texts),
        num_unknown=num_unknown,
    )
    return replace(found, own_texts=lambda: _own_texts(tokenizer, stimuli))


def _own_texts(tokenizer: Tokenizer, stimuli: Stimuli) -> Iterator[str | None]:
    for stimulus in stimuli.texts:
        yield from tokenizer.texts_of_unknown(tokenizer.normalized(stimulus.text))


def _row_of_unknown(tokenizer: Tokenizer, stimulus: Stimulus) -> int:
    """Return the row of the word that cannot be encoded, or of the text if the file does not give its words."""
    for word in stimulus.words or ():
        try:
            tokenizer.encode(tokenizer.normalized(word.text))
        except UnknownTextError:
            return word.row
    return stimulus.row


def split_words(tokenizer: Tokenizer, text: str) -> list[str]:
    """Split ``text`` at white space as rows of words are: ASCII's, for word tokenizers Unicode's.

    The words are in the normal form that the model reads.
    """
    text = tokenizer.normalized(text)
    return text.split() if tokenizer.kind == "word" else [word.decode() for word in text.encode().split()]


def fitted(rows: Iterable[Row], tokenizer: Tokenizer, stimuli: Stimuli) -> Iterator[Row]:
    """Yield ``rows`` of the tokens and words of ``stimuli`` with labels; words are those of the file, if it gives them.

    Raises:
        UserError: the tokenizer divides a text into other words than white space does, so it is not clear which figure
            belongs to which word.
    """
    for document, group in groupby(rows, lambda row: row.document):
        stimulus = stimuli.texts[document]
        shared: dict[str, str | int | None] = {ROW: stimulus.row, **stimulus.labels}
        words = []
        for row in group:
            if row.level == "word":
                words.append(row)
                continue
            row.labels = shared
            yield row
        ends = words[-1:] if words and words[-1].is_end else []
        yield from _fitted_words(words[: len(words) - len(ends)], tokenizer, stimuli.path, stimulus)
        for row in ends:
            row.labels = shared
            row.position = len(stimulus.words or words[:-1])
            yield row


def _fitted_words(found: Sequence[Row], tokenizer: Tokenizer, path: str, stimulus: Stimulus) -> Iterator[Row]:
    words = stimulus.words or tuple(
        Word(text, stimulus.row, stimulus.labels) for text in split_words(tokenizer, stimulus.text)
    )
    counts = [len(split_words(tokenizer, word.text)) for word in words]
    if sum(counts) != len(found) or 0 in counts:
        as_read = [replace(word, text=tokenizer.normalized(word.text)) for word in words]
        raise UserError(f"{path} row {_mismatch(found, as_read, counts)}")
    start = 0
    for position, (word, count) in enumerate(zip(words, counts, strict=True)):
        row = put_together(found[start : start + count])
        row.position = position
        row.labels = {ROW: word.row, **stimulus.labels, **word.labels}
        yield row
        start += count


def put_together(rows: Sequence[Row]) -> Row:
    """Return one row for several words: the sum of their nats, and the entropy before the first of them."""
    first = rows[0]
    if len(rows) == 1:
        return first
    own = None
    if any(row.own is not None for row in rows):
        own = b" ".join((row.data if row.own is None else row.own).strip() for row in rows)
    return replace(
        first,
        data=b" ".join(row.data.strip() for row in rows),
        nats=sum(row.nats for row in rows),
        own=own,
        num_tokens=sum(row.num_tokens for row in rows),
    )


def _mismatch(found: Sequence[Row], words: Sequence[Word], counts: Sequence[int]) -> str:
    """Say which word is the first that the tokenizer divides otherwise: its row, and what it becomes."""
    start = 0
    for word, count in zip(words, counts, strict=True):
        part = [(row.data if row.own is None else row.own).decode(errors="replace").strip() for row in found[start:]]
        made = " ".join(part[:count])
        if not count or made.split() != word.text.split():
            return f"{word.row} has the word {word.text!r}, of which the model's tokenizer makes {made or 'no word'!r}"
        start += count
    return f"{words[-1].row} ends with {words[-1].text!r}, after which the model's tokenizer makes more words"

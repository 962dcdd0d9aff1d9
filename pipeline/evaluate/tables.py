"""Tables and JSON Lines that people write by hand: rows of named texts, each with the number by which it is told.

Every mistake is a sentence that names the file and the row. Rows are counted from 1, the names of the columns not among
them; of JSON Lines, and of plain lines, a row is a line.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.data.utf8 import is_text, parse_json, read_file
from pipeline.errors import UserError

# what parts the cells, by the ending of the file; .tok and .tab are tables of published corpora
SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".tok": "\t"}
LINES = ".jsonl"


@dataclass(frozen=True)
class TableRow:
    """A row: its number, and its cells by the names of their columns. A list is one of texts (JSON Lines only)."""

    number: int
    cells: dict[str, str | list[str] | None]


@dataclass(frozen=True)
class Table:
    path: str
    columns: list[str]
    rows: list[TableRow]

    def column(self, *names: str) -> str | None:
        """The column that has the first of ``names`` that is there, in capitals or not."""
        lowered = {column.lower(): column for column in reversed(self.columns)}
        return next((lowered[name] for name in names if name in lowered), None)

    def error(self, number: int, sentence: str, *, argument: str = "") -> UserError:
        """What is wrong with row ``number``."""
        return UserError(f"{self.path} row {number} {sentence}", argument=argument)

    def text(self, row: TableRow, column: str) -> str:
        """The text in a cell. Raises ``UserError`` where there is none."""
        value = row.cells.get(column)
        if not isinstance(value, str) or not value.strip():
            raise self.error(row.number, f"has nothing in its column {column!r}")
        return value


def is_table(path: str) -> bool:
    """Whether the ending of ``path`` is that of a table or of JSON Lines; else it holds plain lines."""
    ending = Path(path).suffix.lower()
    return ending in SEPARATORS or ending == LINES


def read_table(path: str, *, lines_are: str = "") -> Table:
    """A table, of the kind that the ending of ``path`` says.

    Args:
        lines_are: the name of the one column of a file of plain lines; without it, cells are separated by tabs.

    Raises:
        UserError: it cannot be read, has no rows, or one of its rows is not as the others.
    """
    ending = Path(path).suffix.lower()
    text = read_file(path)
    if lines_are and not is_table(path):
        columns = [lines_are]
        lines = enumerate(text.split("\n"), start=1)
        rows = [TableRow(number, {lines_are: line.strip()}) for number, line in lines if line.strip()]
    elif ending == LINES:
        rows = list(_json_rows(path, text))
        columns = list(dict.fromkeys(name for row in rows for name in row.cells))
    else:
        columns, rows = _separated(path, text, SEPARATORS.get(ending, "\t"))
    if not rows:
        raise UserError(f"{path} has no rows")
    return Table(path, columns, rows)


def _separated(path: str, text: str, separator: str) -> tuple[list[str], list[TableRow]]:
    """Cells in quotation marks may hold the separator and line ends; a mark within them is written twice (RFC 4180)."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows: list[TableRow] = []
    columns: list[str] = []
    try:
        for cells in reader:
            if not cells:
                continue
            if not columns:
                columns = _columns(path, cells)
                continue
            rows.append(TableRow(len(rows) + 1, dict(zip(columns, cells, strict=False))))
            if len(cells) != len(columns):
                raise UserError(f"{path} row {len(rows)} has {len(cells)} cells; there are {len(columns)} columns")
    except csv.Error as error:
        where = f"row {len(rows) + 1}" if columns else "its first line"
        raise UserError(f"{path}: {where} cannot be read: {error} (are its quotation marks closed?)") from None
    return columns, rows


def _columns(path: str, cells: Sequence[str]) -> list[str]:
    columns = [cell.strip() for cell in cells]
    lowered = [column.lower() for column in columns]
    for number, column in enumerate(lowered, start=1):
        if not column:
            raise UserError(f"{path}: column {number} has no name in the first line")
        if lowered.count(column) > 1:
            raise UserError(f"{path}: two columns are called {columns[number - 1]!r}")
    return columns


def _json_rows(path: str, text: str) -> Iterator[TableRow]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            values = parse_json(line, unique=True)
        except ValueError as error:
            raise UserError(f"{path} row {number} is not JSON: {error}") from None
        if not isinstance(values, dict):
            raise UserError(f"{path} row {number} is no object of JSON")
        yield TableRow(number, {name: _cell(path, number, name, value) for name, value in values.items()})


def _cell(path: str, number: int, name: str, value: object) -> str | list[str] | None:
    """A value of JSON as a text; whole numbers and others as they are written."""
    if value is None:
        return None
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        texts: list[str] = value
    elif isinstance(value, (str, int, float)):
        texts = [str(value).lower() if isinstance(value, bool) else str(value)]
    else:
        raise UserError(f"{path} row {number} has neither a text nor a number in its field {name!r}")
    for item in (name, *texts):
        if not is_text(item):
            raise UserError(f"{path} row {number} has half of a character in its field {name!r}")
    return texts if isinstance(value, list) else texts[0]

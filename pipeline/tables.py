"""Tables (CSV, TSV, Parquet), JSON Lines and plain lines → their cells, by row and by column.

Every mistake is a sentence that names the file and the row. Rows are counted from 1, without the row of column names;
in JSON Lines and plain lines, a row is a line.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np

from pipeline.data.utf8 import is_text, parse_json, read_file
from pipeline.errors import UserError
from pipeline.files import reason

Cell = str | list[str] | None  # a list is a list of texts (JSON Lines and Parquet only)
Numbers = np.ndarray[Any, np.dtype[Any]]

# what separates the cells, by the ending of the file; .tok and .tab are tables of published corpora
SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".tok": "\t"}
LINES, PARQUET = ".jsonl", ".parquet"
ENDINGS = (*SEPARATORS, LINES, PARQUET)
NO_TEXT = ("", "NA", "nan", "NaN")
NO_NUMBER = {"", "na", "nan", "none", "null"}  # in lower case


@dataclass(frozen=True)
class TableRow:
    """A row: its number, and its cells by the names of their columns."""

    number: int
    cells: dict[str, Cell]


@dataclass(frozen=True)
class Table:
    """The columns of a file by their names, each with a cell for every row, and the numbers of the rows."""

    path: str
    columns: dict[str, list[Cell]]
    numbers: Sequence[int]

    def __len__(self) -> int:
        return len(self.numbers)

    @cached_property
    def rows(self) -> list[TableRow]:
        by_row = zip(self.numbers, *self.columns.values(), strict=True)
        return [TableRow(number, dict(zip(self.columns, cells, strict=True))) for number, *cells in by_row]

    def kept(self, keep: Iterable[bool]) -> Table:
        """Return the rows for which ``keep`` is true, in their order."""
        at = [index for index, is_kept in enumerate(keep) if is_kept]
        columns = {name: [cells[index] for index in at] for name, cells in self.columns.items()}
        return Table(self.path, columns, [self.numbers[index] for index in at])

    def where(self, index: int) -> str:
        """Return ``words.tsv row 7`` for the row at ``index`` (from 0)."""
        return f"{self.path} row {self.numbers[index]}"

    def error(self, number: int, sentence: str, *, argument: str = "") -> UserError:
        """Return an error that says what is wrong with row ``number``."""
        return UserError(f"{self.path} row {number} {sentence}", argument=argument)

    def column(self, *names: str) -> str | None:
        """Return the column with the first of ``names`` that exists, in capitals or not."""
        lowered = {column.lower(): column for column in reversed(self.columns)}
        return next((lowered[name] for name in names if name in lowered), None)

    def text(self, row: TableRow, column: str) -> str:
        """Return the text in a cell. Raises ``UserError`` if there is none."""
        self._check_column(column)
        value = row.cells.get(column)
        if not isinstance(value, str) or not value.strip():
            raise self.error(row.number, f"has nothing in its column {column!r}")
        return value

    def values(self, name: str) -> list[str]:
        """Return the texts of a column, empty where a cell has none. Raises ``UserError`` for no such column."""
        self._check_column(name)
        return [cell if isinstance(cell, str) else "" for cell in self.columns[name]]

    def _check_column(self, name: str) -> None:
        if name not in self.columns:
            raise UserError(f"{self.path} has no column {name!r}; it has {', '.join(self.columns)}")

    def texts(self, name: str) -> list[str]:
        """Return the same. Raises ``UserError`` for a cell that has no text, or says so (NA)."""
        values = self.values(name)
        for number, value in zip(self.numbers, values, strict=True):
            if value in NO_TEXT:
                raise self.error(number, f"has nothing in its column {name!r}")
        return values

    def floats(self, name: str, *, may_miss: Sequence[bool] | bool = False) -> Numbers:
        """Return the finite numbers of a column, NaN where there is none in a row for which ``may_miss`` is true."""
        misses = [may_miss] * len(self) if isinstance(may_miss, bool) else may_miss
        cells = zip(self.numbers, self.values(name), misses, strict=True)
        return np.array([self._float(name, *each) for each in cells], dtype=np.float64)

    def _float(self, name: str, number: int, text: str, may_miss: bool) -> float:
        if text.strip().lower() in NO_NUMBER:
            if may_miss:
                return math.nan
            raise self.error(number, f"has nothing in its column {name!r}")
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise self.error(number, f"has {text[:80]!r} in its column {name!r}, which is not a number")
        return value

    def whole_numbers(self, name: str) -> list[int]:
        """Return the numbers of a column, which must be whole and at least 0."""
        found = self.floats(name).tolist()
        for number, value in zip(self.numbers, found, strict=True):
            if value < 0 or not value.is_integer():
                raise self.error(number, f"has {value:g} in its column {name!r}, not a whole number of at least 0")
        return [int(value) for value in found]


def read_table(path: str, *, lines_are: str = "", by_others: bool = False) -> Table:
    """Read a table of the kind that the ending of ``path`` says.

    Args:
        lines_are: the name of the one column of a file of plain lines; without it, such a file is not a table.
        by_others: a spreadsheet or R may have written it: a column may have no name, or a name that differs from
            another in capitals only, and quotation marks without a match are part of their cells.

    Raises:
        UserError: it cannot be read, has no rows, or one of its rows is not like the others.
    """
    ending = Path(path).suffix.lower()
    if ending == PARQUET:
        table = _parquet(path)
    elif ending == LINES:
        table = _json_lines(path, read_file(path))
    elif ending in SEPARATORS:
        table = _separated(path, read_file(path), SEPARATORS[ending], by_others=by_others)
    elif lines_are:
        lines = [(n, line.strip()) for n, line in enumerate(read_file(path).split("\n"), start=1) if line.strip()]
        table = Table(path, {lines_are: [line for _, line in lines]}, [number for number, _ in lines])
    else:
        raise UserError(f"{path}: must end with {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}")
    if not len(table):
        raise UserError(f"{path} has no rows")
    return table


def _separated(path: str, text: str, separator: str, *, by_others: bool) -> Table:
    """Cells in quotation marks may hold the separator and line ends; a mark within them is written twice (RFC 4180)."""
    records, problem = _records(text, separator, csv.QUOTE_MINIMAL)
    if by_others and (problem or any(len(record) != len(records[0]) for record in records)):
        records, problem = _records(text, separator, csv.QUOTE_NONE)
    if problem:
        where = f"row {len(records)}" if records else "its first line"
        raise UserError(f"{path}: {where} cannot be read: {problem} (are its quotation marks closed?)")
    if not records:
        return Table(path, {}, [])
    names, *rows = records
    names = _names(path, names, by_others=by_others)
    for number, cells in enumerate(rows, start=1):
        if len(cells) != len(names):
            raise UserError(f"{path} row {number} has {len(cells)} cells; there are {len(names)} columns")
    return Table(path, {name: [cells[at] for cells in rows] for at, name in enumerate(names)}, range(1, len(records)))


def _records(text: str, separator: str, quoting: Any) -> tuple[list[list[str]], str]:
    """Return the cells of each record that can be read, and why the next one cannot. Blank lines do not count."""
    found: list[list[str]] = []
    try:
        for cells in csv.reader(io.StringIO(text, newline=""), delimiter=separator, quoting=quoting, strict=True):
            if cells:
                found.append(cells)
    except csv.Error as error:
        return found, str(error)
    return found, ""


def _names(path: str, cells: Sequence[str], *, by_others: bool) -> list[str]:
    names = [cell.strip() for cell in cells]
    compared = names if by_others else [name.lower() for name in names]
    for number, name in enumerate(names, start=1):
        if not name and not by_others:
            raise UserError(f"{path}: column {number} has no name in the first line")
        if compared.count(compared[number - 1]) > 1:
            raise UserError(f"{path}: two columns are called {name!r}")
    return names


def _parquet(path: str) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with open(path, "rb") as file:
            whole = pq.ParquetFile(file)
            names = whole.schema_arrow.names
            if twice := next((name for name in names if names.count(name) > 1), None):
                raise UserError(f"{path}: two columns are called {twice!r}")
            found = whole.read()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {reason(error)}") from None
    except pa.ArrowException as error:
        raise UserError(f"{path}: not a Parquet file ({' '.join(str(error).split())[:200]})") from None
    columns: dict[str, list[Cell]] = {}
    for name in names:
        try:
            values = found.column(name).to_pylist()
        except UnicodeDecodeError:
            raise UserError(f"{path}: a text in its column {name!r} is not UTF-8") from None
        columns[name] = [_stored_cell(path, number, name, value) for number, value in enumerate(values, start=1)]
    return Table(path, columns, range(1, 1 + len(next(iter(columns.values()), []))))


def _stored_cell(path: str, number: int, name: str, value: Any) -> Cell:
    """Return a value of Parquet as a text; what has no text of its own (bytes, records) is refused as in JSON Lines."""
    return _cell(path, number, name, value) if isinstance(value, (list, dict, bytes, NoneType)) else str(value)


def _json_lines(path: str, text: str) -> Table:
    rows: dict[int, dict[str, Cell]] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            values = parse_json(line, unique=True)
        except ValueError as error:
            raise UserError(f"{path} row {number} is not JSON: {error}") from None
        if not isinstance(values, dict):
            raise UserError(f"{path} row {number} is not a JSON object")
        rows[number] = {name: _cell(path, number, name, value) for name, value in values.items()}
    names = dict.fromkeys(name for row in rows.values() for name in row)
    return Table(path, {name: [row.get(name) for row in rows.values()] for name in names}, list(rows))


def _cell(path: str, number: int, name: str, value: object) -> Cell:
    """Return a JSON value as a text; numbers as they are written."""
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

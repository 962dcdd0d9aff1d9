"""Tables that others made: TSV, CSV or Parquet in, columns of texts out; sentences that name file, row and value."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import UserError
from pipeline.files import reason

Numbers = np.ndarray[Any, np.dtype[Any]]

SEPARATORS = {".tsv": "\t", ".csv": ","}
MISSING = ("", "NA", "nan", "NaN")


@dataclass(frozen=True)
class Table:
    """The columns of a file by name, each a text a row, and where in the file each row stands."""

    path: str
    columns: dict[str, list[str]]
    lines: Sequence[int]  # of a file of text its lines, else its rows, both from 1

    def __len__(self) -> int:
        return len(self.lines)

    def where(self, row: int) -> str:
        """``words.tsv, line 7``."""
        return f"{self.path}, {'row' if self.path.lower().endswith('.parquet') else 'line'} {self.lines[row]:,}"

    def column(self, name: str) -> list[str]:
        """The texts of a column. Raises ``UserError`` naming an empty cell."""
        values = self.columns[name]
        for row, value in enumerate(values):
            if value in MISSING:
                raise UserError(f"{self.where(row)}: {name} is empty")
        return values

    def numbers(self, name: str) -> Numbers:
        """The numbers of a column. Raises ``UserError`` naming a cell that is empty or no finite number."""
        return np.array([self._number(name, row, value) for row, value in enumerate(self.column(name))])

    def numbers_or_nan(self, name: str, *, may_miss: Sequence[bool]) -> Numbers:
        """The same, NaN where there is none in rows that ``may_miss`` it."""
        values = self.columns[name]
        has_none = np.array([value in MISSING and may for value, may in zip(values, may_miss, strict=True)], dtype=bool)
        result = np.full(len(self), np.nan)
        result[~has_none] = self.rows(~has_none).numbers(name)
        return result

    def whole_numbers(self, name: str) -> list[int]:
        """The same, whole ones of at least 0."""
        found = self.numbers(name)
        for row, value in enumerate(found.tolist()):
            if value < 0 or not value.is_integer():
                raise UserError(f"{self.where(row)}: {name} must be a whole number of at least 0, not {value:g}")
        return [int(value) for value in found.tolist()]

    def _number(self, name: str, row: int, text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise UserError(f"{self.where(row)}: {name} must be a number, not {text[:80]!r}")
        return value

    def rows(self, keep: Iterable[bool]) -> Table:
        """The rows that ``keep`` says, in their order."""
        kept = [row for row, is_kept in enumerate(keep) if is_kept]
        columns = {name: [values[row] for row in kept] for name, values in self.columns.items()}
        return Table(self.path, columns, [self.lines[row] for row in kept])

    def named(self, wanted: str | None, known: Sequence[str], *, option: str) -> str:
        """The column called ``wanted``, else the one of the ``known`` names, whatever their case.

        Raises:
            UserError: there is none; ``option`` names another.
        """
        if wanted is not None:
            if wanted not in self.columns:
                raise UserError(f"{self.path} has no column {wanted!r}; it has {self._names()}", argument=option)
            return wanted
        for name in self.columns:
            if name.lower() in known:
                return name
        sentence = f"{self.path} has no column {', '.join(known[:3])}; name the one that is meant"
        raise UserError(f"{sentence} (it has {self._names()})", argument=option)

    def _names(self) -> str:
        names = list(self.columns)
        return ", ".join(names[:12]) + (", …" if len(names) > 12 else "")


def read_table(path: str) -> Table:
    """The table in the file at ``path``, whose ending says what it is.

    Raises:
        UserError: it cannot be read, or is no such table, naming the line.
    """
    ending = Path(path).suffix.lower()
    if ending not in (*SEPARATORS, ".parquet"):
        raise UserError(f"{path}: must end with .tsv, .csv or .parquet")
    try:
        table = _read_parquet(path) if ending == ".parquet" else _read_text(path, SEPARATORS[ending])
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {reason(error)}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start:,} is not UTF-8") from None
    if not len(table):
        raise UserError(f"{path}: has no row below its header")
    return table


def _read_parquet(path: str) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with open(path, "rb") as file:
        try:
            columns = pq.read_table(file).to_pydict()
        except pa.ArrowException as error:
            raise UserError(f"{path}: not a Parquet file ({' '.join(str(error).split())[:200]})") from None
    texts = {name: ["" if value is None else str(value) for value in values] for name, values in columns.items()}
    return Table(path, texts, range(1, 1 + len(next(iter(texts.values()), []))))


def _read_text(path: str, separator: str) -> Table:
    """A file of text, with quotes as a spreadsheet writes them, or else with none that mean anything."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        lines = file.readlines()
    try:
        records = _records(lines, separator, quoting=csv.QUOTE_MINIMAL)
        whole = all(len(record) == len(records[0][1]) for _, record in records)
    except csv.Error:
        whole = False
    if not whole:
        try:
            records = _records(lines, separator, quoting=csv.QUOTE_NONE)
        except csv.Error as error:
            raise UserError(f"{path}: {error}") from None
    if not records:
        raise UserError(f"{path}: is empty")
    (first, header), *rows = records
    if twice := [name for name in header if header.count(name) > 1]:
        raise UserError(f"{path}, line {first}: two columns are called {twice[0]!r}")
    for line, record in rows:
        if len(record) != len(header):
            raise UserError(f"{path}, line {line:,}: has {len(record)} cells where the header has {len(header)}")
    columns = {name: [record[place] for _, record in rows] for place, name in enumerate(header)}
    return Table(path, columns, [line for line, _ in rows])


def _records(lines: list[str], separator: str, *, quoting: Any) -> list[tuple[int, list[str]]]:
    """(its first line, its cells) of each record; blank lines are none."""
    reader = csv.reader(lines, delimiter=separator, quoting=quoting, strict=True)
    found, line = [], 1
    for record in reader:
        if record:
            found.append((line, record))
        line = reader.line_num + 1
    return found

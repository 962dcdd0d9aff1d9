"""A table with a row for every token and every word of a text, with its nats: Parquet, CSV or TSV.

``words`` defines what a word is, and what its nats are. Each row also has the entropy of the distribution of its token,
for a word of its first token: how uncertain the model was of what comes next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from pipeline.data.streams import NO_RESETS, ResetRule
from pipeline.data.tokenizer import Tokenizer
from pipeline.errors import UserError
from pipeline.evaluate.held_out import HeldOut
from pipeline.evaluate.reading import Reading
from pipeline.evaluate.stimuli import ROW, Stimuli
from pipeline.evaluate.type_classes import groups_of_types
from pipeline.evaluate.words import SHOWN, Row, WordBoundary
from pipeline.files import new_file
from pipeline.model.language_model import LanguageModel
from pipeline.scoring import scored_windows

SCHEMA = pa.schema(
    [("level", pa.string()), ("text", pa.string()), ("document", pa.int64()), ("position", pa.int64()),
     ("nats", pa.float64()), ("unknown", pa.string()), ("entropy_nats", pa.float64())]
)  # fmt: skip
# what opens a table for writing, by the ending of its file
WRITERS: dict[str, Callable[..., Any]] = {
    ".parquet": pq.ParquetWriter,
    ".csv": csv.CSVWriter,
    ".tsv": partial(csv.CSVWriter, write_options=csv.WriteOptions(delimiter="\t")),
}
ROWS_AT_ONCE = 1 << 14

T = TypeVar("T")


def surprisal_rows(
    model: LanguageModel,
    tokenizer: Tokenizer,
    text: HeldOut,
    *,
    reset: ResetRule = NO_RESETS,
    word_boundary: WordBoundary = "corrected",
    ranks: bool = False,
) -> Iterator[Row]:
    """Yield a row for each token of ``text``, and for each word after the last of its tokens.

    The text is one stream, read after the end of a text or line, so that the first token has nats, too. The same holds
    for each document if documents are read by themselves.

    Args:
        word_boundary: what the nats of a word are, see ``words``.
        ranks: add the rank of each token among all types.
    """
    reading = Reading(tokenizer, text, reset=reset)
    groups = groups_of_types(tokenizer, model)
    return reading.rows(scored_windows(model, reading.windows(), groups=groups, ranks=ranks), word_boundary)


def check_ending(path: str) -> None:
    """Raise ``UserError`` unless the ending of ``path`` names a kind of table."""
    if Path(path).suffix.lower() not in WRITERS:
        raise UserError(f"{path} must end with {', '.join(WRITERS)}", argument="surprisal")


def with_labels(schema: pa.Schema, stimuli: Stimuli | None) -> pa.Schema:
    """Put the row and labels of stimuli in front of ``schema``. Raises ``UserError`` for a label that is in it."""
    if stimuli is None:
        return schema
    for name in stimuli.columns:
        if name in (ROW, *schema.names):
            raise UserError(
                f"{stimuli.path} has a column {name!r}, as the table to be written does; give it another name"
            )
    return pa.schema([(ROW, pa.int64()), *((name, pa.string()) for name in stimuli.columns), *schema])


def write_rows(path: str, rows: Iterable[Row], *, schema: pa.Schema = SCHEMA) -> dict[str, int]:
    """Write ``rows`` whole or not at all, as the ending of ``path`` says; return how many there are of each level.

    Raises:
        UserError: the ending of ``path`` names no kind of table.
        UnwritableError: the file cannot be written; an existing one is kept.
    """
    counts = {"token": 0, "word": 0}

    def arrays_of(batch: list[Row]) -> list[pa.Array]:
        for level in counts:
            counts[level] += sum(row.level == level for row in batch)
        return [pa.array(column(batch, field.name), field.type) for field in schema]

    _write(path, rows, schema, lambda batch: pa.RecordBatch.from_arrays(arrays_of(batch), schema=schema))
    return counts


def column(rows: Iterable[Row], name: str) -> list[object]:
    """Return what ``Row.to_json`` has as ``name``, for each of ``rows``; None if it has nothing."""
    shown = SHOWN.get(name, lambda row: row.labels.get(name))
    return [row.values[name] if name in row.values else shown(row) for row in rows]


def write_table(path: str, rows: Iterable[dict[str, object]], schema: pa.Schema) -> None:
    """Write ``rows`` whole or not at all, as ``write_rows`` does."""
    _write(path, rows, schema, lambda batch: pa.RecordBatch.from_pylist(batch, schema=schema))


def _write(path: str, rows: Iterable[T], schema: pa.Schema, batch_of: Callable[[list[T]], pa.RecordBatch]) -> None:
    check_ending(path)
    writer_of, rows = WRITERS[Path(path).suffix.lower()], iter(rows)
    with new_file(path, argument="surprisal") as temporary, writer_of(temporary, schema=schema) as writer:
        batch = None
        while batch is None or len(batch) == ROWS_AT_ONCE:  # once even if there is no row
            batch = list(islice(rows, ROWS_AT_ONCE))
            writer.write_batch(batch_of(batch))

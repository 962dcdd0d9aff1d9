"""Tables with a text in every row, Parquet files and Hugging Face datasets: how far they reach, and their texts."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.data.corpus.digests import Digest
from pipeline.data.corpus.hub import load_dataset
from pipeline.errors import UserError

# the place of a row: the number of its unit (row group, row, shard) above these bits, the row within it below
ROW_BITS = 32
ROWS_AT_ONCE = 1024


class SteadyFile(io.RawIOBase):
    """A file for those that read where they like: each read is tried anew as ``storage.read_open`` does."""

    def __init__(self, path: str) -> None:
        self.path, self.file, self.position = path, storage.open_file(path), 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def size(self) -> int:
        return int(self.file.size())

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self.position, os.SEEK_END: self.size()}[whence]
        return self.position

    def tell(self) -> int:
        return self.position

    def read(self, num_bytes: int | None = -1) -> bytes:
        """``num_bytes``, or all up to the end. Raises ``UnreadableError``."""
        wanted = self.size() - self.position if num_bytes is None or num_bytes < 0 else num_bytes
        data = storage.read_open(self.file, self.path, self.position, wanted)
        self.position += len(data)
        return data

    def close(self) -> None:
        self.file.close()
        super().close()


def parquet_extent(path: str, field: str) -> tuple[int, int]:
    """(row groups, bytes of the text column before compression). Raises ``UserError`` without one such column."""
    with SteadyFile(path) as file:
        table = _parquet(path, file)
        _check_text(path, field, table.schema_arrow)
        metadata = table.metadata
    column = [metadata.schema.column(i).path for i in range(metadata.num_columns)].index(field)
    num_bytes = sum(
        metadata.row_group(group).column(column).total_uncompressed_size for group in range(metadata.num_row_groups)
    )
    return max(1, metadata.num_row_groups), num_bytes


def parquet_rows(
    path: str, field: str, start: int, stop: int, *, size: int, digest: Digest | None = None
) -> Iterator[tuple[int, Any]]:
    """(place, text) of the rows of row groups ``start`` to ``stop``; ``digest`` takes in all of them.

    Raises:
        UserError: a file that has changed its size.
    """
    with SteadyFile(path) as file:
        if file.size() != size:
            raise UserError(f"{path}: {file.size():,} bytes where there were {size:,} when the corpus was planned")
        if digest is not None and storage.is_uri(path):
            digest.opened(file.file)
        table = _parquet(path, file)
        _check_text(path, field, table.schema_arrow)
        for group in range(start, min(stop, table.num_row_groups)):
            row = 0
            for batch in table.iter_batches(ROWS_AT_ONCE, row_groups=[group], columns=[field]):
                texts = batch.column(field).to_pylist()
                if digest is not None:
                    digest.rows(texts)
                for text in texts:
                    yield group << ROW_BITS | row, text
                    row += 1


def _parquet(path: str, file: SteadyFile) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file)
    except storage.UnreadableError:
        raise
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a whole Parquet file: {str(error).splitlines()[0]}") from None


def dataset_extent(name: str, field: str) -> tuple[int, int]:
    """(rows, bytes of the text), or, streamed, (shards, bytes as far as the dataset says).

    Raises:
        UserError: a dataset that cannot be loaded, or without such a field.
    """
    found = load_dataset(name)
    dataset = found.dataset
    if dataset.features is not None:  # of a stream they may be unknown
        _check_text(name, field, dataset.features.arrow_schema)
    if found.is_streaming:
        return dataset.num_shards, dataset.info.dataset_size or dataset.info.download_size or 1 << 20
    return len(dataset), dataset.data.column(field).nbytes


def dataset_rows(
    name: str, field: str, start: int, stop: int, *, digest: Digest | None = None
) -> Iterator[tuple[int, Any]]:
    """(place, text) of rows (or, streamed, shards) ``start`` to ``stop``; ``digest`` takes in all of them."""
    found = load_dataset(name)
    dataset = found.dataset
    if found.is_streaming:
        for shard in range(start, stop):
            for row, record in enumerate(dataset.shard(dataset.num_shards, shard)):
                if field not in record:
                    raise _no_field(name, field, list(record))
                if digest is not None:
                    digest.rows([record[field]])
                yield shard << ROW_BITS | row, record[field]
        return
    for begin in range(start, stop, ROWS_AT_ONCE):
        texts = dataset[begin : min(begin + ROWS_AT_ONCE, stop)][field]
        if digest is not None:
            digest.rows(texts)
        for row, text in enumerate(texts, start=begin):
            yield row << ROW_BITS, text


def have_equal_texts(name: str, other: str, field: str) -> bool:
    """Whether two datasets, of which none is streamed, have the same texts in the same order."""
    one, two = (load_dataset(each) for each in (name, other))
    if one.is_streaming or two.is_streaming or len(one.dataset) != len(two.dataset):
        return False
    return bool(one.dataset.data.column(field).equals(two.dataset.data.column(field)))


def _check_text(name: str, field: str, schema: pa.Schema) -> None:
    """Raises ``UserError`` unless one column of ``schema`` is called ``field``, and holds texts."""
    found = schema.get_all_field_indices(field)
    if not found:
        raise _no_field(name, field, schema.names)
    if len(found) > 1:
        raise UserError(f"{name}: there are {len(found)} columns {field}, of which only one could be read")
    if not _is_text(schema.field(found[0]).type):
        texts = ", ".join(column.name for column in schema if _is_text(column.type))
        raise UserError(
            f"{name}: {field} is not a text but {schema.field(found[0]).type!s:.60} (corpus.text_field; "
            f"{f'texts are {texts}' if texts else 'no column is a text, and a field within one is not read'})"
        )


def _is_text(kind: pa.DataType) -> bool:
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    is_any = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    return any(holds(kind) for holds in is_any)


def _no_field(name: str, field: str, there: list[str]) -> UserError:
    return UserError(f"{name}: its records have no field {field!r} (corpus.text_field; there are {', '.join(there)})")

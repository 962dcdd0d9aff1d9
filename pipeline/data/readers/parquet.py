"""Parquet files, cut by row groups."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.data.readers.base import PLACE_BITS, TextSettings
from pipeline.data.readers.digests import Digest
from pipeline.data.readers.table import ROWS_AT_ONCE, TableReader, check_text
from pipeline.data.tokenizer import Ids
from pipeline.errors import UserError


class ParquetReader(TableReader):
    """A Parquet file with a text in one column."""

    form = "parquet"

    @classmethod
    def of_file(cls, file: storage.Found, settings: TextSettings, origin: int) -> ParquetReader:
        """Raises ``UserError`` unless exactly one column of texts has the name that is set."""
        path, size, changed = file
        reader = cls(path, cls.locate(path), settings, 1, size, size, origin, changed)
        with reader._table() as table:
            metadata = table.metadata
        column = [metadata.schema.column(i).path for i in range(metadata.num_columns)].index(settings.text_field)
        groups = [metadata.row_group(group).column(column) for group in range(metadata.num_row_groups)]
        num_bytes = sum(group.total_uncompressed_size for group in groups)
        return cls(path, cls.locate(path), settings, max(1, len(groups)), size, num_bytes, origin, changed)

    def columns(self, start: int, stop: int, digest: Digest | None) -> Iterator[tuple[Ids, pa.Array]]:
        field = self.settings.text_field
        with self._table(digest) as table:
            for group in range(start, min(stop, table.num_row_groups)):
                place = group << PLACE_BITS
                # a single column has no work for threads
                for batch in table.iter_batches(ROWS_AT_ONCE, [group], [field], use_threads=False):
                    values = batch.column(field)
                    yield np.arange(place, place + len(values)), values
                    place += len(values)

    @contextmanager
    def _table(self, digest: Digest | None = None) -> Iterator[pq.ParquetFile]:
        """The file, of the size that it had. Raises ``UserError``, also if the file turns out to be damaged later."""
        with SteadyFile(self.path) as file:
            self.check_size(file.size())
            if digest is not None and storage.is_uri(self.path):
                digest.opened(file.file)
            try:
                table = pq.ParquetFile(file, page_checksum_verification=True)
                check_text(self.name, self.settings.text_field, table.schema_arrow)
                yield table
            except UserError:
                raise
            except (OSError, ValueError, pa.ArrowException) as error:
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                raise UserError(f"{self.name}: not a whole Parquet file: {reason}") from None


class SteadyFile(io.RawIOBase):
    """A seekable file whose every read is retried as in ``storage.read_open``."""

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
        """Read ``num_bytes``, or everything up to the end. Raises ``UnreadableError``."""
        wanted = self.size() - self.position if num_bytes is None or num_bytes < 0 else num_bytes
        data = storage.read_open(self.file, self.path, self.position, wanted)
        self.position += len(data)
        return data

    def close(self) -> None:
        self.file.close()
        super().close()

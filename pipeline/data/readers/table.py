"""What the readers of tables share: a text in every row, in one column."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from itertools import compress
from typing import Any, cast

import numpy as np
import pyarrow as pa

from pipeline.data.readers.base import PLACE_BITS, Batch, Cut, Reader, Tally, UndecodableError, Wanted
from pipeline.data.readers.digests import Digest
from pipeline.data.tokenizer import Ids
from pipeline.errors import UserError

ROWS_AT_ONCE = 1024


class TableReader(Reader):
    """A table with a text in every row; each text is a document."""

    @abstractmethod
    def columns(self, start: int, stop: int, digest: Digest | None) -> Iterator[tuple[Ids, pa.Array]]:
        """The places of rows and their values; ``digest`` notes the tag of the file. Raises ``UserError``."""

    def blocks(
        self, start: int, stop: int, digest: Digest | None = None
    ) -> Iterator[tuple[Ids, pa.Array, list[bytes | None]]]:
        """The places of rows, their values, and the values as UTF-8."""
        for places, values in self.columns(start, stop, digest):
            texts = as_bytes(values)
            if digest is not None:
                digest.update_rows(texts)
            yield places, values, texts

    def read(
        self, start: int, stop: int, tally: Tally, wanted: Wanted | None, safe_cut: Cut | None, digest: Digest | None
    ) -> Iterator[Batch]:
        for places, values, found in self.blocks(start, stop, digest):
            if wanted is not None:
                mask = wanted(places)
                places, found = places[mask], list(compress(found, mask))
            if values.null_count and None in found:
                self._refuse(int(places[found.index(None)]), None)
            texts = cast(list[bytes], found)
            yield Batch(places, texts) if is_utf8(values) else self._decoded(places, texts, tally)

    def _decoded(self, places: Ids, texts: Sequence[bytes], tally: Tally) -> Batch:
        """The documents of rows of which some are not UTF-8."""
        kept, found = [], []
        for place, text in zip(places.tolist(), texts, strict=True):
            try:
                found.append(self.as_utf8(text, 0, tally))
                kept.append(place)
            except UndecodableError:
                if self.settings.encoding_errors != "skip":
                    raise
                tally.num_undecodable += 1
        return Batch(np.array(kept, dtype=np.int64), found)

    def _refuse(self, place: int, value: Any) -> None:
        unit, row = divmod(place, 1 << PLACE_BITS)
        raise UserError(
            f"{self.name}: {self.settings.text_field} of row {row:,} of part {unit:,} is not a text but {value!r:.50} "
            "(corpus.text_field)"
        )


def as_bytes(values: pa.Array) -> list[bytes | None]:
    """The texts of a column as UTF-8."""
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_null(values.type):
        return [None] * len(values)
    return values.cast(pa.large_binary()).to_pylist()


def is_utf8(values: pa.Array) -> bool:
    """Whether all texts of a column are UTF-8, which writers of tables need not have checked."""
    try:
        values.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def check_text(name: str, field: str, schema: pa.Schema) -> None:
    """Raises ``UserError`` unless exactly one column of ``schema`` is called ``field`` and holds texts."""
    found = schema.get_all_field_indices(field)
    if not found:
        raise no_field(name, field, schema.names)
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


def no_field(name: str, field: str, there: list[str]) -> UserError:
    return UserError(f"{name}: its records have no field {field!r} (corpus.text_field; there are {', '.join(there)})")

"""Hugging Face datasets, cut by rows, or by shards if they are streamed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.data.readers import hub
from pipeline.data.readers.base import PLACE_BITS, Reader, Rows, TextSettings
from pipeline.data.readers.digests import Digest
from pipeline.data.readers.table import ROWS_AT_ONCE, TableReader, check_text, no_field
from pipeline.data.tokenizer import Ids


class DatasetReader(TableReader):
    """A dataset of the hub, of a folder of data files, or one that ``save_to_disk`` wrote."""

    form = "dataset"
    has_copies = True

    @staticmethod
    def locate(name: str) -> str:
        return hub.located(name)

    @classmethod
    def of_name(cls, name: str, settings: TextSettings, origin: int) -> DatasetReader:
        """Raises ``UserError`` for a dataset that cannot be loaded or lacks the field."""
        location, field = cls.locate(name), settings.text_field
        found = hub.load_dataset(location)
        dataset = found.dataset
        if dataset.features is not None:  # they may be unknown for a stream
            check_text(name, field, dataset.features.arrow_schema)
        if found.is_streaming:
            extent = dataset.num_shards
            num_bytes = dataset.info.dataset_size or dataset.info.download_size or 1 << 20
        else:
            extent, num_bytes = len(dataset), dataset.data.column(field).nbytes
        return cls(name, location, settings, extent, num_bytes, num_bytes, origin, hub.version(location))

    def columns(self, start: int, stop: int, digest: Digest | None) -> Iterator[tuple[Ids, pa.Array]]:
        found = hub.load_dataset(self.location)
        yield from (self._streamed if found.is_streaming else self._rows)(found.dataset, start, stop)

    def _rows(self, dataset: Any, start: int, stop: int) -> Iterator[tuple[Ids, pa.Array]]:
        texts = dataset.select_columns(self.settings.text_field).with_format("arrow")
        for begin in range(start, stop, ROWS_AT_ONCE):
            values = texts[begin : min(begin + ROWS_AT_ONCE, stop)].column(0).combine_chunks()
            yield np.arange(begin, begin + len(values)) << PLACE_BITS, values

    def _streamed(self, dataset: Any, start: int, stop: int) -> Iterator[tuple[Ids, pa.Array]]:
        field = self.settings.text_field
        for shard in range(start, stop):
            place = shard << PLACE_BITS
            for batch in dataset.shard(dataset.num_shards, shard).iter(ROWS_AT_ONCE):
                if field not in batch:
                    raise no_field(self.name, field, list(batch))
                for row, text in enumerate(batch[field]):
                    if not isinstance(text, str):
                        self._refuse(place + row, text)
                values = pa.array(batch[field], pa.large_string())
                yield np.arange(place, place + len(values)), values
                place += len(values)

    def rows(self, folders: dict[str, str]) -> Sequence[Rows]:
        return hub.load_dataset(self.location).rows

    def has_equal_texts(self, other: Reader) -> bool:
        """Compares datasets only, and only if neither is streamed."""
        if not isinstance(other, DatasetReader):
            return False
        one, two = (hub.load_dataset(each.location) for each in (self, other))
        if one.is_streaming or two.is_streaming or len(one.dataset) != len(two.dataset):
            return False
        field = self.settings.text_field
        return bool(one.dataset.data.column(field).equals(two.dataset.data.column(field)))

    def changed_now(self) -> int:
        return hub.version(self.location)

    def size_now(self) -> int | None:
        """The former size if it is there: its rows are compared in any case."""
        return self.size if os.path.exists(hub.parse(self.location)[0]) else None

    def digest(self, start: int, stop: int) -> Digest:
        self.forget()  # its files may have been replaced since
        return super().digest(start, stop)

    def forget(self) -> None:
        hub.load_dataset.cache_clear()

"""A reader for each form of text: how far it reaches, where it may be cut, and which documents it holds.

pattern → ``find`` → readers, one for each file or dataset, which are sent to the workers → batches of documents

``base`` says what every reader can do. ``text`` reads plain and compressed files, ``jsonl`` records in their lines;
``table`` has what ``parquet`` and ``datasets`` (named and loaded by ``hub``) share; ``builtin`` reads what Python
carries. A new file format is a module here, and a line in ``FORMATS`` in ``pipeline.config``.
"""

from __future__ import annotations

import os
from pkgutil import resolve_name

from pipeline import storage
from pipeline.config import FORMATS, CorpusConfig
from pipeline.data.readers import builtin, hub
from pipeline.data.readers.base import Batch, Cut, Reader, Rows, Tally, TextSettings, UndecodableError
from pipeline.data.readers.datasets import DatasetReader
from pipeline.data.readers.digests import Digest
from pipeline.errors import UserError

__all__ = [
    "Batch",
    "Cut",
    "Digest",
    "Reader",
    "Rows",
    "Tally",
    "TextSettings",
    "UndecodableError",
    "find",
    "reopen",
]


def find(pattern: str, config: CorpusConfig, *, split: str, origin: int) -> list[Reader]:
    """The readers of all that ``pattern`` names; it is pattern number ``origin`` of ``corpus.<split>``.

    Raises:
        UserError: what it names cannot be read, or does not have the text.
    """
    settings = TextSettings.of(config)
    if pattern.startswith(builtin.PREFIX):
        return builtin.find(pattern, settings, origin=origin)
    if (name := hub.name_of(pattern, split)) is not None:
        return [DatasetReader.of_name(name, settings, origin)]
    files = storage.find(pattern)
    for path, *_ in files:
        if path.endswith(hub.MARKS) and hub.is_saved(folder := os.path.dirname(path)):
            raise UserError(f"{folder} is a dataset that save_to_disk wrote, not text; name it by itself")
    return [class_of(format_of(file.path, config)).of_file(file, settings, origin) for file in files]


def reopen(name: str, form: str, settings: TextSettings, *, extent: int, size: int) -> Reader:
    """A reader of a source that ``find`` found before, with enough to read it again."""
    kind = builtin.class_of(name) if name.startswith(builtin.PREFIX) else class_of(form)
    return kind(name, kind.locate(name), settings, extent, size, size)


def format_of(path: str, config: CorpusConfig) -> str:
    """The format of the file at ``path``: ``corpus.format``, or by its ending, which may precede a compression's."""
    if config.format != "auto":
        return config.format
    plain = path if storage.compression_of(path) is None else os.path.splitext(path)[0]
    ending = os.path.splitext(plain)[1].lower()
    return next((name for name, known in FORMATS.items() if ending in known.endings), "text")


def class_of(form: str) -> type[Reader]:
    """The class that reads a ``form``: a file format, or datasets."""
    if form == DatasetReader.form:
        return DatasetReader
    kind: type[Reader] = resolve_name(FORMATS[form].reader)
    return kind

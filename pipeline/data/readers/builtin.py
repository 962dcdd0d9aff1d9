"""Texts that every Python carries: the source of its standard library, and its language reference."""

from __future__ import annotations

import os
import sysconfig
from dataclasses import replace
from functools import cache
from pathlib import Path

import pyarrow as pa

from pipeline.data.readers.base import Reader, TextSettings, as_version
from pipeline.data.readers.text import TextReader
from pipeline.errors import UserError

PREFIX = "builtin:"
DOCS, STDLIB = "builtin:python-docs", "builtin:python-stdlib"
LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}


class DocsReader(TextReader):
    """A topic of the language reference."""

    @property
    def path(self) -> str:
        return self.name

    @property
    def topic(self) -> str:
        return self.name.removeprefix(DOCS + "/")

    def _open(self) -> pa.NativeFile:
        return pa.BufferReader(topics().get(self.topic, b""))

    def changed_now(self) -> int:
        return as_version(topics()[self.topic])

    def size_now(self) -> int | None:
        return len(topics()[self.topic]) if self.topic in topics() else None


class StdlibReader(TextReader):
    """A module of the standard library."""

    @property
    def path(self) -> str:
        return os.path.join(sysconfig.get_path("stdlib"), self.name.removeprefix(STDLIB + "/"))


@cache
def topics() -> dict[str, bytes]:
    """The topics of the language reference, sorted, as UTF-8."""
    from pydoc_data.topics import topics

    return {name: text.encode() for name, text in sorted(topics.items())}


@cache
def modules() -> dict[str, int]:
    """Bytes of the library's modules that are UTF-8, without its tests and what was installed beside it."""
    root = Path(sysconfig.get_path("stdlib"))
    found = {}
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        if LEFT_OUT & set(relative.parts):
            continue
        data = path.read_bytes()
        try:
            data.decode()
        except UnicodeDecodeError:
            continue
        if data:
            found[relative.as_posix()] = len(data)
    return found


def find(pattern: str, settings: TextSettings, *, origin: int) -> list[Reader]:
    """The documents of a built-in corpus. Raises ``UserError`` if there is none of that name."""
    if pattern not in (DOCS, STDLIB):
        raise UserError(f"no such corpus: {pattern} (there are {DOCS}, {STDLIB})")
    kind, sizes = class_of(pattern), modules()
    if kind is DocsReader:
        sizes = {name: len(text) for name, text in topics().items()}
    readers = [kind(f"{pattern}/{name}", "", settings, n, n, n, origin) for name, n in sizes.items()]
    return [replace(reader, changed=reader.changed_now()) for reader in readers]


def class_of(name: str) -> type[TextReader]:
    """What reads the built-in corpus ``name``, or a document of it."""
    return DocsReader if name.startswith(DOCS) else StdlibReader

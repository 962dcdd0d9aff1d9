"""Texts that every Python carries (its language reference, its standard library), and texts made by rule."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import pyarrow as pa

from pipeline.data.generated import TASKS, Task, is_generated, task_of
from pipeline.data.readers.base import Reader, Rows, TextSettings, as_version
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


class GeneratedReader(TextReader):
    """A part of a text made by rule: ``builtin:copy?delay=50/00000``."""

    @property
    def path(self) -> str:
        return self.name

    @property
    def part(self) -> tuple[Task, int]:
        """The task, and which part of its text this is."""
        pattern, _, number = self.name.rpartition("/")
        return task_of(pattern), int(number)

    @property
    def text(self) -> bytes:
        task, number = self.part
        return task.block(number)

    def rows(self, folders: dict[str, str]) -> Sequence[Rows]:
        """Its examples, the same whatever the task is called; those of a shorter text begin a longer one."""
        task, number = self.part
        return [Rows((f"{replace(task, examples=1)} {number}",), 0, self.text.count(b"\n"))]

    def _open(self) -> pa.NativeFile:
        return pa.BufferReader(self.text)

    def changed_now(self) -> int:
        return as_version(self.text)

    def size_now(self) -> int | None:
        return len(self.text)


@cache
def topics() -> dict[str, bytes]:
    """The topics of the language reference, sorted, as UTF-8."""
    from pydoc_data.topics import topics

    return {name: text.encode() for name, text in sorted(topics.items())}


@cache
def modules() -> dict[str, int]:
    """Bytes of the library's modules that are UTF-8, without its tests and installed packages."""
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
    """The readers of a built-in corpus. Raises ``UserError`` if there is none of that name."""
    if is_generated(pattern):
        task = task_of(pattern)
        sizes = {f"{number:05d}": len(task.block(number)) for number in range(task.num_blocks)}
        return _readers(pattern, sizes, settings, origin)
    if pattern not in (DOCS, STDLIB):
        tasks = ", ".join(PREFIX + name for name in TASKS)
        raise UserError(f"no such corpus: {pattern} (there are {DOCS}, {STDLIB}, {tasks})")
    sizes = modules() if pattern == STDLIB else {name: len(text) for name, text in topics().items()}
    return _readers(pattern, sizes, settings, origin)


def _readers(pattern: str, sizes: Mapping[str, int], settings: TextSettings, origin: int) -> list[Reader]:
    """A reader for each part of ``pattern``; ``sizes``: name → bytes."""
    kind = class_of(pattern)
    readers = [kind(f"{pattern}/{name}", "", settings, n, n, n, origin) for name, n in sizes.items()]
    return [replace(reader, changed=reader.changed_now()) for reader in readers]


def class_of(name: str) -> type[TextReader]:
    """The class that reads the built-in corpus ``name``, or a document of it."""
    if is_generated(name):
        return GeneratedReader
    return DocsReader if name.startswith(DOCS) else StdlibReader

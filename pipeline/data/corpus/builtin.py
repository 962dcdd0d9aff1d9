"""Texts that every Python carries: the source of its standard library, and its language reference."""

from __future__ import annotations

import sysconfig
from functools import cache
from pathlib import Path

from pipeline.errors import UserError

PYTHON_DOCS, PYTHON_STDLIB = "builtin:python-docs", "builtin:python-stdlib"
LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}


@cache
def topics() -> dict[str, bytes]:
    """The topics of the language reference, sorted, as UTF-8."""
    from pydoc_data.topics import topics

    return {name: text.encode() for name, text in sorted(topics.items())}


def stdlib_path(name: str) -> str:
    return str(Path(sysconfig.get_path("stdlib")) / name.removeprefix(PYTHON_STDLIB + "/"))


@cache
def stdlib() -> tuple[tuple[str, int], ...]:
    """(name, bytes) of the library's modules that are UTF-8, without its tests and what was installed beside it."""
    root = Path(sysconfig.get_path("stdlib"))
    found = []
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
            found.append((f"{PYTHON_STDLIB}/{relative.as_posix()}", len(data)))
    return tuple(found)


def builtin(pattern: str) -> list[tuple[str, int]]:
    """(name, bytes) of each document of a built-in corpus. Raises ``UserError`` if there is none of that name."""
    if pattern == PYTHON_DOCS:
        return [(f"{PYTHON_DOCS}/{name}", len(data)) for name, data in topics().items()]
    if pattern == PYTHON_STDLIB:
        return list(stdlib())
    raise UserError(f"no such corpus: {pattern} (there are {PYTHON_DOCS}, {PYTHON_STDLIB})")

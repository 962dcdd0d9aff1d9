"""Which files a folder or a glob names, on a disk and in a store alike.

``*`` and ``?`` stay within a folder, ``**`` crosses folders. Files and folders whose names begin with a dot are hidden:
they count only where the pattern itself has the dot.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterator
from fnmatch import translate

# a name, and any number of folders, that are not hidden
NAME, FOLDERS = r"(?!\.)[^/]+", r"(?:(?!\.)[^/]+/)*"
WILDCARDS = {"*": "[^/]*", "?": "[^/]"}


def files_below(folder: str) -> Iterator[str]:
    """All below ``folder`` that is neither a folder nor hidden, in no order.

    Links to folders are followed after everything else, and each folder is read once, whatever leads to it.

    Raises:
        OSError: a folder cannot be read.
    """
    waiting, known = deque([folder]), set[str]()
    while waiting:
        for above, folders, names in os.walk(waiting.popleft(), onerror=_raise):
            if (real := os.path.realpath(above)) in known:
                folders.clear()
                continue
            known.add(real)
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            waiting += filter(os.path.islink, (os.path.join(above, name) for name in folders))
            yield from (os.path.join(above, name) for name in names if not name.startswith("."))


def _raise(error: OSError) -> None:
    raise error


def would_name(pattern: str, path: str) -> bool:
    """Whether a file at ``path``, if there were one, would be among those of ``pattern``; both are local paths."""
    pattern, path = os.path.abspath(os.path.expanduser(pattern)), os.path.abspath(path)
    if not os.path.isdir(pattern):
        return as_expression(pattern).fullmatch(path) is not None
    return not any(name.startswith(".") for name in os.path.relpath(path, pattern).split(os.sep))


def as_expression(pattern: str) -> re.Pattern[str]:
    """A glob as a regular expression for whole paths."""
    *folders, name = pattern.split("/")
    above = "".join(FOLDERS if folder == "**" else _within(folder) + "/" for folder in folders)
    return re.compile(above + (FOLDERS + NAME if name == "**" else _within(name)))


def _within(part: str) -> str:
    """A glob without ``/`` as a regular expression."""
    tokens = re.split(r"(\*|\?|\[!?\]?[^\]]*\])", part)
    found = "".join(
        WILDCARDS.get(token) or (_one_of(token) if token.startswith("[") else re.escape(token)) for token in tokens
    )
    return found if part.startswith(".") else r"(?!\.)" + found


def _one_of(characters: str) -> str:
    """``[!a-c]`` as in a glob: a backslash or another bracket in it is a character, and a range may be empty.

    What it leaves out is no border between folders.
    """
    return "(?!/)" + translate(characters).removeprefix("(?s:")[: -len(r")\Z")]

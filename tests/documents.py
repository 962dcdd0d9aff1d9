"""The commands and the Python that a document of the project shows, as a reader would type them."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[1]
# how commands begin, at the beginning of a line or after other output in it
STARTS = r"(?:python -m|recurray|make|ray|tensorboard|lm_eval|pip|export|source|git|curl|\.venv/bin/\w+)"
COMMAND = re.compile(rf"(?:^|.*\s{{2,}})(?P<text>{STARTS} .*)")
INLINE = re.compile(r"`(?P<text>python -m [\w.]+ [^`]+)`")
COMMENT = re.compile(r"\s+#\s.*$")


@dataclass(frozen=True)
class Command:
    """One command of a document, without comments and line ends."""

    document: str
    line: int
    text: str

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text)

    def __str__(self) -> str:
        return f"{self.document}:{self.line}: {self.text}"


def commands(document: str) -> list[Command]:
    """All commands in the code blocks of ``document``, and each ``python -m …`` within a sentence, in order.

    A block is indented by four or stands between fences; blocks in other languages than the shell's have no commands.
    """
    found, joined, first = [], "", 0
    for number, line, is_code in _lines(document):
        if is_code and joined:
            joined += " " + line.strip()
        elif is_code and (match := COMMAND.fullmatch(line.strip())):
            joined, first = match["text"], number
        elif not is_code:
            joined = ""
            found += [Command(document, number, match["text"]) for match in INLINE.finditer(line)]
        if joined:
            joined = COMMENT.sub("", joined)
            if joined.endswith("\\"):
                joined = joined[:-1].rstrip()
            else:
                found.append(Command(document, first, joined))
                joined = ""
    return found


def snippets(document: str) -> list[str]:
    """The Python in the indented blocks of ``document`` that begin with an import. (Fenced blocks have other tests.)"""
    text = (PROJECT / document).read_text(encoding="utf-8")
    return [textwrap.dedent(block) for block in re.findall(r"(?m)^(?:    from .*\n)(?:    .*\n)*", text)]


def _lines(document: str) -> Iterator[tuple[int, str, bool]]:
    """Number, text and whether it is code for the shell (or no language's), for each line outside other fences."""
    fence, was_blank, was_code = None, True, False
    for number, line in enumerate((PROJECT / document).read_text(encoding="utf-8").splitlines(), start=1):
        if line.startswith("```"):
            fence = line[3:].strip() if fence is None else None
            was_blank, was_code = True, False
            continue
        if fence is not None:
            if fence in ("", "bash", "sh", "console"):
                yield number, line.removeprefix("$ "), True
            continue
        was_code = line.startswith("    ") and (was_blank or was_code)
        was_blank = not line.strip()
        yield number, line, was_code

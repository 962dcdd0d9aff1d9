"""Run ``recurray COMMAND …``, which is the same as ``python -m jobs.COMMAND …``."""

from __future__ import annotations

import ast
import difflib
import runpy
import sys
from importlib.util import find_spec
from pathlib import Path

from jobs.shared import cli, options

COMMANDS = (
    "train",
    "evaluate",
    "generate",
    "search",
    "compare",
    "prepare",
    "teach",
    "compress",
    "export",
    "gradients",
    "context",
    "probe",
    "units",
    "ngram",
    "reading",
    "submit",
    "settings",
)


def main() -> None:
    """Run the command that the first argument names, or list the commands."""
    command = next(iter(sys.argv[1:]), "--help")
    if command in ("-h", "--help", "help"):
        print(overview())
    elif command in COMMANDS:
        options.PROGRAM = "recurray {}"
        sys.argv[:2] = [f"recurray {command}"]
        runpy.run_module(f"jobs.{command}", run_name="__main__", alter_sys=True)
    else:
        near = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        print(f"error: {command}: no such command{hint} (see recurray --help)", file=sys.stderr)
        raise SystemExit(cli.EXIT_USAGE)


def overview() -> str:
    """Return a line for each command: the first of its docstring."""
    lines = ["usage: recurray COMMAND …, the same as python -m jobs.COMMAND …", ""]
    lines += [f"  {command:<10} {summary(command)}" for command in COMMANDS]
    return "\n".join([*lines, "", "recurray COMMAND --help describes a command, recurray settings every setting."])


def summary(command: str) -> str:
    """Return the first line of a command's docstring without importing the command."""
    spec = find_spec(f"jobs.{command}")
    assert spec is not None
    assert spec.origin is not None
    return (ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or "").splitlines()[0]


if __name__ == "__main__":
    main()

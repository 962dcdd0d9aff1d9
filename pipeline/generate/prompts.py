"""Reads prompts from a file, and writes texts to one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.data.utf8 import read_file
from pipeline.errors import UserError
from pipeline.files import write_file
from pipeline.strict_json import to_json


def read_prompts(path: str) -> list[str]:
    """The prompts of a file, one a line. Raises ``UserError`` naming the file, or the line that is empty."""
    text = read_file(path)
    if not text:
        raise UserError(f"{path} is empty", argument="prompts")
    # not splitlines, which also ends lines at form feeds and the like
    prompts = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
    for number, prompt in enumerate(prompts, start=1):
        if not prompt.strip():
            raise UserError(f"{path} line {number} is an empty prompt", argument="prompts")
    return prompts


def save_rows(path: str, rows: Sequence[dict[str, Any]]) -> None:
    """Write one JSON object a line. Raises ``UnwritableError``; an earlier file is kept."""
    write_file(path, "".join(to_json(row, ensure_ascii=False) + "\n" for row in rows), argument="output")

"""Checkpoints at numbers of words read (``train.checkpoint_at_words``): which are due, which there are, their names.

The manifest of such a checkpoint has ``at_words``, the numbers that it stands for, and ``words``, the exact count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.training.selection import survey

AT_WORDS = "at_words"
MAIN = "main"  # what is meant if no revision is named
# the share of a number by which the last update of a run may miss it: a window does not end at a round number, and ten
# readings of a text of nearly ten million words are nearly a hundred million
MOST_MISSING = 0.01


def reached(numbers: Sequence[int], *, before: int, now: int, is_last: bool) -> list[int]:
    """Which of ``numbers`` a checkpoint stands for after an update that went from ``before`` to ``now`` words.

    Those that this update was the first to reach; at the end of a run also one that it just misses.
    """
    return [
        number
        for number in numbers
        if before < number <= now or (is_last and now < number and number - now <= MOST_MISSING * number)
    ]


def revision(number: int) -> str:
    """The name of the checkpoint at ``number`` words: ``chck_7M``, as BabyLM's evaluation pipeline calls it."""
    for unit, letter in ((1_000_000, "M"), (1_000, "K")):
        if number % unit == 0:
            return f"chck_{number // unit}{letter}"
    return f"chck_{number}"


def revisions(run_directory: str | Path) -> dict[str, Path]:
    """The checkpoints of a run that stand for numbers of words, by ``revision``, fewest words first."""
    found: dict[int, Path] = {}
    for path, manifest in survey(run_directory).trusted:
        # if a run was continued after its end, what was saved at the number itself replaces what missed it
        found |= dict.fromkeys(manifest.get(AT_WORDS, ()), path)
    return {revision(number): found[number] for number in sorted(found)}


def find_revision(run_directory: str | Path, name: str) -> Path:
    """The checkpoint that ``name`` means. Raises ``UserError`` naming those that there are."""
    found = revisions(run_directory)
    if name not in found:
        there = f"it has {', '.join(found)}" if found else "it has none (train.checkpoint_at_words saves them)"
        raise UserError(f"{run_directory} has no checkpoint called {name}; {there}", argument="revision")
    return found[name]


def is_kept(manifest: Mapping[str, Any]) -> bool:
    """Whether the checkpoint of ``manifest`` stays however many come after it."""
    return bool(manifest.get(AT_WORDS))

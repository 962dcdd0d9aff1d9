"""Read numbers from the command line, and refuse those that no option could use."""

from __future__ import annotations

from argparse import ArgumentTypeError
from math import isfinite

# a larger count of anything would only fill the memory or never end
MOST = 2**31 - 1
LARGEST_SEED = 2**63 - 1
MOST_SEEDS, END_OF_TRAIN_SEEDS = 1000, 2**32  # train.seed is below


def whole(text: str, *, most: int = MOST) -> int:
    """Read a whole number; an ``argparse`` type."""
    try:
        value = int(text)
    except ValueError:
        raise ArgumentTypeError(f"{_short(text)!r} is not a whole number") from None
    if abs(value) > most:
        raise ArgumentTypeError(f"{_short(text)} is not between {-most:,} and {most:,}")
    return value


def seed(text: str) -> int:
    """Read a seed; an ``argparse`` type."""
    return whole(text, most=LARGEST_SEED)


def seeds(text: str) -> int | list[int]:
    """Read how many seeds, or which ones, separated by commas; an ``argparse`` type."""
    found = [seed(part) for part in text.split(",")]
    if len(found) == 1:
        if not 2 <= found[0] <= MOST_SEEDS:
            raise ArgumentTypeError(f"{found[0]:,} is not between 2 and {MOST_SEEDS:,}")
        return found[0]
    for each in found:
        if not 0 <= each < END_OF_TRAIN_SEEDS:
            raise ArgumentTypeError(f"{each:,} is not between 0 and {END_OF_TRAIN_SEEDS - 1:,}")
        if found.count(each) > 1:
            raise ArgumentTypeError(f"{each} is given twice")
    return found


def number(text: str) -> float:
    """Read a finite number; an ``argparse`` type."""
    try:
        value = float(text)
    except ValueError:
        raise ArgumentTypeError(f"{_short(text)!r} is not a number") from None
    if not isfinite(value):
        raise ArgumentTypeError(f"{_short(text)} is not a finite number")
    return value


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "…"

"""Numbers of words at which a run saves a checkpoint that it keeps, and what BabyLM's call asks for."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from pipeline.config.fields import shown
from pipeline.errors import UserError

BABYLM = "babylm"
# the checkpoints that BabyLM asks for, and how often a text may be read (2026)
BABYLM_WORDS = [*range(1_000_000, 10_000_000, 1_000_000), *range(10_000_000, 100_000_001, 10_000_000)]
BABYLM_EPOCHS = 10


def _numbers_or_babylm(value: Any) -> Any:
    if value == BABYLM:
        return value
    if not isinstance(value, list) or not all(isinstance(number, int) and number >= 1 for number in value):
        raise UserError(f"must be {BABYLM}, or a list of numbers of words of at least 1, not {shown(value)}")
    for before, after in pairwise(value):
        if after <= before:
            raise UserError(f"must be rising numbers of words, not {after} after {before}")
    return value


# the last string tells people what the validator checks
WordNumbers = Annotated[Literal["babylm"] | list[int], BeforeValidator(_numbers_or_babylm), "rising, at least 1"]

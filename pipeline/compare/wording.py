"""Figures, lists and values of settings, as sentences show them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.compare.plan import is_number
from pipeline.compare.significance import LEVEL, Difference


def p_of(pair: Difference) -> str:
    """The corrected p-value, with enough digits to say on which side of the level it is."""
    if pair.p_holm < 1e-4:
        return "p < 0.0001"
    digits = next(n for n in (2, 3, 4, 17) if pair.p_holm == LEVEL or float(f"{pair.p_holm:.{n}g}") != LEVEL)
    return f"p = {pair.p_holm:.{digits}g}"


def factor(ratio: float) -> str:
    """``2.1 times less`` or ``1.3 times as much``."""
    return f"{figure(1 / ratio)} times less" if ratio < 1 else f"{figure(ratio)} times as much"


def figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def setting_figure(value: Any) -> str:
    """A setting's value as a person writes it: 0.003, 1,024, lstm."""
    if isinstance(value, float):
        return f"{value:.3g}"
    return f"{value:,}" if is_number(value) else str(value)


def seconds_of(seconds: float) -> str:
    return f"{seconds:,.0f} s" if seconds >= 10 else f"{seconds:.2g} s"


def listed(names: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))

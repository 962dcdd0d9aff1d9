"""Values that suit no setting, or only some."""

from __future__ import annotations

from typing import Any

from pipeline.config import Config, section_fields

VALUES: list[Any] = [
    *(0, -1, 1, 3, 1000, 10**6, 2**31, 2**32 + 1, 2**62, 2**63 - 1, 2**63, 10**20, 10**400, -(10**400)),
    *(True, False, None, float("inf"), float("-inf"), float("nan"), 1e-320, 1e-30, 0.5, 1e29, 1e300, -1e300),
    *("", "x", "\0", "\udcff", "1e5", "3e-4", "inf", "9" * 5000, "é" * 5_000, "a." * 5_000, "auto", "none"),
    *([], [0], [1e300], [True], [[1]], ["a"] * 1000, {}, {"a": 1}, {1: 2}, {"train.bptt": [float("nan")]}),
]


def settings() -> list[str]:
    """The dotted path of every setting."""
    return [f"{section}.{field}" for section in Config.model_fields for field in section_fields(section)]

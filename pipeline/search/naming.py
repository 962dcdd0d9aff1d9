"""Names of trials, made of their settings, for folders and for people."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

TRIALS = "trials"  # the folder of their folders
NAME_LENGTH = 120


def name_of(number: int, settings: Mapping[str, Any]) -> str:
    """``003-lr=0.00123,hidden_size=128``: the folder of a trial, and what TensorBoard calls it."""
    fields = [path.partition(".")[2] for path in settings]
    names = [field if fields.count(field) == 1 else path for field, path in zip(fields, settings, strict=True)]
    shown = ",".join(f"{name}={short(value)}" for name, value in zip(names, settings.values(), strict=True))
    return f"{number:03d}-{re.sub(r'[^A-Za-z0-9_.,=+-]+', '_', shown)}"[:NAME_LENGTH]


def short(value: Any) -> str:
    return "-".join(map(value_of, value)) if isinstance(value, list) else value_of(value)


def describe(settings: Mapping[str, Any]) -> str:
    """``optimizer.lr=0.0012 model.hidden_size=128``."""
    return " ".join(f"{path}={value_of(value)}" for path, value in settings.items())


def value_of(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)

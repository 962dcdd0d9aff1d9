"""Write results as JSON that every reader accepts."""

from __future__ import annotations

import json
import math
from typing import Any


def to_json(value: Any, **options: Any) -> str:
    """Return ``value`` as JSON; numbers that are not finite, which JSON cannot express, become null at any depth.

    ``options`` are those of ``json.dumps``, which by itself writes ``NaN`` and ``Infinity``.
    """
    return json.dumps(finite(value), allow_nan=False, **options)


def finite(value: Any) -> Any:
    """Return ``value`` with None for every number in it that is not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value

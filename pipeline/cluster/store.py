"""Ray's own key-value store, with values in JSON; its functions are private to Ray and called only here."""

from __future__ import annotations

import json
from typing import Any

from ray.experimental import internal_kv


def is_there() -> bool:
    """Return whether this process has access to the store."""
    return bool(internal_kv._internal_kv_initialized())


def put(key: str, value: Any) -> None:
    internal_kv._internal_kv_put(key, json.dumps(value))


def get(key: str, *, namespace: str | None = None) -> Any:
    """Return what was put under ``key``, by us or by Ray; None if nothing was."""
    found = internal_kv._internal_kv_get(key, namespace=namespace)
    return None if found is None else json.loads(found)


def delete(key: str) -> None:
    internal_kv._internal_kv_del(key)

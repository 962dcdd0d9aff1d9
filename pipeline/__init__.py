"""Recurray: raw text → tokens → Arrow shards → streams → recurrent language model → text and figures.

Read the packages in the order of the flow: ``config``, ``data``, ``model``, ``metrics``, ``evaluate``, ``generate``,
``training``, ``compress``, ``run``, ``export``, ``cluster``. Each imports only what stands before it, and only
``cluster`` imports Ray.

``load`` is the interface in Python (see ``interface``), ``load_model`` its alias; asking for it imports torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.interface import Model, Surprisal, load
    from pipeline.interface import load as load_model

__all__ = ["Model", "Surprisal", "load", "load_model"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
    from pipeline import interface

    return getattr(interface, "load" if name == "load_model" else name)

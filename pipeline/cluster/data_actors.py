"""Ray Data on a private cluster without its two actors, which have nothing to do there.

One keeps statistics for a dashboard, the other asks for machines and shares them out among executions. Ray Data starts
both for every execution, each a process of 125 MB. The names here are private to Ray; if it has others, or the cluster
is not a private one, Ray Data runs unchanged.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from uuid import uuid4

import ray

from pipeline.cluster.session import is_private
from pipeline.cluster.start import replaced

STATISTICS = "ray.data._internal.stats", "_StatsManager"
COORDINATOR = "ray.data._internal.cluster_autoscaler.default_autoscaling_coordinator", "DefaultAutoscalingCoordinator"


@contextmanager
def without_actors() -> Iterator[None]:
    """Within this context, executions on a private cluster count nothing and have the whole cluster to themselves."""
    with ExitStack() as stack:
        for (owner, name), function in (stand_ins() if is_private() else {}).items():
            stack.enter_context(replaced(owner, name, partial(instead, function)))
        yield


def instead(function: Any, usual: Any) -> Any:
    return function


def stand_ins() -> dict[tuple[Any, str], Any]:
    """Return what replaces each (owner, attribute); empty if this Ray lacks one of them."""
    whole = {node["NodeID"]: dict(node["Resources"]) for node in ray.nodes() if node["Alive"]}
    functions: dict[tuple[str, str], dict[str, Callable[..., Any]]] = {
        STATISTICS: {
            "update_execution_metrics": staticmethod(nothing),
            "update_iteration_metrics": staticmethod(nothing),
            "register_dataset_to_stats_actor": staticmethod(nothing),
            "gen_dataset_id_from_stats_actor": staticmethod(lambda: uuid4().hex),
        },
        COORDINATOR: {
            "request_resources": nothing,
            "cancel_request": nothing,
            "get_reserved_resources": lambda coordinator: whole,
        },
    }
    found = {}
    for (module, owner_name), by_name in functions.items():
        try:
            owner = getattr(importlib.import_module(module), owner_name, None)
        except ImportError:
            return {}
        for name, function in by_name.items():
            if not hasattr(owner, name):
                return {}
            found[owner, name] = function
    return found


def nothing(*arguments: Any, **named: Any) -> None:
    """Replace a request that nobody would answer."""

"""The nodes that an autoscaling cluster may still add.

limits reported to Ray | the file that the autoscaler on the head node runs with → node types → nodes to come

Ray's own autoscaler, as ``ray up`` starts it, reports its limits to nobody; they stand only in its file. One that runs
elsewhere, like KubeRay's, keeps them to itself: then the nodes to come are unknown (``has_unknown_limits``).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from pipeline.cluster import store

HEAD = "node:__internal_head__"  # the resource that marks the head node
STATUS, VERSION_2 = "__autoscaling_status", "__autoscaler_v2_enabled"  # keys of Ray's store
# what Ray calls the type of a node that no autoscaler has made
NO_TYPE = "node_"
UNLIMITED = 100  # nodes that are counted for a type without a limit
YOUNG_SECONDS = 30.0  # the age up to which a cluster's first report is waited for
HEAD_SECONDS = 60.0  # for the head node to start a process
RoomOn = Callable[[Mapping[str, float]], int]  # the resources of a node → how many workers fit on it


@dataclass(frozen=True)
class NodeType:
    """What each node of one type has, and how many of them there may be."""

    resources: Mapping[str, float]
    most: int  # at a time

    def matches(self, resources: Mapping[str, float]) -> bool:
        """Whether a node with ``resources`` may be of this type."""
        return all(self.resources.get(kind, 0) == resources.get(kind, 0) for kind in ("CPU", "GPU"))


@dataclass(frozen=True)
class Limits:
    """How far a cluster may grow."""

    types: Sequence[NodeType]  # that of the head node first
    most: int = UNLIMITED  # nodes besides the head node, of all types together


def growth(room_on: RoomOn | None = None) -> list[dict[str, float]]:
    """Return the resources of each node that may still be added; none for a cluster of a fixed or unknown size.

    ``room_on``: as in ``to_come``.
    """
    limits = limits_of_cluster()
    if limits is None:
        return []
    return to_come(limits, [node["Resources"] for node in ray.nodes() if node["Alive"]], room_on)


def to_come(
    limits: Limits, there: Sequence[Mapping[str, float]], room_on: RoomOn | None = None
) -> list[dict[str, float]]:
    """Return the resources of each node that ``limits`` allow besides those that are ``there``.

    Types that share the limit of all types are each counted up to it, so that no combination of them is left out. With
    ``room_on``, which says what a node has room for, only as many nodes as may come at all: those with the most room.
    """
    left = [one.most for one in limits.types]
    for resources in sorted(there, key=lambda node: HEAD not in node):
        fitting = (k for k, one in enumerate(limits.types) if left[k] > 0 and one.matches(resources))
        if (place := next(fitting, None)) is not None:
            left[place] -= 1
    in_all = max(0, limits.most - sum(HEAD not in node for node in there))
    nodes = [
        dict(one.resources) for one, number in zip(limits.types, left, strict=True) for _ in range(min(number, in_all))
    ]
    return nodes if room_on is None else sorted(nodes, key=room_on, reverse=True)[:in_all]


def has_unknown_limits() -> bool:
    """Whether nodes may be added by an autoscaler whose limits cannot be read."""
    return has_autoscaler() and limits_of_cluster() is None


def limits_of_cluster() -> Limits | None:
    """The limits of the cluster that this process is connected to; None if it has none, or they cannot be read."""
    try:
        from ray._private.state import state

        config = state.get_cluster_config()
    except Exception:  # another version of Ray, or a client (ray://), which cannot tell
        config = None
    if config is not None:
        groups = config.node_group_configs
        most = [UNLIMITED if group.max_count < 0 else group.max_count for group in groups]
        return Limits([NodeType(dict(group.resources), n) for group, n in zip(groups, most, strict=True)])
    if not has_autoscaler():
        return None
    head = next((node["NodeID"] for node in ray.nodes() if node["Alive"] and HEAD in node["Resources"]), None)
    settings = None if head is None else settings_of_autoscaler(head)
    return None if settings is None else limits_in(settings)


def limits_in(settings: Mapping[str, Any]) -> Limits:
    """The limits in the file of a cluster, as ``ray up`` leaves it on the head node."""
    head, most = settings.get("head_node_type"), int(settings.get("max_workers", 2))
    types = settings.get("available_node_types", {})
    names = sorted(types, key=lambda name: name != head)
    numbers = [1 if name == head else int(types[name].get("max_workers", most)) for name in names]
    resources = [{kind: float(count) for kind, count in (types[name].get("resources") or {}).items()} for name in names]
    return Limits([NodeType(*each) for each in zip(resources, numbers, strict=True)], most)


def has_autoscaler() -> bool:
    """Whether an autoscaler adds nodes to the cluster: then they have types, which other nodes do not."""
    if not store.is_there():
        return False
    if store.get(VERSION_2, namespace="__autoscaler") == 1:
        return True
    return any(not name.startswith(NO_TYPE) for name in active_types() or ())


def active_types() -> Collection[str] | None:
    """The types of the nodes that are there, as a cluster's first autoscaler reports them; None: it has not yet."""
    try:
        types: Collection[str] = store.get(STATUS)["autoscaler_report"]["active_nodes"]
    except (ValueError, KeyError, TypeError):
        return None
    return types


def await_report() -> None:
    """Wait until a cluster that has just begun says whether it grows: until then it seems to be of a fixed size.

    Ray writes that for every cluster, some seconds after its head node has begun.
    """
    while store.is_there() and store.get(VERSION_2, namespace="__autoscaler") != 1 and active_types() is None:
        if not 0 <= seconds_since_start() < YOUNG_SECONDS:  # it has nobody who would write it
            return
        time.sleep(0.2)


def seconds_since_start() -> float:
    """The age of the cluster by the clock of its head node, which its name says; infinite if it does not."""
    try:
        name = ray.get_runtime_context().get_session_name()
        began = datetime.strptime("_".join(name.split("_")[1:3]), "%Y-%m-%d_%H-%M-%S")
    except (AttributeError, RuntimeError, ValueError):  # another version of Ray
        return math.inf
    return (datetime.now() - began).total_seconds()


@cache
def settings_of_autoscaler(head: str) -> dict[str, Any] | None:
    """What the autoscaler of the cluster with the node ``head`` runs with; None if that is not on this node."""
    on_head = ray.remote(num_cpus=0, resources={HEAD: 0.001}, max_retries=0)(file_of_autoscaler)
    try:
        settings: dict[str, Any] | None = ray.get(on_head.remote(), timeout=HEAD_SECONDS)
    except RayError:  # the head node is full, or has another version of this package
        return None
    return settings


def file_of_autoscaler() -> dict[str, Any] | None:
    """A task: the content of the file that the cluster's autoscaler on this machine runs with; None if there is none.

    The file is the one that the process was started with, ``--autoscaling-config``; Ray has no other way to it.
    """
    import yaml

    option, address = b"--autoscaling-config=", f"--gcs-address={ray.get_runtime_context().gcs_address}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            given = [word.removeprefix(option) for word in words if word.startswith(option)]
            if given and address in words:
                path = process / "cwd" / Path(given[0].decode()).expanduser()
                settings = yaml.safe_load(path.read_text(encoding="utf-8"))
                return settings if isinstance(settings, dict) else None
        except (OSError, ValueError, yaml.YAMLError):  # a process that has ended, or of another user
            continue
    return None

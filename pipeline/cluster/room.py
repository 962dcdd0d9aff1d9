"""Whether the cluster has room for the workers of a command: ever, and now.

nodes that exist and that an autoscaling cluster may add → places → a refusal | a notice that it waits | nothing

No torch is imported here: the controller of a run starts without it.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence

import ray

from pipeline.cluster.growth import growth, has_unknown_limits
from pipeline.errors import Notice, UserError

FREED_SECONDS = 2.0  # within which the resources of a command that has just ended become free


def check_capacity(num_workers: int, resources: Mapping[str, float]) -> None:
    """Refuse what the cluster can never hold, instead of waiting forever; warn if its other work is in the way.

    On an autoscaling cluster, the largest size that it may grow to counts; where that is unknown, nothing is refused.

    Args:
        resources: of one worker, as Ray counts them.

    Raises:
        UserError: saying what was asked for and what there is.
    """
    nodes = [*nodes_there(), *nodes_to_come(resources)]
    found = places(nodes, resources)
    if found < num_workers and has_unknown_limits():
        return warn_if_taken(num_workers, resources)
    if resources.get("GPU") and not any(node.get("GPU") for node in [*nodes, *growth()]):
        raise UserError("cluster.device: cuda was asked for, but the cluster has no GPU")
    if found < num_workers:
        asked = f"{num_workers} workers of {described(resources)} each were"
        if num_workers == 1:
            asked = f"a worker of {described(resources)} was"
        there = described({kind: sum(node.get(kind, 0) for node in nodes) for kind in ("CPU", "GPU")})
        raise UserError(
            f"cluster.num_workers: {asked} asked for, but the cluster has room for {found} ({there} in all)"
        )
    warn_if_taken(num_workers, resources)


def warn_if_taken(num_workers: int, resources: Mapping[str, float]) -> None:
    """Warn that workers will wait if other work holds what they need: this command itself holds nothing yet."""
    deadline = time.monotonic() + FREED_SECONDS
    while places([ray.available_resources(), *nodes_to_come(resources)], resources) < num_workers:
        if time.monotonic() > deadline:
            warnings.warn(f"cluster.num_workers: {waiting(num_workers, resources)}", Notice, stacklevel=2)
            return
        time.sleep(0.1)


def waiting(num_workers: int, resources: Mapping[str, float]) -> str:
    """``2 workers of 4 CPUs each wait for room on the cluster (free: 5 of 8 CPUs)``."""
    free, there = ray.available_resources(), ray.cluster_resources()
    shown = " and ".join(f"{free.get(kind, 0):g} of {described({kind: there.get(kind, 0)})}" for kind in resources)
    workers = f"{num_workers} workers of {described(resources)} each wait"
    if num_workers == 1:
        workers = f"a worker of {described(resources)} waits"
    return f"{workers} for room on the cluster (free: {shown})"


def described(resources: Mapping[str, float]) -> str:
    """``4 CPUs and 1 GPU``."""
    return " and ".join(f"{count:g} {kind}{'s' * (count > 1 or count == 0)}" for kind, count in resources.items())


def nodes_there() -> list[dict[str, float]]:
    """Return the resources of each node that exists."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def nodes_to_come(resources: Mapping[str, float]) -> list[dict[str, float]]:
    """Return the resources of the nodes that an autoscaling cluster may add for as many workers as possible.

    Args:
        resources: of one worker.
    """
    return growth(lambda node: places([node], resources))


def most_places(resources: Mapping[str, float]) -> int:
    """Return for how many workers the cluster has room, at the largest size that it may grow to."""
    return places([*nodes_there(), *nodes_to_come(resources)], resources)


def places(nodes: Sequence[Mapping[str, float]], resources: Mapping[str, float]) -> int:
    """Return for how many workers ``nodes`` have room at once; each runs on one node, a part of a GPU on one GPU.

    Args:
        resources: of one worker, as Ray counts them.
    """
    found, gpus_per_worker = 0, resources.get("GPU", 0)
    for node in nodes:
        fit = int(node.get("CPU", 0) // resources["CPU"])
        found += min(fit, gpu_places(node, gpus_per_worker)) if gpus_per_worker else fit
    return found


def gpu_places(node: Mapping[str, float], gpus_per_worker: float) -> int:
    """Return for how many workers ``node`` has GPUs."""
    gpus = int(node.get("GPU", 0))
    return int(gpus // gpus_per_worker) if gpus_per_worker > 1 else gpus * int(1 / gpus_per_worker + 1e-9)

"""Make Tune remove placement groups only once they are complete: Ray (2.60) may lose the resources of others.

A group that is removed while its bundles are being prepared keeps their CPUs until the cluster ends
(findings/ray-loses-the-cpus-of-a-placement-group-removed-at-once.sh). Tune asks for a group for each trial and
withdraws the request at once if a process of an earlier trial is free to run it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import ray
from ray.air.execution import PlacementGroupResourceManager

COMPLETE_SECONDS = 0.1  # preparing takes milliseconds; a group that is not complete then waits for room
REMOVING = ("cancel_resource_request", "clear")


def complete_before_removal() -> None:
    """Have Tune, in this process and from now on, wait for its groups before it removes any."""
    for name in REMOVING:
        usual = getattr(PlacementGroupResourceManager, name)
        if not hasattr(usual, "__wrapped__"):
            setattr(PlacementGroupResourceManager, name, patient(usual))


def patient(remove: Callable[..., Any]) -> Callable[..., Any]:
    """Return a resource manager's method ``remove`` after a wait, which ends early once its groups are complete."""

    @wraps(remove)
    def wait_and_remove(manager: Any, *arguments: Any, **named: Any) -> Any:
        complete = list(getattr(manager, "_staging_future_to_pg", {}))  # private to Ray
        if complete and ray.is_initialized():
            # one wait for all of them; PlacementGroup.wait would take whole seconds only, and 0.1 for none
            ray.wait(complete, num_returns=len(complete), timeout=COMPLETE_SECONDS)
        return remove(manager, *arguments, **named)

    return wait_and_remove

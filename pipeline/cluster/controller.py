"""The controller of a run on a cluster of one machine and one command, without what is of no use there.

trainer → controller → placement group → workers, each in a process that has Ray and its modules loaded already

Its process does not import torch. All names used here are private to Ray: if a later Ray has others, this module cannot
be imported or ``is_known`` is false, and training starts as Ray itself starts it (see ``trainer``).
"""

from __future__ import annotations

import inspect
from time import monotonic
from typing import Any

from ray.train.v2._internal.execution.controller import TrainController
from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy
from ray.train.v2._internal.execution.worker_group import WorkerGroup

# what is called or replaced in each of Ray's classes
NAMES: dict[Any, tuple[str, ...]] = {
    TrainController: ("worker_group_cls", "run", "get_result", "_poll_workers"),
    WorkerGroup: ("_get_worker_runtime_env",),
    FixedScalingPolicy: ("after_controller_start", "_maybe_send_resource_request", "_cancel_resource_request"),
}


def is_known() -> bool:
    """Return whether this Ray has all that is called or replaced here."""
    has_names = all(hasattr(owner, name) for owner, names in NAMES.items() for name in names)
    return has_names and "scaling_policy" in inspect.signature(TrainController).parameters


class FixedSize(FixedScalingPolicy):
    """A fixed number of workers, without asking an autoscaler, which would be another process to wait for."""

    def after_controller_start(self, train_run_context: Any) -> None:
        """Nothing is requested."""

    def _maybe_send_resource_request(self) -> None:
        """Nothing is requested."""

    def _cancel_resource_request(self) -> None:
        """Nothing was requested."""


class Workers(WorkerGroup):
    """Workers in the environment that all processes of the cluster have, so that they can use waiting processes.

    In one of its own, each would begin with a process that imports Ray only to start another, which imports it again.
    """

    @staticmethod
    def _get_worker_runtime_env(custom_runtime_env: Any) -> dict[str, Any]:
        return dict(custom_runtime_env)


# each look at the workers wakes the controller and all of them, on the cores that they compute on
LONGEST_SECONDS, SHARE_OF_RUN = 1.0, 0.01


class Controller(TrainController):
    """Looks at its workers less often the longer they run: an end is noticed within 1 % of their time, at most 1 s."""

    worker_group_cls = Workers
    began: float | None = None

    async def _poll_workers(self) -> Any:
        now = monotonic()
        if self.began is None:
            self.began, self.shortest_seconds = now, self._health_check_interval_s
        self._health_check_interval_s = seconds_between_looks(now - self.began, at_least=self.shortest_seconds)
        return await super()._poll_workers()


def seconds_between_looks(running: float, *, at_least: float) -> float:
    """Return the seconds until the next look at workers that have been ``running`` for that many seconds."""
    return max(at_least, min(LONGEST_SECONDS, SHARE_OF_RUN * running))

"""Ray's trainer for torch without helper processes that have nothing to do and would poll on the workers' cores.

If a later Ray calls these things differently, it is Ray's own trainer.
"""

from __future__ import annotations

from typing import Any

import ray
from ray.train.torch import TorchTrainer


class OurTrainer(TorchTrainer):
    """The trainer on any cluster."""

    idle: tuple[str, ...] = ("DatasetsCallback",)  # there are no datasets

    def _create_default_callbacks(self) -> list[Any]:
        callbacks = super()._create_default_callbacks()  # type: ignore[misc]
        return [callback for callback in callbacks if type(callback).__name__ not in self.idle]


class PrivateTrainer(OurTrainer):
    """The trainer on a cluster that this process has started: nothing needs cleaning up after its death."""

    idle = (*OurTrainer.idle, "PlacementGroupCleanerCallback")

    def _initialize_and_run_controller(self, **how: Any) -> Any:
        ours = private_controller()
        if ours is None or not isinstance(how.get("scaling_policy"), ours.FixedScalingPolicy):
            return super()._initialize_and_run_controller(**how)  # type: ignore[misc]
        how["scaling_policy"] = ours.FixedSize(self.scaling_config)
        controller: Any = ray.remote(num_cpus=0)(ours.Controller).remote(**how)
        ray.get(controller.run.remote())
        return ray.get(controller.get_result.remote())


def private_controller() -> Any:
    """Return the module ``controller``; None if this Ray does not have what it builds on."""
    try:
        from pipeline.cluster import controller
    except ImportError:
        return None
    return controller if controller.is_known() else None

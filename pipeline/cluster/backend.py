"""What connects the ranks of a run: torch's process group if there are several, nothing if there is only one.

A single rank has no one to talk to, so the controller of its run does not import torch, which takes a second.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from ray.train.backend import Backend, BackendConfig


@dataclass
class RanksConfig(BackendConfig):
    """Ray Train's ``TorchConfig`` for several workers; ``backend`` is gloo or nccl."""

    backend: str

    @property
    def backend_cls(self) -> type[Backend]:
        return Ranks

    @property
    def train_func_context(self) -> Any:
        # Ray's own context chooses the worker's GPU
        return self.of_torch()[1].train_func_context if self.backend == "nccl" else nullcontext

    def to_dict(self) -> dict[str, Any]:
        return {"backend": self.backend}

    def of_torch(self) -> tuple[Backend, BackendConfig]:
        """Return Ray's own backend, and the configuration that it wants."""
        from ray.train.torch import TorchConfig

        config = TorchConfig(backend=self.backend)
        return config.backend_cls(), config


class Ranks(Backend):
    """Connects workers as Ray's own backend for torch does, if there are at least two."""

    share_cuda_visible_devices = True  # as in Ray's own for torch

    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        if len(worker_group) > 1:
            backend, config = backend_config.of_torch()
            backend.on_start(worker_group, config)

    def on_training_start(self, worker_group: Any, backend_config: Any) -> None:
        if len(worker_group) > 1:
            backend, config = backend_config.of_torch()
            backend.on_training_start(worker_group, config)

    def on_shutdown(self, worker_group: Any, backend_config: Any) -> None:
        if len(worker_group) > 1:
            backend, config = backend_config.of_torch()
            backend.on_shutdown(worker_group, config)

"""Ranks average their gradients here, between DDP's buckets and the network.

full, bf16 and powersgd are torch's own hooks; ordered sums in the order of ranks, so that neither the buckets nor the
backend's algorithm decide how a sum is rounded. Letters: W ranks, N numbers of a bucket.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook, bf16_compress_hook
from torch.distributed.algorithms.ddp_comm_hooks.powerSGD_hook import PowerSGDState, powerSGD_hook
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel

from pipeline.config import DdpConfig
from pipeline.training.times import StepTimes

# other bucket sizes were measured, and are no faster
BUCKET_BYTES, MEBIBYTE = 25e6, 2**20


class Exchange:
    """Averages the gradients of the module that ``distribute`` wraps; what it remembers is part of a checkpoint."""

    def __init__(self, config: DdpConfig, times: StepTimes) -> None:
        self.config = config
        self.times = times
        self.device = torch.device("cpu")  # of the gradients, once ``distribute`` knows them
        self.powersgd = None
        if config.communication == "powersgd":
            self.powersgd = PowerSGDState(
                None,
                matrix_approximation_rank=config.powersgd_rank,
                # torch asks for two full steps first, the first of which is that of ``settle``
                start_powerSGD_iter=config.powersgd_after_steps + 2,
                orthogonalization_epsilon=1e-8,  # a gradient of zeros has no direction
            )

    def distribute(self, module: nn.Module, *, apart: str | None = None) -> DistributedDataParallel:
        """Wrap ``module`` in DDP and average its gradients, but not those of the parameter named ``apart``."""
        self.device = next(module.parameters()).device
        if apart is not None:
            module._ddp_params_and_buffers_to_ignore = [apart]  # type: ignore[assignment]
        ddp = DistributedDataParallel(
            module,
            gradient_as_bucket_view=True,
            bucket_cap_mb=BUCKET_BYTES / MEBIBYTE,
        )
        ddp.register_comm_hook(None, lambda state, bucket: self.average(bucket))
        return ddp

    def average(self, bucket: dist.GradBucket) -> Future[Tensor]:
        """Begin to average a bucket. What is not awaited here overlaps with the rest of the backward pass."""
        self.times.mark("backward")
        future = self._begin(bucket)
        self.times.mark("communication")
        return future

    def _begin(self, bucket: dist.GradBucket) -> Future[Tensor]:
        if self.config.communication == "ordered":
            return mean_in_order(bucket.buffer())
        if self.config.communication == "bf16":
            return bf16_compress_hook(None, bucket)  # type: ignore[arg-type]
        if self.powersgd is None:
            return allreduce_hook(None, bucket)  # type: ignore[arg-type]
        self._forget_another(bucket)
        future = powerSGD_hook(self.powersgd, bucket)
        if not bucket.buffer().is_cuda:
            # its callbacks wait for further exchanges: with several buckets under way, all of gloo's threads might wait
            future.wait()
        return future

    def _forget_another(self, bucket: dist.GradBucket) -> None:
        """Forget what PowerSGD remembers of a bucket that now holds other parameters.

        A change of settings may have added the embedding, whose gradient was taken as rows, or have taken it out.
        """
        assert self.powersgd is not None
        index = bucket.index()
        errors = self.powersgd.error_dict.get(index)
        if errors is not None and len(errors) != len(bucket.buffer()):
            for memory in (self.powersgd.error_dict, self.powersgd.p_memory_dict, self.powersgd.q_memory_dict):
                memory.pop(index, None)

    def settled(self, num_steps: int) -> None:
        """Note that the next update is number ``num_steps`` (from 0) of the run."""
        if self.powersgd is not None:
            self.powersgd.iter = 2 + num_steps

    def state_dict(self) -> dict[str, Any]:
        """Return what PowerSGD remembers: on rank 0 with the (W, N) errors of all ranks, on others with their (1, N).

        All ranks call it.
        """
        if self.powersgd is None:
            return {}
        errors = {index: of_all_ranks(error) for index, error in sorted(self.powersgd.error_dict.items())}
        return {"errors": errors, "p": dict(self.powersgd.p_memory_dict), "q": dict(self.powersgd.q_memory_dict)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what ``state_dict`` returned, here or on rank 0 of a run that was stopped.

        On another number of ranks each takes the mean of the errors.
        """
        if self.powersgd is None or not state:
            return
        rank, world_size = dist.get_rank(), dist.get_world_size()
        for index, errors in state["errors"].items():
            own = errors[rank] if len(errors) == world_size else errors.mean(0)
            # rank 0 has gathered them in the host's memory
            self.powersgd.error_dict[index] = own.to(self.device, copy=True)
        self.powersgd.p_memory_dict = {index: part.to(self.device) for index, part in state["p"].items()}
        self.powersgd.q_memory_dict = {index: part.to(self.device) for index, part in state["q"].items()}


def mean_in_order(buffer: Tensor) -> Future[Tensor]:
    """Replace (N,) ``buffer`` by its mean over the ranks, summed as ((rank 0 + rank 1) + rank 2) + …, before returning.

    Each rank adds up one part of the numbers and sends it to all: the traffic of an all-reduce.
    """
    world_size = dist.get_world_size()
    padded = buffer.new_zeros(-(-len(buffer) // world_size) * world_size)
    padded[: len(buffer)] = buffer
    received = torch.empty_like(padded)
    dist.all_to_all_single(received, padded)
    parts = received.view(world_size, -1)
    total = parts[0]
    for part in parts[1:]:
        total += part
    total /= world_size
    dist.all_gather(list(padded.chunk(world_size)), total)
    buffer.copy_(padded[: len(buffer)])
    future: Future[Tensor] = Future(devices=[buffer.device] if buffer.is_cuda else None)
    future.set_result(buffer)
    return future


def of_all_ranks(tensor: Tensor) -> Tensor:
    """Gather (N,) of each rank into (W, N) in the host's memory of rank 0; other ranks keep their own, as (1, N)."""
    is_first = dist.get_rank() == 0
    gathered = [torch.empty_like(tensor) for _ in range(dist.get_world_size())] if is_first else None
    dist.gather(tensor, gathered)
    return torch.stack(gathered).cpu() if gathered else tensor.unsqueeze(0)

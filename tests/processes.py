"""Several ranks on gloo, in processes forked from one that has imported torch.

It has also loaded torch's compiler, which torch imports when an optimizer is built or DDP wraps a module, though
nothing here is compiled.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from multiprocessing import get_context
from typing import Any

import torch.distributed as dist
import torch.multiprocessing as mp

# A forked rank exits without finalizing the interpreter. DDP never releases the process group: its threads outlive
# destroy_process_group, and one that needs the interpreter while it is being finalized aborts the process.
get_context("forkserver").set_forkserver_preload(["pipeline.run", "torch._dynamo"])


def on_ranks(function: Callable[..., None], world_size: int, *arguments: Any) -> None:
    """Call ``function(rank, *arguments)`` on ``world_size`` ranks. Raises the error of the first that failed."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.start_processes(as_rank, (world_size, port, function, arguments), nprocs=world_size, start_method="forkserver")


def as_rank(rank: int, world_size: int, port: int, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=world_size)
    function(rank, *arguments)
    dist.destroy_process_group()

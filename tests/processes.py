"""Several ranks on gloo, in processes that are forked from one which has imported torch once.

torch loads its compiler too when an optimizer is made or DDP wraps a module, though nothing here is compiled.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from multiprocessing import get_context
from typing import Any

import torch.distributed as dist
import torch.multiprocessing as mp

# A forked rank ends without the interpreter's own end. DDP never lets go of the process group: its threads go on beyond
# destroy_process_group, and one that wants the interpreter while that is being torn down aborts the process.
get_context("forkserver").set_forkserver_preload(["pipeline.run", "torch._dynamo"])


def on_ranks(function: Callable[..., None], world_size: int, *arguments: Any) -> None:
    """Call ``function(rank, *arguments)`` on so many ranks. Raises what ended the first that failed."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.start_processes(as_rank, (world_size, port, function, arguments), nprocs=world_size, start_method="forkserver")


def as_rank(rank: int, world_size: int, port: int, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=world_size)
    function(rank, *arguments)
    dist.destroy_process_group()

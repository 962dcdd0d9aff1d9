"""How much memory a model takes in training, and whether a machine has it; nothing is allocated to find out."""

from __future__ import annotations

import os

import torch

from pipeline.config import Config
from pipeline.config.fields import shown
from pipeline.container import memory_limit
from pipeline.errors import UserError
from pipeline.model.shapes import shapes_of


def num_parameters(config: Config, vocab_size: int) -> int:
    """Count the trained numbers of the model that ``config`` describes. Raises ``UserError`` for an impossible one."""
    return shapes_of(config.model, vocab_size).num_parameters


def parameter_bytes(config: Config, number: int) -> int:
    """Bytes of ``number`` parameters with their gradients, the optimizer's moments and averages."""
    optimizer = config.optimizer
    moments = {"adam": 2, "adamw": 2, "muon": 2, "rmsprop": 1}.get(optimizer.name, int(optimizer.momentum > 0))
    num_copies = 2 + moments + int(optimizer.average != "none")  # weights, gradients, …
    return number_bytes(config) * num_copies * number


def number_bytes(config: Config) -> int:
    """Return the bytes of a weight in training."""
    return 8 if config.train.precision == "float64" else 4


def check_memory(config: Config, vocab_size: int) -> None:
    """Raise ``UserError`` if a model and what belongs to it are larger than all the memory of this machine."""
    number = num_parameters(config, vocab_size)
    needed, there = parameter_bytes(config, number), machine_bytes()
    if needed > there:
        raise UserError(
            f"model.hidden_size: {number:,} parameters take {needed / 1e9:,.1f} GB in training, but this machine has "
            f"{there / 1e9:,.1f} GB (layers of {shown(config.model.layer_sizes)}, {vocab_size:,} types)"
        )


def machine_bytes() -> int:
    """Return the bytes of memory of this machine, or of the container that this process is in."""
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = memory_limit()
    return there if limit is None else min(there, limit)


def is_out_of_memory(error: Exception) -> bool:
    """Whether ``error`` says that the machine or the GPU is out of memory."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "DefaultCPUAllocator" in str(error)

"""What the ``start`` record tells of a run, found out rather than assumed."""

from __future__ import annotations

import os
import socket

import torch

from pipeline.config import Config
from pipeline.model.precision import autocast
from pipeline.training.monitor import Record
from pipeline.training.parts import Loop


def start_facts(loop: Loop, config: Config, *, num_threads: int) -> Record:
    """Of ``loop``, which is about to begin or go on."""
    step = loop.step
    return {
        "step": loop.progress.step,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "total_steps": loop.total_steps,
        "tokens_per_step": loop.data.tokens_per_window,
        "parameters": step.model.num_parameters,
        "num_workers": step.world_size,
        "num_threads": num_threads,
        "device": step.device.type,
        "precision": config.train.precision,
        "recurrence_precision": recurrence_precision(loop),
        "tf32": config.train.tf32 and step.device.type == "cuda",
        "communication": config.ddp.communication if step.world_size > 1 else None,
        "embedding_gradients": "dense" if step.embedding_rows is None else "rows",
        "num_unused_tokens": loop.data.num_unused,
        "unused": loop.data.unused,
    }


def recurrence_precision(loop: Loop) -> str:
    """The format that the first layer really multiplies in when training: float32, bfloat16, …; several are joined."""
    model, step = loop.step.model, loop.step
    num_streams = max(1, len(loop.data.rows) // step.accumulate)
    num_steps = max(1, loop.data.tokens_per_window // loop.data.batch_size)  # documents may all be shorter than bptt
    inputs = torch.zeros(num_steps, num_streams, model.embedding.embedding_dim, device=step.device)
    with autocast(step.precision, step.device):
        formats = model.recurrence.product_formats(inputs.to(model.dtype))
    return " and ".join(sorted(str(item).removeprefix("torch.") for item in formats))

"""The facts in the ``start`` record of a run, found out rather than assumed."""

from __future__ import annotations

import os
import socket

import torch

from pipeline.config import Config
from pipeline.model.precision import autocast
from pipeline.training.monitor import Record
from pipeline.training.parts import RunState


def start_facts(state: RunState, config: Config, *, num_threads: int) -> Record:
    """The facts of a run that is about to begin or continue."""
    step = state.step
    return {
        "step": state.progress.step,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "total_steps": state.horizon.total_steps,
        "tokens_per_step": state.data.tokens_per_window,
        "parameters": step.model.num_parameters,
        "num_workers": step.world_size,
        "num_threads": num_threads,
        "device": step.device.type,
        "precision": config.train.precision,
        "recurrence_precision": recurrence_precision(state),
        "tf32": config.train.tf32 and step.device.type == "cuda",
        "communication": config.ddp.communication if step.world_size > 1 else None,
        "embedding_gradients": "dense" if step.embedding_rows is None else "rows",
        "num_unused_tokens": state.data.num_unused,
        "unused": state.data.unused,
    }


def recurrence_precision(state: RunState) -> str:
    """Return the format that the first layer really multiplies in: float32, bfloat16, …; several are joined."""
    model, step = state.step.model, state.step
    num_streams = max(1, len(state.data.rows) // step.accumulation_steps)
    num_steps = max(1, state.data.tokens_per_window // state.data.batch_size)  # documents may all be shorter than bptt
    inputs = torch.zeros(num_steps, num_streams, model.embedding.embedding_dim, device=step.device)
    with autocast(step.precision, step.device):
        formats = model.recurrence.product_formats(inputs.to(model.dtype))
    return " and ".join(sorted(str(item).removeprefix("torch.") for item in formats))

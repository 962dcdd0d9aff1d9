"""What the ``start`` record tells of a run, found out rather than assumed."""

from __future__ import annotations

import os
import socket

import torch

from pipeline.config import Config
from pipeline.model.language_model import LanguageModel
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
        "recurrence_precision": recurrence_precision(step.model, config.train.precision),
        "tf32": config.train.tf32 and step.device.type == "cuda",
        "communication": config.ddp.communication if step.world_size > 1 else None,
        "embedding_gradients": "dense" if step.embedding_rows is None else "rows",
        "num_unused_tokens": loop.data.num_unused,
        "unused": loop.data.unused,
    }


@torch.no_grad()
def recurrence_precision(model: LanguageModel, precision: str) -> str:
    """The format that the recurrent kernel really runs in, as its outputs tell: float32, bfloat16, …"""
    token = torch.zeros((1, 1), dtype=torch.int64, device=model.device)
    with autocast(precision, model.device):
        hidden, _ = model.outputs(token, model.initial_state(1), None, None)
    return str(hidden.dtype).removeprefix("torch.")

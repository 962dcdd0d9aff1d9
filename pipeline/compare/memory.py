"""The peak memory of training steps: on a GPU what torch allocates, on a CPU what the process holds at most.

On Linux the kernel records the most memory that a process has held since the record was reset (``clear_refs``). Freed
memory goes back to the system before each measurement, so that no model uses what another has left.
"""

from __future__ import annotations

import ctypes
import gc
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from pipeline import config as configuration
from pipeline.compare.speed import RATE, training_step
from pipeline.config import Config
from pipeline.model.state import zeros_like
from pipeline.process_memory import status_bytes
from pipeline.resources import Worker

CLEAR_REFS = Path("/proc/self/clear_refs")
FORGET_PEAK = "5"
NUM_STEPS = 2


def peak_of(work: Callable[[], object], worker: Worker) -> int | None:
    """The most bytes that ``work`` holds beyond what is held before; None if this machine does not say."""
    gc.collect()
    if worker.device.type == "cuda":
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated(worker.device)
        torch.cuda.reset_peak_memory_stats(worker.device)
        work()
        torch.cuda.synchronize(worker.device)
        return torch.cuda.max_memory_allocated(worker.device) - before
    trim()
    try:
        CLEAR_REFS.write_text(FORGET_PEAK)
        before = status_bytes("VmRSS")
        work()
        return status_bytes("VmHWM") - before
    except (OSError, KeyError):
        return None


def trim() -> None:
    """Give freed memory back to the system."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def training_peaks(
    config: Config, lengths: Sequence[int], worker: Worker, *, vocab_size: int
) -> Mapping[int, int | None]:
    """Window length → the most bytes that building the model and making steps on such windows hold."""
    make_steps(with_window(config, min(lengths)), worker, vocab_size)  # what libraries keep after their first use
    found = {}
    for length in lengths:
        longer = with_window(config, length)
        found[length] = peak_of(lambda longer=longer: make_steps(longer, worker, vocab_size), worker)  # type: ignore[misc]
    return found


def with_window(config: Config, length: int) -> Config:
    """``config`` with windows of ``length`` tokens, and with a memory at least as long if its length is fixed."""
    values: dict[str, Any] = {"train.bptt": length}
    name, model = memory_of(config), as_any(config.model)
    if name and model.num_slots < length:
        values[name] = length
    return configuration.with_values(config, values)


def with_context(config: Config, context: int) -> Config:
    """``config`` with a memory of ``context`` tokens if it has one of fixed length."""
    name = memory_of(config)
    shorter = {"train.bptt": min(config.train.bptt, context)}
    return configuration.with_values(config, {name: context, **shorter}) if name else config


def memory_of(config: Config) -> str:
    """The setting that says how many earlier tokens attention sees; empty if nothing attends."""
    model = as_any(config.model)
    if not getattr(model, "attends", ""):
        return ""
    return "model.block_size" if model.context == 0 else "model.context"


def as_any(model: Any) -> Any:
    return model


def make_steps(config: Config, worker: Worker, vocab_size: int) -> None:
    """Build an untrained model and make updates from windows of random tokens, (T, B)."""
    step = training_step(config, worker, vocab_size=vocab_size)
    shape = config.train.bptt, config.train.batch_size
    state = step.model.initial_state(shape[1], device=worker.device)
    generator = torch.Generator().manual_seed(1)
    for index in range(NUM_STEPS):
        inputs, targets = (torch.randint(vocab_size, shape, generator=generator).to(worker.device) for _ in range(2))
        if config.data.layout == "documents":  # each window begins from nothing
            state = zeros_like(state)
        _, _, state = step(inputs, targets, state, num_targets=inputs.numel(), lr=RATE, index=index)

"""A trace of some steps of rank 0, for Perfetto and TensorBoard's profiler."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from pipeline.files import reason

# steps of this process before the trace: the first few set up kernels and memory
STEPS_BEFORE, STEPS_WARMING = 3, 2


class Profiler:
    """Records ``num_steps`` steps and writes them to ``folder``; call ``step`` at the end of every step."""

    def __init__(self, folder: Path, *, num_steps: int, say: Callable[[str], None]) -> None:
        """``say`` is called with a sentence that says where the trace is."""
        self.folder = folder
        self.num_steps = num_steps
        self.say = say
        self.steps_left = STEPS_BEFORE + STEPS_WARMING + num_steps
        gpu = [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
        self.profile = profile(
            activities=[ProfilerActivity.CPU, *gpu],
            schedule=schedule(wait=STEPS_BEFORE, warmup=STEPS_WARMING, active=num_steps, repeat=1),
            on_trace_ready=self._write,
            acc_events=True,
        )
        self.profile.start()

    def step(self) -> None:
        """Note that a step has ended."""
        if self.steps_left:
            self.steps_left -= 1
            self.profile.step()
            if not self.steps_left:
                self.profile.stop()

    def close(self) -> None:
        """Note that training has ended; if it had fewer steps, the trace of those is written."""
        if self.steps_left:
            num_traced = self.num_steps - self.steps_left
            self.steps_left = 0
            self.profile.stop()
            if num_traced < 0:
                self.say("no trace was written: training ended before the first of train.profile_steps")

    def _write(self, finished: profile) -> None:
        number = len(list(self.folder.glob("*.json.gz"))) + 1
        # the ending by which TensorBoard's profiler recognises a trace
        path = self.folder / f"worker-0-{number}.pt.trace.json.gz"
        temporary = self.folder / f".{path.name}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            finished.export_chrome_trace(str(temporary))
            temporary.rename(path)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            self.say(f"the trace of train.profile_steps could not be written to {path}: {reason(error)}")
            return
        self.say(f"the trace of train.profile_steps is {path} (ui.perfetto.dev and TensorBoard's profiler open it)")

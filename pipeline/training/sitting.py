"""One sitting of a run: the record is begun, training goes to its end or to an error, the record is closed.

Failing storage costs what could not be written, but never hides the error that came first.
"""

from __future__ import annotations

import errno
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import Any

from pipeline import config as configuration
from pipeline.config import Config, changes
from pipeline.errors import UserError
from pipeline.files import telling_of_writes, write_file
from pipeline.training import checkpoint
from pipeline.training.directory import RunDirectory
from pipeline.training.facts import start_facts
from pipeline.training.guard import TrainingStoppedError
from pipeline.training.loop import CHANGES, INTERRUPTED, LeaveError, fit
from pipeline.training.memory import is_out_of_memory
from pipeline.training.monitor import Monitor, Record
from pipeline.training.parts import Loop, RunState
from pipeline.training.profiling import Profiler
from pipeline.training.utilization import Utilization

# what a disk answers when it is full, over quota, over a limit on file sizes, or gone
STORAGE_FAILED = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ESTALE}


@contextmanager
def observers(
    state: RunState,
    config: Config,
    directory: RunDirectory,
    num_threads: int,
    *,
    on_record: Callable[[Record], None] | None,
    on_waiting: Callable[[Record], None] | None,
) -> Iterator[dict[str, Any]]:
    """On rank 0: make the run directory, begin the record with the facts of this start, and close it at the end.

    Yields what records a run, by the names of ``Loop``. Closing raises no error of the storage.

    Raises:
        UnwritableError: the run directory cannot be written to.
        LostOwnershipError: another driver has taken the run over.
    """
    step, progress = state.step, state.progress
    with telling_of_writes(directory.path, argument="run.directory"):
        directory.check_owner()
        directory.path.mkdir(parents=True, exist_ok=True)
        write_file(directory.config, configuration.to_yaml(config), argument="run.directory")
        monitor = Monitor(directory, step=progress.step, on_record=on_record, on_waiting=on_waiting)
        notices = [*monitor.notices, *checkpoint.clear_up(directory)]
    with closing(monitor), ExitStack() as stack:
        monitor.write("start", **start_facts(state, config, num_threads=num_threads))
        for text in notices:
            monitor.write("warning", step=progress.step, text=text)
        if text := untold_change(config, monitor.changed_at, progress.tokens):
            monitor.write("change", step=progress.step, tokens=progress.tokens, text=text)
        num_workers, tf32 = step.world_size, config.train.tf32
        utilization = Utilization(step.model, step.device, step.precision, tf32=tf32, num_workers=num_workers)
        profiler = None
        if config.train.profile_steps:
            profiler = Profiler(
                directory.path / "profile",
                num_steps=config.train.profile_steps,
                say=lambda text: monitor.write("profile", step=progress.step, text=text),
            )
            stack.enter_context(closing(profiler))
        yield {"monitor": monitor, "profiler": profiler, "utilization": utilization}


def untold_change(config: Config, told: int, tokens: int) -> str:
    """Say what has changed since ``told`` tokens; empty if nothing has.

    A run that stopped where a change was due, or takes another's checkpoint, makes it by beginning with new settings.
    """
    before, after = (changes.in_force(config, place) for place in (told, tokens))
    return changes.in_words(before, after)


def train(loop: Loop, directory: RunDirectory) -> str:
    """Call ``fit`` and return how it ended.

    Raises:
        TrainingStoppedError: ``fit`` raised it, the storage failed, or the memory of a single rank ran out; the
            sentence names the last good checkpoint.
    """
    try:
        status = fit(loop)
        if status != CHANGES:
            loop.checkpoints.finish()
        return status
    except LeaveError:
        loop.checkpoints.finish()
        return INTERRUPTED
    except OSError as error:
        if error.errno not in STORAGE_FAILED:
            raise
        reason = f"{error.filename or directory.path}: {error.strerror}"
        raise TrainingStoppedError(f"{reason} ({last_good(loop, directory)})") from None
    except TrainingStoppedError as error:
        raise type(error)(f"{error} ({last_good(loop, directory)})") from None
    except (RuntimeError, MemoryError) as error:
        # other ranks, if any, wait for this one, and only its end tells them
        if loop.step.world_size > 1 or not is_out_of_memory(error):
            raise
        raise TrainingStoppedError(
            f"out of memory after step {loop.progress.step:,}; a smaller train.batch_size, train.bptt or model, or a "
            f"larger train.gradient_accumulation_steps, needs less ({last_good(loop, directory)})"
        ) from None


def last_good(loop: Loop, directory: RunDirectory) -> str:
    """Say what a run that was stopped can continue from, as far as rank 0, the one that writes, knows it."""
    with suppress(Exception):  # what ended the run is said, not what came after it
        loop.checkpoints.wait()
    try:
        found = checkpoint.newest(directory.path)
    except UserError as error:
        return str(error)
    if found is None:
        return "there is no checkpoint yet"
    path, manifest = found
    if not math.isfinite(manifest.get("perplexity", 0.0)):
        return f"the last checkpoint is {path}, whose validation perplexity is not finite"
    return f"the last good checkpoint is {path}"

"""One sitting of a run at its loop: the record is begun, training goes to its end or to an error, all is closed.

A storage that fails costs what could not be written, never the error that was there first.
"""

from __future__ import annotations

import errno
import math
from collections.abc import Callable
from contextlib import suppress

from pipeline import config as configuration
from pipeline.config import Config
from pipeline.errors import UserError
from pipeline.files import telling_of_writes, write_file
from pipeline.training import checkpoint
from pipeline.training.directory import RunDirectory
from pipeline.training.facts import start_facts
from pipeline.training.guard import TrainingStoppedError
from pipeline.training.loop import fit
from pipeline.training.memory import is_out_of_memory
from pipeline.training.monitor import Monitor, Record
from pipeline.training.parts import Loop
from pipeline.training.profiling import Profiler
from pipeline.training.utilization import Utilization

# what a disk answers that is full, over quota, over a limit on file sizes, or gone
STORAGE_FAILED = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ESTALE}


def begin(
    loop: Loop,
    config: Config,
    directory: RunDirectory,
    num_threads: int,
    *,
    on_record: Callable[[Record], None] | None,
    on_waiting: Callable[[Record], None] | None,
) -> None:
    """On rank 0: the run directory with its configuration, and the metrics file with the facts of this start.

    Raises:
        UnwritableError: the run directory cannot be written to.
        LostOwnershipError: another driver has taken the run over.
    """
    step = loop.progress.step
    with telling_of_writes(directory.path, option="run.directory"):
        directory.check_owner()
        directory.path.mkdir(parents=True, exist_ok=True)
        write_file(directory.config, configuration.to_yaml(config), option="run.directory")
        monitor = Monitor(directory, step=step, on_record=on_record, on_waiting=on_waiting)
        notices = [*monitor.notices, *checkpoint.clear_up(directory)]
    loop.monitor = monitor
    monitor.write("start", **start_facts(loop, config, num_threads=num_threads))
    for text in notices:
        monitor.write("warning", step=step, text=text)
    loop.utilization = Utilization(
        loop.step.model,
        loop.step.device,
        loop.step.precision,
        tf32=config.train.tf32,
        num_workers=loop.step.world_size,
    )
    if config.train.profile_steps:
        loop.profiler = Profiler(
            directory.path / "profile",
            num_steps=config.train.profile_steps,
            say=lambda text: monitor.write("profile", step=loop.progress.step, text=text),
        )


def train(loop: Loop, directory: RunDirectory) -> str:
    """How ``fit`` ended.

    Raises:
        TrainingStoppedError: as ``fit``; or storage failed, or memory on a single rank; naming what there is left.
    """
    try:
        status = fit(loop)
        loop.checkpoints.finish()
        return status
    except OSError as error:
        if error.errno not in STORAGE_FAILED:
            raise
        reason = f"{error.filename or directory.path}: {error.strerror}"
        raise TrainingStoppedError(f"{reason} ({last_good(loop, directory)})") from None
    except TrainingStoppedError as error:
        raise type(error)(f"{error} ({last_good(loop, directory)})") from None
    except (RuntimeError, MemoryError) as error:
        # where there are others, they wait for this rank, and only its end tells them
        if loop.step.world_size > 1 or not is_out_of_memory(error):
            raise
        raise TrainingStoppedError(
            f"out of memory after step {loop.progress.step:,}; a smaller train.batch_size, train.bptt or model, or a "
            f"larger train.accumulate, needs less ({last_good(loop, directory)})"
        ) from None


def last_good(loop: Loop, directory: RunDirectory) -> str:
    """What a run that was stopped has to go on from, in words; as rank 0, the one that writes, knows it."""
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


def close(loop: Loop) -> None:
    """Close what ``begin`` opened, and the watchdog. Nothing of the storage is raised here."""
    if loop.watchdog is not None:
        loop.watchdog.close()
    if loop.profiler is not None:
        loop.profiler.close()
    if loop.monitor is not None:
        loop.monitor.close()

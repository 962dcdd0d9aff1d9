"""The training loop: ``fit`` names its phases, in order.

    window → step → log → validate → sample → checkpoint → report → stop?

Every rank runs the same loop and takes the same branches; only rank 0 has a ``monitor`` and writes.
Letters: T time, B streams or documents of this rank.
"""

from __future__ import annotations

import math
import time
from functools import partial
from typing import Any

import torch

from pipeline.data.windows import Window
from pipeline.metrics import all_reduce_sum, perplexity
from pipeline.model.state import zeros_like
from pipeline.training import word_marks
from pipeline.training.guard import check_finite, check_loss, check_validation_loss, update_or_undo
from pipeline.training.parts import Loop
from pipeline.training.schedules import drops_now
from pipeline.training.stragglers import own_seconds

# how often several ranks agree whether to stop or save; a single rank decides after every step
AGREE_EVERY_STEPS = 4

FINISHED, INTERRUPTED, CHANGES = "finished", "interrupted", "changes"


class LeaveError(Exception):
    """Raised by ``Loop.report`` on every rank: the run ends for now, in the state of its checkpoint."""


def fit(loop: Loop) -> str:
    """Train to the horizon or to early stopping (``FINISHED``), until asked to stop (``INTERRUPTED``), or until the
    settings change (``CHANGES``); returns which.

    Raises:
        TrainingStoppedError: a loss or gradient was not finite (no such update reached the weights), a validation was
            not, or the loss rose beyond ``train.max_loss_rise``.
        LeaveError: ``loop.report`` raised it.
    """
    progress = loop.progress
    first_step = progress.step + 1
    if loop.step.exchange is not None:
        loop.step.exchange.settled(progress.step)
    loop.step.times.start()
    while progress.step < loop.total_steps and not loop.ended_early:
        for window in loop.data.windows(progress.position, epoch=progress.epoch):
            if loop.watchdog is not None:
                loop.watchdog.step()
            train_on(loop, window)
            if progress.step == first_step and loop.monitor:
                loop.monitor.write("running", step=progress.step)
            ends_epoch = progress.position == 0
            is_last = progress.step >= loop.total_steps
            if is_last or progress.step % loop.train.log_every_steps == 0:
                log(loop)
            stop, save = (False, True) if is_last else agreed(loop)
            pause(loop, is_last=is_last, ends_epoch=ends_epoch, save=stop or save)
            if stop and not loop.ended_early:
                return INTERRUPTED
            if is_last or loop.ended_early:
                break
            if loop.change_due:
                check(loop)
                if loop.watchdog is not None:
                    loop.watchdog.rest()  # building the next loop is no step, and may take its time
                return CHANGES
            if loop.profiler is not None:
                loop.profiler.step()
            loop.step.times.start()
    return FINISHED


def pause(loop: Loop, *, is_last: bool, ends_epoch: bool, save: bool) -> None:
    """Validate, save a checkpoint and report, each if it is due between two windows."""
    validated = loop.evaluate is not None and (is_last or validation_due(loop, ends_epoch=ends_epoch))
    at_words = loop.words_reached(is_last=is_last)
    if not (validated or save or at_words or checkpoint_due(loop, ends_epoch=ends_epoch)):
        return
    check(loop)
    if loop.watchdog is not None:
        loop.watchdog.rest()
    began = time.monotonic()
    figures = validate(loop) if validated else {}
    loop.tick()
    if loop.monitor is not None:
        loop.monitor.flush()  # a run that continues from this checkpoint has the lines before it
    loop.checkpoints.save(loop, {**figures, word_marks.AT_WORDS: at_words} if at_words else figures)
    loop.saved_at = time.monotonic()
    if validated:
        if is_last or loop.figures_due:
            # a search may end this run at this report, and then learns from its checkpoints how it did
            loop.checkpoints.wait()
        loop.report(figures)
    loop.interval.started += time.monotonic() - began


def train_on(loop: Loop, window: Window) -> None:
    """Make one update from ``window``, and note how far the run has come."""
    progress, device = loop.progress, loop.step.device
    inputs = torch.from_numpy(window.inputs).to(device, non_blocking=True)  # (T, B)
    targets = torch.from_numpy(window.targets).to(device, non_blocking=True)  # (T, B)
    soft = None if loop.teaching is None else loop.teaching(window, inputs)
    loop.step.times.mark("data")
    update = partial(
        loop.step,
        inputs,
        targets,
        zeros_like(loop.hidden.state) if window.begins else loop.hidden.state,
        num_targets=window.num_targets,
        lr=loop.lr * (len(window.inputs) / loop.train.bptt if loop.train.window_lengths == "random" else 1.0),
        index=progress.step,
        resets=window.resets,
        soft=soft,
    )
    if loop.rollback is None:
        nats, loop.last_norm, loop.hidden.state = update()
    else:
        nats, loop.last_norm, loop.hidden.state = update_or_undo(
            loop, loop.rollback, update, num_targets=window.num_targets
        )
    loop.interval.nats += nats
    if loop.teaching is not None:
        loop.teaching.divergence += loop.step.divergence
    loop.interval.tokens += window.num_targets
    loop.tokens_before = progress.tokens
    progress.step += 1
    progress.tokens += window.num_inputs
    progress.position = window.next_position
    if progress.position >= loop.data.epoch_end:
        progress.epoch, progress.position = progress.epoch + 1, 0
        loop.step.averaging.epoch_ended(progress.epoch)
    if progress.words is not None:
        loop.words_before = progress.words
        loop.count_words()


def check(loop: Loop) -> float:
    """Return the mean loss since the last line of the record, over all ranks; NaN just after one.

    Raises:
        TrainingStoppedError: it, or a gradient, is not finite, or it has risen too far.
    """
    check_finite(loop)
    interval = loop.interval
    (nats,) = all_reduce_sum([float(interval.nats)])
    loss = nats / interval.tokens if interval.tokens else math.nan
    check_loss(loop, loss)
    return loss


def log(loop: Loop) -> None:
    """Write one ``train`` record, with the token-weighted mean loss of the interval over all ranks."""
    loss = check(loop)
    loop.tick()
    progress = loop.progress
    if math.isfinite(loss):  # in fp16 a window may overflow
        progress.lowest_loss = loss if progress.lowest_loss is None else min(loss, progress.lowest_loss)
    clipped = loop.step.clipping.take_share()
    interval = loop.interval
    taught = {} if loop.teaching is None else {"divergence": loop.teaching.take(interval.tokens)}
    num_tokens, started = interval.tokens - interval.tokens_before, interval.started
    interval.begin()
    num_steps, times = loop.step.times.num_steps, loop.step.times.take()
    beside_others = compare_ranks(loop, own_seconds(times, num_steps))
    if loop.monitor is None:
        return
    if failure := loop.checkpoints.failure():
        loop.monitor.write("warning", step=progress.step, text=failure)
    tokens_per_second = num_tokens / max(loop.clock - started, 1e-9)
    loop.monitor.write(
        "train",
        step=progress.step,
        epoch=epochs_done(loop),
        tokens=progress.tokens,
        loss=loss,
        perplexity=perplexity(loss, 1),
        **taught,
        lr=loop.step.optimizer.param_groups[0]["lr"],
        grad_norm=float(loop.last_norm),
        clipped=clipped,
        loss_scale=float(loop.step.loss_scale.scale) if loop.step.loss_scale.enabled else None,
        tokens_per_second=tokens_per_second,
        seconds_left=(loop.total_steps - progress.step) * progress.seconds / progress.step,
        **times,
        **beside_others,
        **(loop.utilization.figures(tokens_per_second) if loop.utilization is not None else {}),
    )


def compare_ranks(loop: Loop, seconds: float) -> dict[str, float]:
    """Return how much slower the slowest rank was, this one taking ``seconds``, and warn if the others wait for it."""
    if loop.stragglers is None:
        return {}
    figures, sentences = loop.stragglers.look(seconds)
    if loop.monitor is not None:
        for text in sentences:
            loop.monitor.write("warning", step=loop.progress.step, text=text)
    return figures


def epochs_done(loop: Loop) -> float:
    """Return the number of epochs trained, including the part of the current one."""
    return loop.progress.epoch + loop.progress.position / loop.data.epoch_end


def validation_due(loop: Loop, *, ends_epoch: bool) -> bool:
    step, every = loop.progress.step, loop.train.evaluate_every_steps
    by_cadence = ends_epoch if every is None else step % every == 0
    return by_cadence or loop.figures_due


def checkpoint_due(loop: Loop, *, ends_epoch: bool) -> bool:
    step, every = loop.progress.step, loop.train.checkpoint_every_steps
    return ends_epoch or (every is not None and step % every == 0)


def validate(loop: Loop) -> dict[str, Any]:
    """Score the validation split, note whether it is the best so far, write a sample; returns the figures."""
    with loop.step.averaging.applied():
        figures = validate_as_is(loop)
    loop.step.averaging.validated(figures["loss"])
    return figures


def validate_as_is(loop: Loop) -> dict[str, Any]:
    """Do what ``validate`` does, with the weights that the model has now."""
    assert loop.evaluate is not None
    score = loop.evaluate()
    check_validation_loss(loop, score.nats_per_token)
    progress = loop.progress
    best = score.perplexity < (progress.best_perplexity or math.inf)  # never one that is not finite
    if best:
        progress.best_perplexity = score.perplexity
    progress.num_worse = 0 if best else progress.num_worse + 1
    progress.num_drops += drops_now(loop.optimizer, progress.num_worse)
    figures = {
        "epoch": epochs_done(loop),
        "tokens": progress.tokens,
        "loss": score.nats_per_token,
        "perplexity": score.perplexity,
        "bits_per_byte": score.bits_per_byte,
    }
    if loop.monitor is not None:
        loop.monitor.write("valid", step=progress.step, best=best, **figures)
        if loop.sample is not None:
            loop.monitor.write("sample", step=progress.step, text=loop.sample())
    return figures


def agreed(loop: Loop) -> tuple[bool, bool]:
    """Return whether any rank was asked to stop, and whether to save (by rank 0's clock or any rank's request).

    All ranks give the same answer at the same step.
    """
    several = loop.step.world_size > 1
    if several and loop.progress.step % AGREE_EVERY_STEPS:
        return False, False
    minutes = loop.train.checkpoint_every_minutes
    by_clock = loop.step.rank == 0 and minutes is not None and time.monotonic() - loop.saved_at >= 60 * minutes
    asked = [loop.stop_requested(), by_clock, loop.save_requested()]
    if several:
        asked = [total > 0 for total in all_reduce_sum([float(one) for one in asked])]
    if asked[2] and loop.monitor is not None:
        text = "a node of this run is about to be taken away: saving now, training on until it is gone"
        loop.monitor.write("warning", step=loop.progress.step, text=text)
    return asked[0], asked[1] or asked[2]

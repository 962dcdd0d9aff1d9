"""Numbers that are not finite, and losses that rise too far, stop a run or undo its last update.

An update from numbers that are not finite never reaches the weights: the step sees to that on the device. Here the
host learns of it, at the next line of the record or before a checkpoint; with ``train.on_bad_window: undo`` at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from pipeline.metrics import all_reduce_sum
from pipeline.model.state import State
from pipeline.training.parts import Loop
from pipeline.training.rollback import Rollback

Updated = tuple[Tensor, Tensor, State]  # nats, gradient norm, next state


class TrainingStoppedError(RuntimeError):
    """Training cannot continue; the message says why, at which step, and which checkpoint is good."""


class DivergedError(TrainingStoppedError):
    """The numbers themselves went wrong: the same settings would end there again."""


def check_validation(figures: Mapping[str, Any]) -> None:
    """Raise ``DivergedError`` if the perplexity of a validation is not finite: such a trial is lost."""
    if not math.isfinite(figures["perplexity"]):
        raise DivergedError(
            f"the validation perplexity is not finite after {figures['tokens']:,} tokens "
            f"({figures['loss']:.4g} nats per token)"
        )


def check_finite(loop: Loop) -> None:
    """Stop a run whose gradients were not finite since the last look; the guard kept them from the weights.

    In fp16 that is an overflow, to which the loss scale has already reacted, unless it has fallen below 1.
    """
    num_refused = int(loop.step.refusals.number)
    is_new, loop.num_refused = num_refused > loop.num_refused, num_refused
    scale_lost = loop.step.precision == "fp16" and float(loop.step.loss_scale.scale) < 1.0
    if is_new and (loop.step.precision != "fp16" or scale_lost):
        raise DivergedError(
            f"a loss or gradient was not finite at or shortly before step {loop.progress.step:,} "
            f"(learning rate {loop.lr:.3g}); the update was not made"
        )


def check_loss(loop: Loop, loss: float) -> None:
    """Stop a run whose mean ``loss`` since the last line of the record, over all ranks, has risen too far."""
    limit = loss_limit(loop)
    if loss > limit:
        raise DivergedError(
            f"the loss rose to {loss:.3f} at step {loop.progress.step:,} (learning rate {loop.lr:.3g}), more than "
            f"train.max_loss_rise={loop.train.max_loss_rise:g} above its lowest, {loop.progress.lowest_loss:.3f}"
        )


def check_validation_loss(loop: Loop, loss: float) -> None:
    """Stop a run whose validation ``loss`` is not finite, although no gradient so far has shown that."""
    if not math.isfinite(loss):
        raise DivergedError(
            f"the validation loss is not finite at step {loop.progress.step:,} (learning rate {loop.lr:.3g})"
        )


def loss_limit(loop: Loop) -> float:
    """Return the largest loss at which a run continues, in nats per token."""
    lowest, rise = loop.progress.lowest_loss, loop.train.max_loss_rise
    return math.inf if lowest is None or rise is None else lowest + rise


def update_or_undo(loop: Loop, rollback: Rollback, update: Callable[[], Updated], *, num_targets: int) -> Updated:
    """Try ``update``; if its window's loss is bad, undo the update before it and try again. Waits for the device.

    Raises:
        DivergedError: the loss is bad again, or there is nothing to go back to.
    """
    rollback.remember()
    updated = update()
    bad = badness(loop, updated, num_targets)
    if not bad:
        return updated
    step = loop.progress.step + 1
    if not rollback.undo():
        raise DivergedError(
            f"{bad} at step {step:,}, the first since the run was started or its settings changed: nothing to undo"
        )
    if loop.monitor is not None:
        loop.monitor.write("warning", step=step - 1, text=f"{bad} at step {step:,}: undid the update before it")
    rollback.remember()
    updated = update()
    if bad := badness(loop, updated, num_targets):
        raise DivergedError(f"{bad} at step {step:,}, with the update before it undone as well")
    return updated


def badness(loop: Loop, updated: Updated, num_targets: int) -> str:
    """Say what is wrong with a window's loss or gradients, the same on all ranks; empty if nothing is."""
    nats, norm, _ = updated
    (total,) = all_reduce_sum([float(nats)])
    loss = total / max(1, num_targets)
    overflow_is_usual = loop.step.precision == "fp16"
    if not math.isfinite(loss) or not (overflow_is_usual or math.isfinite(float(norm))):
        return "a loss or gradient was not finite"
    return f"the loss rose to {loss:.3f}" if loss > loss_limit(loop) else ""

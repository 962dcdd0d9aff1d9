"""The learning rate as a pure function of where a run is."""

from __future__ import annotations

import math

from pipeline.config import OptimizerConfig


def learning_rate(config: OptimizerConfig, *, step: int, total_steps: int, epoch: int = 0, num_drops: int = 0) -> float:
    """The rate of update number ``step`` (from 0) of ``total_steps``, in ``epoch`` (from 0).

    constant; step (Zaremba et al. 2014: ``decay_factor`` for each epoch after the first ``decay_after_epochs``, or at
    the end of each of ``decay_at_epochs``);
    cosine (Loshchilov & Hutter 2017); 1cycle (Smith 2018: half cosines up from lr/25 and down to final_lr_ratio);
    inverse_sqrt (Vaswani et al. 2017: lr at the end of the warm-up, then as 1/√step); plateau (``decay_factor`` for
    each of ``num_drops`` times that validation was no better).
    """
    if config.schedule == "1cycle":
        return config.lr * _one_cycle(config, step / max(1, total_steps - 1))
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.lr
    if config.schedule == "step" and config.decay_at_epochs:
        return config.lr * config.decay_factor ** sum(epoch >= end for end in config.decay_at_epochs)
    if config.schedule == "step":
        return config.lr * config.decay_factor ** max(0, epoch + 1 - config.decay_after_epochs)
    if config.schedule == "plateau":
        return config.lr * config.decay_factor**num_drops
    if config.schedule == "inverse_sqrt":
        return config.lr * math.sqrt(max(1, config.warmup_steps) / (step + 1))
    done = (step - config.warmup_steps) / max(1, total_steps - config.warmup_steps)
    return config.lr * _half_cosine(1.0, config.final_lr_ratio, min(1.0, done))


def drops_now(config: OptimizerConfig, num_worse: int) -> bool:
    """Whether the plateau schedule lowers the rate after the validation that is the ``num_worse``-th since the best."""
    return config.schedule == "plateau" and num_worse > 0 and num_worse % config.plateau_patience == 0


def _one_cycle(config: OptimizerConfig, done: float) -> float:
    if done < config.peak_fraction:
        return _half_cosine(1 / 25, 1.0, done / config.peak_fraction)
    return _half_cosine(1.0, config.final_lr_ratio, (done - config.peak_fraction) / (1 - config.peak_fraction))


def _half_cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2

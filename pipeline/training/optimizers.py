"""The optimizer of a model, and its learning rate as a pure function of the step."""

from __future__ import annotations

import math

import torch
from torch import nn

from pipeline.config import OptimizerConfig


def build_optimizer(config: OptimizerConfig, model: nn.Module) -> torch.optim.Optimizer:
    """SGD or AdamW over ``model``; weight decay on matrices only, never on biases.

    The fused kernels are used on every device: they take the clip factor and the verdict on finite gradients as
    tensors, so that an update needs neither a further pass over the gradients nor the host's attention.
    """
    matrices = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.dim() <= 1]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, fused=True)
    betas = (config.beta1, config.beta2)
    return torch.optim.AdamW(groups, lr=config.lr, betas=betas, eps=config.eps, fused=True)


def learning_rate(config: OptimizerConfig, *, step: int, total_steps: int, steps_per_epoch: int) -> float:
    """The rate of update number ``step`` (from 0) of ``total_steps``.

    constant, step (Zaremba et al. 2014: ``decay_factor`` for each epoch after the first ``decay_after_epochs``),
    cosine (Loshchilov & Hutter 2017), 1cycle (Smith 2018: half cosines up from lr/25 and down to final_lr_ratio).
    """
    if config.schedule == "1cycle":
        return config.lr * _one_cycle(config, step / max(1, total_steps - 1))
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.lr
    if config.schedule == "step":
        epochs_decayed = max(0, step // steps_per_epoch + 1 - config.decay_after_epochs)
        return config.lr * config.decay_factor**epochs_decayed
    done = (step - config.warmup_steps) / max(1, total_steps - config.warmup_steps)
    return config.lr * _half_cosine(1.0, config.final_lr_ratio, min(1.0, done))


def _one_cycle(config: OptimizerConfig, done: float) -> float:
    if done < config.peak_fraction:
        return _half_cosine(1 / 25, 1.0, done / config.peak_fraction)
    return _half_cosine(1.0, config.final_lr_ratio, (done - config.peak_fraction) / (1 - config.peak_fraction))


def _half_cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2

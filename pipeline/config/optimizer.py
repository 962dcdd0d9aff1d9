"""Sections of what an update does: the optimizer, pruning."""

from __future__ import annotations

from typing import Literal

from pydantic import field_validator

from pipeline.config.fields import Section, setting, shown
from pipeline.errors import UserError

ADAPTIVE = "adam|adamw|rmsprop|muon"  # optimizers with a second moment; muon has one for what it leaves to adamw


class OptimizerConfig(Section):
    """Optimizer, learning-rate schedule, averaged weights."""

    name: Literal["sgd", "adam", "adamw", "rmsprop", "muon"] = setting(
        "adamw",
        "The optimizer; muon is for the matrices between embedding and head, with adamw for the rest.",
        source="Kingma & Ba 2015; Loshchilov & Hutter 2019; Tieleman & Hinton 2012; Jordan et al. 2024",
    )
    lr: float = setting(2e-3, "Learning rate at the schedule's peak.", gt=0)
    momentum: float = setting(0.0, "Momentum of sgd.", only_with="optimizer.name=sgd", ge=0, lt=1)
    muon_momentum: float = setting(0.95, "Momentum of muon.", only_with="optimizer.name=muon", ge=0, lt=1)
    beta1: float = setting(
        0.9, "Decay of the first moment of adam and adamw.", only_with="optimizer.name=adam|adamw|muon", ge=0, lt=1
    )
    beta2: float = setting(
        0.999,
        "Decay of the second moment of adam, adamw and rmsprop.",
        only_with=f"optimizer.name={ADAPTIVE}",
        ge=0,
        lt=1,
    )
    eps: float = setting(
        1e-8,
        "Term by which adam, adamw and rmsprop avoid division by zero.",
        only_with=f"optimizer.name={ADAPTIVE}",
        gt=0,
    )
    weight_decay: float = setting(0.0, "Weight decay (decoupled for adamw and muon, else added to the gradient).", ge=0)
    decayed: Literal["matrices", "all"] = setting(
        "matrices",
        "What weight_decay applies to: matrices, or biases and norms as well.",
        only_with="optimizer.weight_decay",
    )
    schedule: Literal["constant", "step", "cosine", "1cycle", "inverse_sqrt", "plateau"] = setting(
        "cosine",
        "Learning rate over the run: constant, a factor per epoch after decay_after_epochs, a half cosine to "
        "final_lr_ratio, up and down once, the inverse square root of the step after the warm-up, or a factor whenever "
        "validation is no better.",
        source="Zaremba et al. 2014; Loshchilov & Hutter 2017; Smith 2018; Vaswani et al. 2017",
    )
    warmup_steps: int = setting(
        0,
        "Steps of linear warm-up from 0 (not for 1cycle).",
        unit="steps",
        only_with="optimizer.schedule=constant|step|cosine|inverse_sqrt|plateau",
        ge=0,
    )
    decay_after_epochs: int = setting(
        4,
        "Epochs at full rate before step decay begins.",
        unit="epochs",
        only_with="optimizer.schedule=step and no optimizer.decay_at_epochs",
        ge=0,
    )
    decay_at_epochs: list[int] = setting(
        [],
        "Epochs after each of which step decay applies its factor; empty: every epoch after decay_after_epochs.",
        only_with="optimizer.schedule=step",
    )
    decay_factor: float = setting(
        0.5,
        "Factor of step decay per epoch, or of plateau per drop.",
        only_with="optimizer.schedule=step|plateau",
        gt=0,
        le=1,
    )
    plateau_patience: int = setting(
        1,
        "Validations without a better perplexity before plateau lowers the rate.",
        unit="validations",
        only_with="optimizer.schedule=plateau",
        ge=1,
    )
    final_lr_ratio: float = setting(
        0.0,
        "Final learning rate of cosine and 1cycle, divided by lr.",
        only_with="optimizer.schedule=cosine|1cycle",
        ge=0,
        le=1,
    )
    peak_fraction: float = setting(
        0.3, "Share of a 1cycle run during which the rate rises.", only_with="optimizer.schedule=1cycle", gt=0, lt=1
    )
    average: Literal["none", "exponential", "tail", "nonmonotonic"] = setting(
        "none",
        "Score, sample and save averaged weights: a moving average, the mean after average_after_epochs, or the mean "
        "from the first validation on that is worse than the best of all but the last average_patience (NT-ASGD, with "
        "sgd).",
        source="Polyak & Juditsky 1992; Merity et al. 2018",
    )
    average_decay: float = setting(
        0.999, "Decay of the exponential average per update.", only_with="optimizer.average=exponential", gt=0, lt=1
    )
    average_after_epochs: int = setting(
        1, "Epochs before the mean of tail begins.", unit="epochs", only_with="optimizer.average=tail", ge=0
    )
    average_patience: int = setting(
        5,
        "Number of latest validations that nonmonotonic does not compare with.",
        unit="validations",
        only_with="optimizer.average=nonmonotonic",
        ge=1,
    )

    @field_validator("decay_at_epochs")
    @classmethod
    def _different(cls, epochs: list[int]) -> list[int]:
        if any(epoch < 1 for epoch in epochs) or len(set(epochs)) < len(epochs):
            raise UserError(f"must be different numbers of epochs of at least 1, not {shown(epochs)}")
        return epochs


class PruneConfig(Section):
    """Weights set to zero by magnitude while training."""

    sparsity: float = setting(
        0.0,
        "Share of the entries of all matrices that are zero in the end; 0: none.",
        source="Zhu & Gupta 2017",
        ge=0,
        lt=1,
    )
    scope: Literal["matrix", "all"] = setting(
        "matrix", "Prune the smallest entries of each matrix, or of all matrices together.", only_with="prune.sparsity"
    )
    begin_fraction: float = setting(
        0.0, "Share of the run after which pruning begins.", only_with="prune.sparsity", ge=0, le=1
    )
    end_fraction: float = setting(
        0.75, "Share of the run after which nothing more is pruned.", only_with="prune.sparsity", ge=0, le=1
    )
    every_steps: int = setting(
        100, "Updates between two renewals of the pruning masks.", unit="steps", only_with="prune.sparsity", ge=1
    )

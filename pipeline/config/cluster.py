"""Sections of the cluster: where things run, and the search over settings."""

from __future__ import annotations

from typing import Any, Literal

from pipeline.config.fields import CountOrAuto, Section, setting


class ClusterConfig(Section):
    """Where and on how many workers things run."""

    backend: Literal["ray", "local"] = setting("ray", "ray, or local: the same loop in this process without Ray.")
    address: str | None = setting(
        None, "Ray cluster to join (host:port or ray://…); null: RAY_ADDRESS if set, else a private local one."
    )
    num_workers: CountOrAuto = setting(
        "auto", "Data-parallel workers; auto: one per GPU, or a single one with all threads.", unit="workers"
    )
    device: Literal["auto", "cpu", "cuda"] = setting("auto", "Device of a worker; auto: cuda where there is one.")
    cpus_per_worker: CountOrAuto = setting(
        "auto", "CPUs and threads of a worker; auto: this machine's CPUs over the workers.", unit="CPUs"
    )
    min_workers: int | None = setting(
        None,
        "Go on with as few workers as this while nodes are missing, and with more when they come back; null: always "
        "num_workers.",
        unit="workers",
        ge=1,
    )
    step_timeout_seconds: float | None = setting(
        300.0,
        "A worker that makes no step for so long counts as failed and is started again (backend ray); null: never.",
        unit="seconds",
        gt=0,
    )
    max_failures: int = setting(2, "Lost workers or nodes survived before a run gives up.", unit="failures", ge=0)


DEFAULT_SPACE = {
    "optimizer.lr": {"loguniform": [5e-4, 1e-2]},
    "model.hidden_size": {"choice": [128, 256, 512]},
    "train.bptt": {"choice": [32, 64, 128]},
}


class SearchConfig(Section):
    """Hyperparameter search by validation perplexity."""

    space: dict[str, Any] = setting(
        DEFAULT_SPACE,
        "Dotted path → list of values, or {choice: […]}, {uniform: [low, high]}, {loguniform: [low, high]}, "
        "{randint: [low, high]} (high excluded); every value and both ends must be ones that the setting takes.",
    )
    num_trials: int = setting(8, "Settings tried.", unit="trials", ge=1, le=100_000)
    max_concurrent: int | None = setting(None, "Trials at a time; null: as many as fit.", unit="trials", ge=1)
    scheduler: Literal["asha", "none"] = setting(
        "asha", "Stop the worse trials early, or let each run to its end.", source="Li et al. 2020"
    )
    max_tokens: int | None = setting(
        None, "Training budget of one trial; null: what train.* gives.", unit="tokens", ge=1
    )
    grace_tokens: int | None = setting(
        None, "Tokens before a trial may be stopped, the first rung; null: a ninth of the budget.", unit="tokens", ge=1
    )
    reduction_factor: int = setting(3, "One in so many trials goes on to the next rung.", ge=2)
    seed: int = setting(1, "Seed of the sampled settings.", ge=0, lt=2**32)

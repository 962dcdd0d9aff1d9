"""Section of the cluster: where things run."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from pipeline.config.fields import CountOrAuto, Section, setting, shown
from pipeline.errors import UserError


def _gpus(value: Any) -> Any:
    if isinstance(value, float) and value > 1 and not value.is_integer():
        raise UserError(f"must be a whole number, or a part of one GPU, not {shown(value)}")
    return value


class ClusterConfig(Section):
    """Where and on how many workers things run."""

    backend: Literal["ray", "local"] = setting("ray", "ray, or local: the same loop in this process without Ray.")
    address: str | None = setting(
        None,
        "Ray cluster to join (host:port or ray://…); null: RAY_ADDRESS if set, else a private local one.",
        only_with="cluster.backend=ray",
    )
    num_workers: CountOrAuto = setting(
        "auto",
        "Data-parallel workers; auto: one per GPU, or a single one with all threads; one for each run "
        "of a search or comparison.",
        unit="workers",
    )
    device: Literal["auto", "cpu", "cuda"] = setting("auto", "Device of a worker; auto: cuda if there is a GPU.")
    cpus_per_worker: CountOrAuto = setting(
        "auto",
        "CPUs and threads of a worker; auto: those of this machine or its container, divided among the workers (with "
        "backend=local OMP_NUM_THREADS if set); one for each run of a search or comparison without GPUs.",
        unit="CPUs",
    )
    gpus_per_worker: Annotated[float, BeforeValidator(_gpus)] = setting(
        1.0,
        "GPUs of a worker; for the trials of a search also a part of one (0.25: four trials share a GPU).",
        unit="GPUs",
        only_with="cluster.backend=ray",
        gt=0,
    )
    min_workers: int | None = setting(
        None,
        "Continue with as few workers as this while nodes are missing, and with more when they come back; null: always "
        "num_workers.",
        unit="workers",
        only_with="cluster.backend=ray",
        ge=1,
    )
    step_timeout_seconds: float | None = setting(
        300.0,
        "A worker that makes no step for this long counts as failed and is started again; null: never.",
        unit="seconds",
        only_with="cluster.backend=ray",
        gt=0,
    )
    max_failures: int = setting(
        2,
        "Lost workers or nodes that a run or trial survives in a row; a new checkpoint begins a new row.",
        unit="failures",
        only_with="cluster.backend=ray",
        ge=0,
    )

"""Make the paths in the settings absolute, so that every process of a run finds them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from pipeline import config as configuration
from pipeline import storage
from pipeline.config import Config
from pipeline.errors import UserError

# settings that may name a model
MODELS = ("train.initial_weights", "train.teacher")


def absolute(config: Config) -> Config:
    """Return ``config`` with absolute directories and ``~`` expanded, because workers start in folders of their own.

    Raises:
        UserError: this is a submitted job, and a path is relative.
    """
    if in_submitted_job():
        refuse_relative(config)
    given = [name for name in ("run.directory", "data.directory", *MODELS) if configuration.get(config, name)]
    return configuration.with_values(config, {name: absolute_path(configuration.get(config, name)) for name in given})


def absolute_path(path: str) -> str:
    """Return ``path`` in a form that is valid from any folder; addresses are unchanged."""
    return path if storage.is_uri(path) else str(Path(path).expanduser().absolute())


def of_seed(config: Config, seed: int) -> Config:
    """Return ``config`` for one of several seeds, with a run directory of its own."""
    directory = str(Path(str(config.run.directory)) / f"seed-{seed}")
    return configuration.with_values(config, {"train.seed": seed, "run.directory": directory})


def in_submitted_job() -> bool:
    """Return whether this process is the entry point of a job that was submitted to a cluster."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


def refuse_relative(config: Config) -> None:
    """Refuse relative paths: a submitted job runs in a folder that vanishes with it.

    Raises:
        UserError: naming each setting that is a relative path.
    """
    paths = [
        (name, configuration.get(config, name))
        for name in ("run.directory", "data.directory", "tokenizer.path", *MODELS)
    ]
    for name in ("corpus.train", "corpus.valid", "corpus.test"):
        paths += [(name, path) for path in configuration.get(config, name)]
    refuse_relative_paths(paths)


def refuse_relative_paths(paths: Iterable[tuple[str, str | None]]) -> None:
    """Raise ``UserError`` for each setting and path of ``paths`` that is relative."""
    relative = [
        (name, path)
        for name, path in paths
        if path and not path.startswith(("/", "~", "builtin:")) and "://" not in path
    ]
    if relative:
        raise UserError(
            "\n".join(
                f"{name}: {path} is relative, but a submitted job runs in a folder that vanishes with it; give an "
                "absolute path that every node of the cluster sees"
                for name, path in relative
            )
        )

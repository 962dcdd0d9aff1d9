"""Make the paths in the settings absolute, so that every process of a run finds them."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline import config as configuration
from pipeline import storage
from pipeline.config import Config
from pipeline.errors import UserError


def absolute(config: Config) -> Config:
    """Return ``config`` with absolute directories and ``~`` expanded, because workers start in folders of their own.

    Raises:
        UserError: this is a submitted job, and a path is relative.
    """
    if in_submitted_job():
        refuse_relative(config)
    changes = {}
    optional = ("train.initial_weights", "train.teacher")
    for name in ("run.directory", "data.directory", *(name for name in optional if configuration.get(config, name))):
        directory = configuration.get(config, name)
        changes[name] = directory if storage.is_uri(directory) else str(Path(directory).expanduser().absolute())
    return configuration.with_values(config, changes)


def of_seed(config: Config, seed: int) -> Config:
    """Return the run of ``config`` with another seed, one of several: it has a directory of its own."""
    directory = str(Path(str(config.run.directory)) / f"seed-{seed}")
    return configuration.with_values(config, {"train.seed": seed, "run.directory": directory})


def in_submitted_job() -> bool:
    """Whether this process is the entry point of a job that was submitted to a cluster."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


def refuse_relative(config: Config) -> None:
    """Refuse relative paths: a submitted job runs in a folder that vanishes with it.

    Raises:
        UserError: naming each setting that is a relative path.
    """
    names = ("run.directory", "data.directory", "train.initial_weights", "train.teacher")
    paths = [(name, configuration.get(config, name)) for name in names]
    for name in ("corpus.train", "corpus.valid", "corpus.test"):
        paths += [(name, path) for path in configuration.get(config, name)]
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

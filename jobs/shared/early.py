"""Find mistakes that are visible at once, before torch and Ray are imported, which takes seconds."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.config import Config

MANIFEST = "manifest.json"  # of a prepared corpus


def check(config: Config) -> None:
    """Find at once what the job would otherwise find later.

    Raises:
        UserError: texts, initial weights or a teacher that are not there, or no cluster at the address.
    """
    from pipeline.cluster.address import address_of, check_answers

    check_texts(config)
    check_models(config)
    if config.cluster.backend == "ray" and (address := address_of(config.cluster)):
        check_answers(address)


def check_texts(config: Config) -> None:
    """Raise ``UserError`` for a local pattern that nothing matches, unless the corpus is or may be prepared already."""
    directory = os.path.expanduser(str(config.data.directory))
    if "://" in directory or os.path.exists(os.path.join(directory, MANIFEST)):
        return
    for split in ("train", "valid", "test"):
        for pattern in getattr(config.corpus, split):
            if "://" in pattern or pattern.startswith("builtin:"):
                continue
            path = os.path.expanduser(pattern)
            if not os.path.exists(path) and next(glob.iglob(path, recursive=True), None) is None:
                raise UserError(f"corpus.{split}: no file matches {pattern}")


def check_prepared(directory: str) -> None:
    """Raise ``UserError`` where --verify names a local folder in which no corpus was prepared."""
    if "://" not in directory and not os.path.exists(os.path.join(os.path.expanduser(directory), MANIFEST)):
        raise UserError(f"--verify: no prepared corpus in {directory} (run jobs.prepare)")


def check_models(config: Config) -> None:
    """Raise ``UserError`` where ``train.initial_weights`` or ``train.teacher`` holds no model, unless the run may have
    begun already."""
    from pipeline.training.selection import CHECKPOINTS, choose
    from pipeline.training.teaching.kinds import kind_of

    if os.path.exists(os.path.join(os.path.expanduser(str(config.run.directory)), CHECKPOINTS)):
        return
    looks: dict[str, Callable[[str], object]] = {"initial_weights": choose, "teacher": kind_of}
    for name, look in looks.items():
        path = getattr(config.train, name)
        try:
            if path is not None:
                look(os.path.expanduser(path))
        except UserError as error:
            raise UserError(f"train.{name}: {error}") from None

"""Find and load the model that ``--run DIR`` and ``--checkpoint`` name."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import UserError

if TYPE_CHECKING:
    import torch

    from pipeline.data.windows import Tokens
    from pipeline.training.checkpoint import Loaded

MODEL = "a run directory, or a checkpoint's or model's folder"


def add_run(result: argparse.ArgumentParser, *, several: bool = False) -> None:
    """Add the options that name a model, or several models."""
    result.add_argument("--run", required=True, nargs="+" if several else None, metavar="DIR", help=MODEL)
    add_checkpoint(result)


def add_checkpoint(result: argparse.ArgumentParser) -> None:
    """Add the option that names a checkpoint of a run."""
    result.add_argument("--checkpoint", choices=["best", "last"], help="which one of a run directory; default: best")


def names_of(directories: Sequence[str], *, option: str = "--run") -> list[str]:
    """Name each directory by its last part if these differ, else by its path. Raises ``UserError`` for a repetition."""
    if len(set(directories)) < len(directories):
        raise UserError(f"{option}: the same directory twice: {' '.join(directories)}")
    names = [Path(directory).name for directory in directories]
    return names if len(set(names)) == len(names) else list(directories)


def add_device(result: argparse.ArgumentParser) -> None:
    """Add the option that names the device of a model."""
    result.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="default: auto")


def device_of(arguments: argparse.Namespace) -> torch.device:
    """Return the device that --device names. Raises ``UserError`` for a missing GPU."""
    from pipeline.resources import resolve_device

    return resolve_device(arguments.device, argument="device")


def check(arguments: argparse.Namespace, *others: str) -> None:
    """Raise ``UserError`` if --run or one of ``others`` is not a model. Does not import torch."""
    from pipeline.training.selection import choose

    named = arguments.run if isinstance(arguments.run, list) else [arguments.run]
    for directory in (*named, *others):
        choose(directory, wanted(directory, arguments))


def wanted(directory: str, arguments: argparse.Namespace) -> str | None:
    """Return which checkpoint of ``directory`` is meant, or None if the directory is a model's own folder."""
    from pipeline.training.selection import is_model_folder

    return arguments.checkpoint or (None if is_model_folder(directory) else "best")


def load_streams(
    directories: Mapping[str, str], arguments: argparse.Namespace, *, followed: str
) -> dict[str, tuple[Loaded, Tokens]]:
    """Load every model, by name, with the tokens of its --split, before any of them is measured.

    Args:
        directories: the models by name.
        followed: what is measured along these tokens, in the message.

    Raises:
        UserError: as ``load``; a model reads documents, or its corpus or the split is missing.
    """
    from pipeline import run
    from pipeline.evaluate import split_held_out

    found = {}
    for name, directory in directories.items():
        loaded = load(directory, arguments, device_of(arguments))
        if loaded.config.data.layout == "documents":
            raise UserError(f"--run: {directory} reads data.layout=documents, but {followed} along a stream")
        found[name] = loaded, split_held_out(run.corpus_of(loaded), arguments.split).tokens
    return found


def load(directory: str, arguments: argparse.Namespace, device: str | torch.device = "cpu") -> Loaded:
    """Load the model that ``directory`` and --checkpoint name, and print remarks on it to standard error.

    Raises:
        UserError: as ``pipeline.training.checkpoint.load_model``.
    """
    from pipeline.allocator import keep_freed_memory
    from pipeline.resources import limit_threads
    from pipeline.training.checkpoint import load_model

    if str(device) == "cpu":
        keep_freed_memory()
        limit_threads()
    loaded = load_model(directory, device, which=wanted(directory, arguments))
    for remark in loaded.remarks:
        print(f"note: {remark}", file=sys.stderr)
    return loaded

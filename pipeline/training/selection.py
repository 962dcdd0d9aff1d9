"""Which of a run's checkpoints is meant: the best, the last, or the newest that is whole.

A run that continues takes the newest that is whole. Whoever asks for the best or the last gets that one or a refusal,
never another in its place; manifests decide which is the best, so one that cannot be trusted leaves it open. A run that
is training may drop a checkpoint at any moment: the choice is then made again.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError

from pipeline.errors import CannotContinueError, UserError
from pipeline.training.manifest import MANIFEST, STATE, WEIGHTS, DamagedError, check_files, read_manifest, verify

CHECKPOINTS = "checkpoints"
NAME = re.compile(r"step-(\d{8,})")
# often enough for a run that drops a checkpoint each time that somebody looks
ATTEMPTS = 20
MAX_NAMED = 3
T = TypeVar("T")
Manifest = dict[str, Any]


@dataclass(frozen=True)
class Choice:
    """A checkpoint or model folder; ``which`` of its run it is, and a ``remark`` on that for the user."""

    path: Path
    which: str = ""
    remark: str = ""


@dataclass(frozen=True)
class Survey:
    """The checkpoints of a run, oldest first: those whose manifest can be trusted, and those whose cannot."""

    trusted: list[tuple[Path, Manifest]]
    damaged: dict[Path, str]  # what is wrong, a sentence

    @property
    def best(self) -> tuple[Path, Manifest] | None:
        """The first with the lowest validation perplexity; None if no finite one is known."""
        validated = [item for item in self.trusted if math.isfinite(item[1].get("perplexity", math.nan))]
        return min(validated, key=lambda item: item[1]["perplexity"], default=None)


def folders(run_directory: str | Path) -> list[Path]:
    """The folders of a run's checkpoints, oldest first."""
    found = (Path(run_directory) / CHECKPOINTS).glob("step-*")
    return sorted((path for path in found if NAME.fullmatch(path.name)), key=step_of)


def survey(run_directory: str | Path) -> Survey:
    """All checkpoints that a run has at one moment; only their manifests are read."""
    for _ in range(ATTEMPTS):
        paths, trusted, damaged = folders(run_directory), [], {}
        for path in paths:
            try:
                trusted.append((path, manifest_of_step(path)))
            except DamagedError as error:
                damaged[path] = str(error)
        if folders(run_directory) == paths:
            break
    return Survey(trusted, damaged)


def manifest_of_step(path: Path) -> Manifest:
    """The manifest of the checkpoint at ``path`` of a run. Raises ``DamagedError``, also if it is of another step."""
    manifest = read_manifest(path)
    if path.name != f"step-{manifest['step']:08d}":
        raise DamagedError(f"{path / MANIFEST}: is of step {manifest['step']}, which is not that of its folder")
    return manifest


def manifests(run_directory: str | Path) -> list[tuple[Path, Manifest]]:
    """(folder, manifest) of the checkpoints of a run, oldest first, except those whose manifest is damaged."""
    return survey(run_directory).trusted


def newest(run_directory: str | Path) -> tuple[Path, Manifest] | None:
    """The newest checkpoint that is whole, with its manifest; None if the run has none at all.

    Raises:
        UserError: there are checkpoints, and none is whole.
    """
    found = survey(run_directory)
    sentences = list(found.damaged.values())
    for path, manifest in reversed(found.trusted):
        try:
            check_files(path, manifest)
        except DamagedError as error:
            sentences.append(str(error))
        else:
            return path, manifest
    if sentences:
        raise CannotContinueError(f"{sentences[-1]}; {run_directory} has no checkpoint that is whole")
    return None


def find(run_directory: str | Path, which: str = "best") -> Path:
    """The ``best`` (lowest validation perplexity; the last if none was validated) or ``last`` checkpoint, verified.

    Raises:
        UserError: there is none there, or the one that is meant is damaged.
    """
    return reading(run_directory, which, lambda choice: (choice.path, verify(choice.path)))[0]


def reading(path: str | Path, which: str | None, read: Callable[[Choice], T]) -> T:
    """``read`` of the checkpoint that ``path`` means (see ``choose``); chosen again if its run drops it meanwhile.

    Raises:
        UserError: there is none there, the one that is meant is damaged, or ``read`` refuses it.
    """
    for attempt in range(1, ATTEMPTS + 1):
        choice = choose(path, which)
        try:
            return read(choice)
        except (UserError, OSError, SafetensorError) as error:
            is_dropped = choice.which and not choice.path.exists()
            if is_dropped and attempt < ATTEMPTS:
                continue
            if isinstance(error, DamagedError) and choice.which:
                sentence = f"{error}, and this is the {choice.which} checkpoint"
                raise UserError(f"{sentence}; {_others(path)}") from None
            raise
    raise AssertionError("the last attempt returns or raises")


def choose(path: str | Path, which: str | None = None) -> Choice:
    """The checkpoint or model folder at ``path`` itself; of a run directory the best, or ``which``.

    Raises:
        UserError: ``path`` is neither, ``which`` is asked of what is no run, or which one is the best is not known.
    """
    path = Path(path)
    if not os.path.isdir(path):  # Path.glob raises what it finds wrong with a name
        raise UserError(f"{path}: no checkpoint there ({_what_is_there(path)})")
    if is_model_folder(path):
        if which is not None:
            raise UserError(f"{path} is one checkpoint itself; leave out {which}", argument="checkpoint")
        return Choice(path)
    found = survey(path)
    if not found.trusted and not found.damaged:
        raise UserError(f"{path}: no checkpoint there ({_what_is_there(path)})")
    last = max([*found.damaged, *(folder for folder, _ in found.trusted)], key=step_of)
    if which == "last":
        return Choice(last, "last")
    if found.damaged:
        sentence = next(iter(found.damaged.values()))
        raise UserError(f"{sentence}, so which checkpoint is the best is not known; {_others(path)}")
    if found.best is None:
        return Choice(last, "last", _remark(found))
    remark = _remark(found)
    return Choice(found.best[0], "best left" if remark else "best", remark)


def is_model_folder(path: str | Path) -> bool:
    """Whether ``path`` is itself a checkpoint, or a folder with a model for use."""
    return any(os.path.exists(os.path.join(path, name)) for name in (WEIGHTS, STATE))


def step_of(folder: Path) -> int:
    """The step of a checkpoint of a run, from the name of its ``folder``."""
    match = NAME.fullmatch(folder.name)
    assert match is not None
    return int(match[1])


def _remark(found: Survey) -> str:
    """Say that the run has had a better validation than any of the checkpoints left; empty if it has not."""
    figures = [manifest["best_perplexity"] for _, manifest in found.trusted if manifest["best_perplexity"] is not None]
    lowest = min(filter(math.isfinite, figures), default=math.inf)
    best = found.best
    if lowest >= (best[1]["perplexity"] if best else math.inf):
        return ""
    left = f"{best[0].name} is the best of those left" if best else "none of those left was validated"
    return f"the best checkpoint of this run (validation perplexity {lowest:,.2f}) no longer exists; {left}"


def _others(run_directory: str | Path) -> str:
    """How to ask for one of the whole checkpoints instead."""
    names: list[str] = []
    for path in reversed(folders(run_directory)):
        with suppress(DamagedError):
            check_files(path, read_manifest(path))
            names.append(f"the folder {path}")
        if len(names) == MAX_NAMED:
            break
    return f"to take another, name it: {' or '.join(names)}" if names else "there is no other that is whole"


def _what_is_there(path: Path) -> str:
    """What somebody may have taken for a run, in words."""
    if not os.path.exists(path):
        return "there is no such directory"
    if not os.path.isdir(path):
        return "it is a file; name the run directory or a checkpoint's folder"
    names = sorted(each.name for each in path.iterdir())
    if "trials" in names:
        return f"it is a search; name one of its trials, {path / 'trials'}/…"
    if models := [name for name in names if is_model_folder(path / name)]:
        return f"it holds several; name one of them, {' or '.join(models[:MAX_NAMED])}"
    if "model.onnx" in names:
        return "it is a model exported as ONNX"
    if any(name.endswith(".arrow") for name in names):
        return "it is a prepared corpus"
    if "metrics.jsonl" in names:
        return "it is a run that has not saved one yet"
    return (
        f"it holds {', '.join(names[:MAX_NAMED])}{', …' if len(names) > MAX_NAMED else ''}" if names else "it is empty"
    )

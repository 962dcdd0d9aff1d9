"""Checkpoints are written alongside training: the training thread copies the state, another thread writes it.

A write that fails (full disk, lost storage) does not end the run: it is reported, the next checkpoint is tried, and
what was written before stays. Only the last one must succeed.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import torch

from pipeline.config import Config
from pipeline.data.tokenizer import Tokenizer
from pipeline.files import UnwritableError, reason
from pipeline.training import checkpoint
from pipeline.training.directory import RunDirectory
from pipeline.training.guard import TrainingStoppedError
from pipeline.training.parts import Loop
from pipeline.training.resume import as_saved
from pipeline.training.word_marks import AT_WORDS


class Saver:
    """Saves the checkpoints of a run, at most one at a time; only rank 0 writes."""

    def __init__(
        self,
        directory: RunDirectory,
        *,
        config: Config,
        tokenizer: Tokenizer,
        facts: Mapping[str, Any],
        writes: bool,
    ) -> None:
        self.directory = directory
        self.config = config
        self.tokenizer = tokenizer
        self.facts = facts
        self.writes = writes
        self.thread: threading.Thread | None = None
        self.error: BaseException | None = None
        self.untold = self.last_failure = ""
        self.unsaved_words: list[int] = []  # numbers that the next checkpoint stands for, until one is written

    def save(self, loop: Loop, figures: Mapping[str, Any]) -> None:
        """Begin to write the state of ``loop``; all ranks call it. Returns once it is copied.

        Raises:
            LostOwnershipError: another driver has taken the run over.
        """
        states = {name: part.state_dict() for name, part in loop.parts.items()}
        if not self.writes:
            return
        self.wait()
        facts = dict(figures)
        self.unsaved_words += facts.pop(AT_WORDS, [])
        if self.unsaved_words:
            facts[AT_WORDS] = list(self.unsaved_words)
        weights, state, progress = as_saved(copy_to_host(states))
        copied = {"weights": weights, "state": state, "facts": {**self.facts, **facts, **progress}}
        self.thread = threading.Thread(target=self._write, args=(copied,), name="checkpoint")
        self.thread.start()

    def _write(self, copied: Mapping[str, Any]) -> None:
        try:
            checkpoint.save(self.directory, **copied, config=self.config, tokenizer=self.tokenizer)
        except BaseException as error:
            self.error = error

    def wait(self) -> None:
        """Wait for the write under way. Raises what ended it, unless the storage failed (see ``failure``)."""
        if self.thread is None:
            return
        self.thread.join()
        error, self.thread, self.error = self.error, None, None
        self.last_failure = ""
        if isinstance(error, (OSError, UnwritableError)):
            self.last_failure = f"a checkpoint could not be written ({told(error)}); the earlier ones are as they were"
            self.untold = self.last_failure
        elif error is not None:
            raise error
        else:
            self.unsaved_words = []

    def failure(self) -> str:
        """Return what the storage answered to a write that failed since the last call; empty if none did."""
        if self.thread is not None and not self.thread.is_alive():
            self.wait()
        told, self.untold = self.untold, ""
        return told

    def finish(self) -> None:
        """Wait for the last write. Raises ``TrainingStoppedError`` if it failed."""
        self.wait()
        if self.last_failure:
            raise TrainingStoppedError(self.last_failure)


def told(error: OSError | UnwritableError) -> str:
    """Say what the storage answered, and where."""
    if isinstance(error, UnwritableError):
        return str(error)
    return f"{error.filename}: {reason(error)}" if error.filename else reason(error)


def copy_to_host(tree: Any) -> Any:
    """Copy every tensor in a ``tree`` of dicts, lists and tuples to the host's memory."""
    if isinstance(tree, torch.Tensor):
        return tree.detach().to("cpu", copy=True)
    if isinstance(tree, dict):
        return {key: copy_to_host(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(copy_to_host(value) for value in tree)
    return tree

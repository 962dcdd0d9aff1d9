"""The directory of a corpus while it is written: made, held by one process, removed if preparation comes to nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline import storage
from pipeline.config import CorpusConfig
from pipeline.errors import UserError
from pipeline.files import hold, make_directory, reason, remove_if_empty
from pipeline.globs import would_name

LOCK = ".lock"
SPLITS = ("train", "valid", "test")
OWN_FILES = ("manifest.json", "tokenizer.json", "sources.json", *(f"train-00000.{end}" for end in ("arrow", "index")))
Say = Callable[[str], None]


class OtherCorpusError(UserError):
    """A directory holds a corpus, or shards of one, with other settings or another text than wanted."""


class BeingPreparedError(UserError):
    """Another process is preparing a directory."""


KEEPING = (storage.UnwritableError, OtherCorpusError, BeingPreparedError)


def check_apart(directory: str, corpus: CorpusConfig) -> None:
    """Raise ``UserError`` if what is written to a local ``directory`` would be taken for text the next time."""
    patterns = {pattern: split for split in SPLITS for pattern in getattr(corpus, split)}
    for pattern, split in {} if storage.is_uri(directory) else patterns.items():
        if any(would_name(pattern, os.path.join(directory, name)) for name in OWN_FILES):
            raise UserError(
                f"data.directory: what is written to {directory} would be among the texts of corpus.{split} "
                f"({pattern}) the next time; name a directory elsewhere"
            )


@contextmanager
def new_directory(directory: str) -> Iterator[None]:
    """Make ``directory``; if the text turns out to be wrong, remove it again unless it was there before.

    What is done is kept if the disk is at fault, or a text was changed meanwhile; what another process does, in any
    case. A bucket has no folders to make.
    """
    if storage.is_uri(directory):
        yield
        return
    path = Path(directory)
    try:
        made = make_directory(path)
    except OSError as error:
        raise UserError(f"data.directory: cannot write to {directory}: {error.strerror}") from None
    try:
        yield
    except UserError as error:
        if path in made and not isinstance(error, KEEPING):
            shutil.rmtree(path, ignore_errors=True)
            remove_if_empty(made)
        raise
    except BaseException:
        remove_if_empty(made)
        raise


@contextmanager
def locked(directory: str, say: Say) -> Iterator[None]:
    """Hold ``directory`` for this process; the lock ends with the process. A bucket has no locks.

    Raises:
        BeingPreparedError: another process holds it.
    """
    if storage.is_uri(directory):
        yield
        return
    path, descriptor = Path(directory) / LOCK, None
    try:
        descriptor = hold(path)
    except BlockingIOError:
        raise BeingPreparedError(
            f"data.directory: {directory} is being prepared by another process; wait until it ends, or name another one"
        ) from None
    except OSError as error:
        say(f"{directory} cannot be locked ({reason(error)}): let no other process prepare it at the same time")
    try:
        yield
    finally:
        if descriptor is not None:
            path.unlink(missing_ok=True)
            os.close(descriptor)

"""Find mistakes that are visible at once, before torch and Ray are imported, which takes seconds."""

from __future__ import annotations

import glob
import os
import warnings
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

from pipeline.errors import Notice, UserError

if TYPE_CHECKING:
    from pipeline.config import Config

MANIFEST = "manifest.json"  # of a prepared corpus
TABLES = (".csv", ".tsv")  # which are no format of a corpus
RUN_FILES = ("owner", "config.yaml", "metrics.jsonl")  # which every run writes into its directory


def check(config: Config) -> None:
    """Find at once what the job would otherwise find later.

    Raises:
        UserError: texts, initial weights or a teacher that are missing, or no cluster at the address.
    """
    from pipeline.cluster.address import address_of, check_answers, origin_of

    check_texts(config)
    check_models(config)
    if config.cluster.backend == "ray" and (address := address_of(config.cluster)):
        check_answers(address, origin=origin_of(config.cluster))


def check_texts(config: Config) -> None:
    """Raise ``UserError`` for a local pattern that nothing matches, unless the corpus is or may be prepared already.

    There is a notice if tables would be read as plain text.
    """
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
            if pattern.lower().endswith(TABLES) and config.corpus.format == "auto":
                note([f"corpus.{split}: {pattern} is read as plain text, commas and all; JSON Lines have fields"])


def check_apart(config: Config) -> None:
    """Raise ``UserError`` if what a run writes to its directory would be taken for text."""
    from pipeline.globs import would_name

    directory = os.path.expanduser(str(config.run.directory))
    for split in ("train", "valid", "test"):
        for pattern in getattr(config.corpus, split):
            is_local = "://" not in pattern and not pattern.startswith("builtin:")
            if is_local and any(would_name(pattern, os.path.join(directory, name)) for name in RUN_FILES):
                raise UserError(
                    f"run.directory: what is written to {directory} would be among the texts of corpus.{split} "
                    f"({pattern}); name another directory, or only the texts (such as *.txt)"
                )


def note_unused(
    config: Config, *, sections: Collection[str] = (), varied: Collection[str] = (), only: Collection[str] = ()
) -> None:
    """Give a notice for each setting that has no effect; see ``pipeline.config.unused``.

    ``only``: sections to which the job is limited; empty: all.
    """
    from pipeline.config.unused import unused

    found = unused(config, sections=sections, varied=varied)
    note(text for path, text in found.items() if not only or path.partition(".")[0] in only)


def note(sentences: Iterable[str]) -> None:
    """Give each of ``sentences`` as a notice, which a job prints as it stands."""
    for sentence in sentences:
        warnings.warn(sentence, Notice, stacklevel=2)


def check_prepared(directory: str, *, argument: str) -> None:
    """Raise ``UserError`` if ``argument`` names a local folder in which no corpus was prepared."""
    path = os.path.expanduser(directory)
    if "://" not in directory and not os.path.exists(os.path.join(path, MANIFEST)):
        near = sorted(glob.glob(os.path.join(f"{glob.escape(path.rstrip('/'))}-*", MANIFEST)))  # data/NAME-HASH
        hint = " or ".join(os.path.dirname(found) for found in near[:3])
        raise UserError(
            f"no prepared corpus in {directory} ({f'did you mean {hint}?' if near else 'run jobs.prepare'})",
            argument=argument,
        )


def check_models(config: Config) -> None:
    """Raise ``UserError`` if ``train.initial_weights`` or ``train.teacher`` holds no model, unless the run may have
    begun already."""
    from pipeline.training.selection import CHECKPOINTS

    if os.path.exists(os.path.join(os.path.expanduser(str(config.run.directory)), CHECKPOINTS)):
        return
    for name in ("initial_weights", "teacher"):
        if (path := getattr(config.train, name)) is not None:
            look_at(f"train.{name}", path)


def check_searched_models(config: Config) -> None:
    """Raise ``UserError`` if ``search.space`` lists a path for these settings that holds no model."""
    from pipeline.search.paths import searched

    for name in ("train.initial_weights", "train.teacher"):
        for path in searched(config, name):
            look_at(name, path, said_in="search.space.")


def look_at(name: str, path: str, *, said_in: str = "") -> None:
    """Raise ``UserError`` unless ``path`` holds what the setting ``name`` takes. Does not import torch."""
    from pipeline.training.selection import choose
    from pipeline.training.teaching.kinds import kind_of

    look: Callable[[str], object] = kind_of if name == "train.teacher" else choose
    try:
        look(os.path.expanduser(path))
    except UserError as error:
        raise UserError(f"{said_in}{name}: {error}") from None

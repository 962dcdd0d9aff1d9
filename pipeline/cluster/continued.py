"""Whether a directory holds the search or the comparison that a command is to continue, on the same corpus."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from pipeline import config as configuration
from pipeline.config import Config
from pipeline.config.start import BEFORE, OF_THE_START, is_older, starts_as_before
from pipeline.data.shards import PreparedCorpus
from pipeline.errors import Notice, UserError
from pipeline.search.journal import COMPARISON, SEARCH, TOKENS, kind_of, read_journal
from pipeline.search.paths import with_absolute_space
from pipeline.training.directory import RunDirectory
from pipeline.training.monitor import Record

# what may differ between two starts of one search; anything else would make its trials incomparable
MAY_DIFFER = (
    "cluster.", "run.", "data.directory", "search.max_concurrent", "search.num_trials", "search.max_total_tokens",
    "search.max_hours", "search.confirm", "search.keep", "compare.",
)  # fmt: skip


def check_same_search(
    directory: RunDirectory, config: Config, *, what: str = SEARCH, may_differ: tuple[str, ...] = MAY_DIFFER
) -> None:
    """Raise ``UserError`` if the directory holds another search, naming the settings, or something else.

    Args:
        what: a search or a comparison, which works like one.
        may_differ: beginnings of the paths of settings that may differ between two starts.
    """
    if directory.metrics.exists() or directory.checkpoints.exists():
        raise UserError(f"run.directory: {directory.path} holds a run, not a {what}; name another directory")
    if (found := kind_of(read_journal(directory.path))) != what and found:
        raise UserError(f"run.directory: {directory.path} holds a {found}, not a {what}; name another directory")
    if not directory.config.exists():
        return
    try:
        old = configuration.dump(with_absolute_space(configuration.load(directory.config)))
    except UserError as error:
        raise UserError(
            f"run.directory: {directory.config} is not a whole configuration ({' '.join(str(error).split())}); without "
            f"this file the {what} continues with the given settings"
        ) from None
    is_old = is_older(directory.config)
    may_differ = (*may_differ, *(OF_THE_START if is_old else ()))
    different = [
        f"{section}.{name}: this {what} was started with {old[section].get(name)!r} and cannot continue with {value!r}"
        for section, values in configuration.dump(config).items()
        for name, value in values.items()
        if old[section].get(name) != value and not f"{section}.{name}".startswith(may_differ)
    ]
    if is_old and not starts_as_before(config.model):
        said = f"this {what} is of a version whose weights started as with {BEFORE}"
        warnings.warn(f"model.input_gain: {said}; without these, later trials start differently", Notice, stacklevel=2)
    if different:
        beside = f"({directory.config} says so; another run.directory starts a separate {what})"
        raise UserError("\n".join([*different, beside]))


def check_same_corpus(records: Sequence[Record], corpus: PreparedCorpus, *, what: str = SEARCH) -> None:
    """Raise ``UserError`` if the trials in a journal were trained on another corpus; earlier ones do not say.

    A comparison may continue where the same text has another place: unlike a search, it needs no former checkpoint.
    """
    said = records[0] if records else {}
    if what == COMPARISON and TOKENS in said:
        is_same = said[TOKENS] == corpus.tokens_fingerprint
    else:
        is_same = said.get("corpus", corpus.fingerprint) == corpus.fingerprint
    if not is_same:
        raise UserError(
            f"data.directory: {corpus.directory} holds another corpus than the one that the trials of this {what} were "
            f"trained on; another run.directory starts a separate {what}"
        )

"""Check ``train.changes``, the settings that change within a run, and tell what is in force at a number of tokens.

A run with changes is a function of its configuration alone. Whatever a running model and its optimizer can take up
can change, but nothing that decides a shape, the data, the meaning of a figure or the draws of masks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.config import checks
from pipeline.config.fields import shown
from pipeline.config.loading import field_value, with_values
from pipeline.config.names import section_fields, unknown
from pipeline.config.schema import Config
from pipeline.config.training import Change
from pipeline.errors import UserError

WHAT_CAN = "learning rate and its schedule, dropouts, weight decay, momenta, clipping, penalties and bptt"
FORM = "{tokens: N, settings: {section.field: value}}"
CHANGEABLE = {
    "model": (
        "dropout", "input_dropout", "hidden_dropout", "output_dropout", "embedding_dropout", "weight_dropout",
    ),
    "train": (
        "bptt", "clip_norm", "clip_value", "clip_percentile", "activation_penalty", "temporal_activation_penalty",
    ),
    "optimizer": (
        "lr", "momentum", "muon_momentum", "beta1", "beta2", "eps", "weight_decay", "schedule", "warmup_steps",
        "decay_after_epochs", "decay_at_epochs", "decay_factor", "plateau_patience", "final_lr_ratio", "peak_fraction",
        "average_decay",
    ),
}  # fmt: skip


def why_fixed(config: Config, path: str) -> str:
    """Why the setting at ``path`` cannot change within a run of ``config``; empty if it can."""
    section, _, field = path.partition(".")
    if section not in Config.model_fields or field not in section_fields(section):
        return unknown(path).partition(": ")[2]
    if field not in CHANGEABLE.get(section, ()):
        return f"cannot change in a running model ({WHAT_CAN} can)"
    if path == "train.bptt":
        if config.data.layout == "documents":
            return "cannot change in a run on documents, whose order depends on their lengths (data.layout=documents)"
        if config.train.max_words is not None:
            return "cannot change in a run that ends before a window would exceed its number of words (train.max_words)"
        if config.train.reset_state == "windows":
            return "cannot change if the state is reset every few windows (train.reset_state=windows)"
        if config.prune.sparsity:
            return "cannot change in a run that prunes, which counts its updates (prune.sparsity)"
    return ""


def as_meant(changes: Any) -> tuple[list[Any], list[str]]:
    """Return ``changes`` with each value as its setting takes it, and a sentence for everything that is wrong."""
    if not isinstance(changes, list):
        return [], [f"train.changes: must be a list of {FORM}, not {shown(changes)}"]
    meant, problems = [], []
    for change in changes:
        try:
            meant.append(_one_as_meant(change))
        except UserError as error:
            problems += [f"train.changes: {line}" for line in str(error).splitlines()]
    return meant, list(dict.fromkeys(problems))  # a repeated mistake is reported once


def _one_as_meant(change: Any) -> dict[str, Any]:
    """Return one change with its values as their settings take them. Raises ``UserError``, one line a mistake."""
    if not isinstance(change, dict) or change.keys() != {"tokens", "settings"}:
        raise UserError(f"must be a list of {FORM}, not of {shown(change)}")
    tokens, settings = checks.as_meant(Change, change)[0].get("tokens"), change["settings"]
    if isinstance(tokens, float) and tokens.is_integer():
        tokens = int(tokens)
    if type(tokens) is not int or not 1 <= tokens <= checks.MOST_WHOLE:
        raise UserError(f"tokens must be a whole number of at least 1, not {shown(change['tokens'])}")
    if not isinstance(settings, dict) or not settings or not all(isinstance(path, str) for path in settings):
        raise UserError(f"settings must be section.field: value, at least one, not {shown(settings)}")
    taken, problems = dict(settings), []
    for path, value in settings.items():
        section, _, field = path.partition(".")
        if field in CHANGEABLE.get(section, ()):
            try:
                taken[path] = field_value(path, value)
            except UserError as error:
                problems += str(error).splitlines()
    if problems:
        raise UserError("\n".join(problems))
    return {"tokens": tokens, "settings": taken}


def problems_of(config: Config) -> list[str]:
    """What is wrong with the changes of ``config``, a sentence each: settings that cannot change, and values that
    do not go with the others in force then."""
    problems = [
        f"train.changes: {path}: {reason}"
        for change in config.train.changes
        for path in change.settings
        if (reason := why_fixed(config, path))
    ]
    if problems:
        return list(dict.fromkeys(problems))
    for change in config.train.changes:
        try:
            in_force(config, change.tokens)
        except UserError as error:
            return [f"train.changes: at {change.tokens:,} tokens: {line}" for line in str(error).splitlines()]
    return []


def settings_at(config: Config, tokens: int) -> dict[str, Any]:
    """Return the changed settings, by path, of the update that begins at ``tokens``."""
    settings: dict[str, Any] = {}
    for change in config.train.changes:
        if change.tokens <= tokens:
            settings |= change.settings
    return settings


def in_force(config: Config, tokens: int) -> Config:
    """Return ``config`` as it is in force for the update that begins at ``tokens``, without any changes."""
    if not config.train.changes:
        return config
    return with_values(config, {**settings_at(config, tokens), "train.changes": []})


def next_change(config: Config, tokens: int) -> int | None:
    """Return the tokens of the first change that is not in force at ``tokens``, or None."""
    return next((change.tokens for change in config.train.changes if change.tokens > tokens), None)


def stretches(config: Config) -> Iterator[tuple[int, Config]]:
    """Yield (tokens, settings from there on) for each stretch of a run of ``config``, the first from 0."""
    for tokens in (0, *(change.tokens for change in config.train.changes)):
        yield tokens, in_force(config, tokens)


def difference(before: Config, after: Config) -> Mapping[str, tuple[Any, Any]]:
    """Return the changeable settings, by path, in which two configurations differ, with both values."""
    pairs = {
        f"{section}.{field}": (getattr(getattr(before, section), field), getattr(getattr(after, section), field))
        for section, fields in CHANGEABLE.items()
        for field in fields
    }
    return {path: pair for path, pair in pairs.items() if pair[0] != pair[1]}


def in_words(before: Config, after: Config) -> str:
    """Say how they differ: ``optimizer.lr 0.01 → 0.008, model.dropout 0.2 → 0.25``."""
    return ", ".join(f"{path} {shown(a)} → {shown(b)}" for path, (a, b) in difference(before, after).items())

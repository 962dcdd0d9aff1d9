"""Merge layers of settings into one ``Config``, or list every mistake by its dotted path."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from pipeline.config.checks import as_meant, unusable
from pipeline.config.fields import no_blank, shown
from pipeline.config.former import name_now, renamed, up_to_date
from pipeline.config.names import section_fields, section_model, unknown
from pipeline.config.refusals import sentences_of
from pipeline.config.schema import Config
from pipeline.errors import KEY_IN_ADDRESS, UserError, carries_key

BASE = "base"  # in a file: the path of another one, whose settings come before its own
PROJECT = Path(__file__).parents[2]
# values that YAML would read the same, so that it need not be loaded
PLAIN_WHOLE, PLAIN_WORD = re.compile(r"0|-?[1-9][0-9]{,17}"), re.compile(r"[a-z][a-z0-9_]{3,}")


def load(path: str | Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Merge defaults, the YAML file at ``path`` and ``section.field=value`` overrides into one ``Config``.

    If the file names another one as its ``base``, that one's settings come before its own. ``run.directory`` and
    ``data.directory`` are filled in from the file's name if they are null.

    Raises:
        UserError: naming every unknown or invalid setting by its dotted path, one a line.
    """
    values, problems = _read_layers(Path(path)) if path is not None else ({}, [])
    for override in overrides:
        _apply(values, override, problems)
    config = validate(values, problems)
    return _fill_directories(config, name=Path(path).stem if path is not None else "default")


def validate(values: Mapping[str, Any], problems: Sequence[str] = ()) -> Config:
    """Return a ``Config`` made from nested ``values``; list ``problems`` found earlier with the validator's own.

    Raises:
        UserError: as ``load``.
    """
    _complete()
    config = None
    meant, former = up_to_date(values)
    found = [*problems, *former, *_keys_in(values)]
    for name, section in meant.items():
        if name in Config.model_fields and isinstance(section, dict):
            meant[name], wrong = as_meant(section_model(name), section)
            found += [f"{name}.{field}: {problem}" for field, problem in wrong.items()]
    if isinstance(meant.get("train"), dict) and meant["train"].get("changes"):
        from pipeline.config import changes

        meant["train"]["changes"], wrong_changes = changes.as_meant(meant["train"]["changes"])
        found += wrong_changes
    try:
        config = Config.model_validate(meant)
        for name in Config.model_fields:
            if getattr(config, name) is not meant.get(name):  # else it was checked before
                wrong = unusable(getattr(config, name))
                found += [f"{name}.{field}: {problem}" for field, problem in wrong.items()]
        if config.train.changes and not found:
            from pipeline.config import changes

            found += changes.problems_of(config)
    except ValidationError as error:
        found += sentences_of(error)
    if found or config is None:
        raise UserError("\n".join(found))
    return config


def _keys_in(values: Any, path: str = "") -> list[str]:
    """Return a sentence for each address in ``values`` that holds a key."""
    if isinstance(values, Mapping):
        return [problem for name, value in values.items() for problem in _keys_in(value, f"{path}.{name}".strip("."))]
    if isinstance(values, (list, tuple)):
        return [problem for value in values for problem in _keys_in(value, path)]
    if isinstance(values, str) and path != "run.sample_prompt" and carries_key(values):
        return [f"{path}: {KEY_IN_ADDRESS}"]
    return []


def dump(config: Config) -> dict[str, Any]:
    """Return ``config`` as plain nested values, the inverse of ``validate``."""
    return config.model_dump(mode="json")


def with_values(config: Config, changes: Mapping[str, Any]) -> Config:
    """Return ``config`` with the values in ``{"section.field": value}``, validated again (a search sample)."""
    # sections that do not change need not be checked again
    values: dict[str, Any] = {name: getattr(config, name) for name in Config.model_fields}
    values |= config.model_dump(mode="json", include={path.partition(".")[0] for path in changes} & values.keys())
    problems: list[str] = []
    for path, value in changes.items():
        _assign(values, path, value, problems)
    return validate(values, problems)


def field_value(path: str, value: Any) -> Any:
    """Return ``value`` as the setting at ``path`` takes it, whatever the others are. Raises ``UserError``."""
    section, _, field = name_now(path).partition(".")
    meant, wrong = as_meant(section_model(section), {field: value})
    try:
        taken = section_model(section).model_validate(meant)
        wrong = wrong or unusable(taken)
    except ValidationError as error:
        raise UserError("\n".join(sentences_of(error, section))) from None
    if wrong:
        raise UserError("\n".join(f"{section}.{name}: {problem}" for name, problem in wrong.items()))
    return getattr(taken, field)


def get(config: Config, path: str) -> Any:
    """Return the value at a dotted ``section.field`` path."""
    section, _, field = name_now(path).partition(".")
    return getattr(getattr(config, section), field)


def data_fingerprint(config: Config) -> str:
    """Return a hex digest of everything that decides the bytes of the prepared corpus, except its directory."""
    import hashlib

    settings = config.model_dump(mode="json", include={"corpus", "tokenizer"})
    settings["shard_tokens"] = config.data.shard_tokens
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def to_yaml(config: Config, *, without: Sequence[str] = ()) -> str:
    """Return ``config`` as YAML that ``load`` takes, leaving out the sections in ``without``."""
    import yaml

    values = {name: section for name, section in dump(config).items() if name not in without}
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _fill_directories(config: Config, name: str) -> Config:
    changes: dict[str, Any] = {}
    if config.run.directory is None:
        changes["run.directory"] = f"runs/{name}"
    if config.data.directory is None:
        changes["data.directory"] = f"data/{name}-{data_fingerprint(config)[:8]}"
    return with_values(config, changes)


def _read_layers(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Return the values of the file at ``path`` over those of its ``base``, and a sentence for each unreadable one."""
    own = read_yaml(path)
    base = own.pop(BASE, None)
    values, problems = up_to_date(own, file=path)
    if base is None:
        return values, problems
    if not isinstance(base, str):
        return values, [*problems, f"{BASE}: must be the path of a YAML file, not {shown(base)}"]
    try:
        below = read_yaml(Path(base).expanduser())
    except UserError as error:
        sentences = [line.removeprefix("config: ") for line in str(error).splitlines()]
        raise UserError("\n".join(f"{BASE}: {line}" for line in sentences)) from None
    if BASE in below:
        raise UserError(f"{BASE}: {base} has a base of its own; name that one, or put its settings here")
    under, former = up_to_date(below, file=base)
    for section, settings in values.items():
        is_merged = isinstance(settings, dict) and isinstance(under.get(section), dict)
        if settings is not None or section not in under:  # "train:" with nothing below it sets nothing
            under[section] = {**under[section], **settings} if is_merged else settings
    return under, [*former, *problems]


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the sections of the YAML file at ``path`` as they stand.

    Raises:
        UserError: it cannot be read, or does not hold sections.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        hint = f"; did you mean {PROJECT / path}?" if os.path.isfile(PROJECT / path) else ""
        raise UserError(f"no such file: {path}{hint}", argument="config") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}", argument="config") from None
    from pipeline.config.yaml_text import parse

    try:
        values = parse(text)
    except UserError as error:
        raise UserError("\n".join(f"{path}: {line}" for line in str(error).splitlines()), argument="config") from None
    if values is None:
        return {}
    if isinstance(values, str) and ":" in values:
        raise UserError(f"{path}: {no_blank(values)}", argument="config")
    if not isinstance(values, dict):
        hint = f"; for a text, write corpus.train={path}" if isinstance(values, str) else ""
        raise UserError(f"{path} must hold sections (corpus:, model:, …){hint}", argument="config")
    return values


def _apply(values: dict[str, Any], override: str, problems: list[str]) -> None:
    path, equals, text = override.partition("=")
    if not path or not equals:
        problems.append(f"{override}: must be a setting and its value, section.field=value")
        return
    try:
        _assign(values, path, _read_value(path, text), problems)
    except UserError as error:
        problems += [f"{path}: {line}" for line in str(error).splitlines()]


def _read_value(path: str, text: str) -> Any:
    """Return ``text`` as YAML reads it; for texts and paths, unchanged unless it is a list, null or in quotes.

    YAML would make a mapping of "ROMEO:", and end "chapter #1.txt" at its blank. Raises ``UserError`` as ``parse``.
    """
    section, _, field = path.partition(".")
    fields = section_fields(section) if section in Config.model_fields else {}
    annotation = fields[field].annotation if field in fields else None
    is_text = annotation in (str, str | None, list[str])
    if PLAIN_WHOLE.fullmatch(text):
        return text if is_text else int(text)
    if PLAIN_WORD.fullmatch(text) and text not in ("true", "false", "null"):
        return text

    from pipeline.config.yaml_text import parse

    if not is_text:
        return parse(text)
    try:
        value = parse(text)
    except UserError:
        return text
    is_quoted = isinstance(value, str) and text[:1] in ("'", '"')
    is_null = value is None and annotation is not str
    return value if is_quoted or is_null or (isinstance(value, list) and annotation == list[str]) else text


def _assign(values: dict[str, Any], path: str, value: Any, problems: list[str]) -> None:
    path = renamed(path)
    section, dot, field = path.partition(".")
    if path in Config.model_fields:
        problems.append(f"{path}: is a section; set one of its fields, {path}.field=value")
        return
    if not dot or not field:
        problems.append(unknown(path))
        return
    if values.get(section) is None:
        values[section] = {}
    if not isinstance(values[section], dict):
        problems.append(f"{section}: must be a section of settings, not {shown(values[section])}")
        return
    values[section][field] = value


def _complete() -> None:
    """Build pydantic's validators without its search for plugins, which takes a tenth of the time to a first answer."""
    if Config.__pydantic_complete__:
        return
    loader = "pydantic.plugin._loader"
    no_plugins = None if loader in sys.modules else ModuleType(loader)
    if no_plugins is not None:
        no_plugins.__dict__["get_plugins"] = tuple
        sys.modules[loader] = no_plugins
    try:
        Config.model_rebuild()
    finally:
        if no_plugins is not None:
            del sys.modules[loader]

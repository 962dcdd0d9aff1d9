"""Layers of settings → one ``Config``, or every mistake by its dotted path."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.config.fields import no_blank, shown
from pipeline.config.schema import Config
from pipeline.errors import KEY_IN_ADDRESS, UserError, carries_key

# the names that other tools have for a setting
OTHER_NAMES = {
    "learning_rate": ["optimizer.lr"],
    "optimizer": ["optimizer.name"],
    "scheduler": ["optimizer.schedule"],
    "steps": ["train.max_steps"],
    "clip": ["train.clip_norm"],
    "emsize": ["model.embedding_size"],
    "nhid": ["model.hidden_size"],
    "nlayers": ["model.num_layers"],
    "rnn_type": ["model.cell"],
    "tied": ["model.tie_weights"],
    "wdecay": ["optimizer.weight_decay"],
    "wdrop": ["model.weight_dropout"],
    "save": ["run.directory"],
    "data": ["corpus.train"],
}
NO_SETTINGS = {"search.metric": "a search goes by validation perplexity", "search.mode": "perplexity is to be low"}


def load(path: str | Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Merge defaults, the YAML file at ``path`` and ``section.field=value`` overrides into one ``Config``.

    ``run.directory`` and ``data.directory`` are filled in from the file's name where they are null.

    Raises:
        UserError: naming every unknown or invalid setting by its dotted path, one a line.
    """
    values = _read_yaml(Path(path)) if path is not None else {}
    problems: list[str] = []
    for override in overrides:
        _apply(values, override, problems)
    config = validate(values, problems)
    return _fill_directories(config, name=Path(path).stem if path is not None else "default")


def validate(values: Mapping[str, Any], problems: Sequence[str] = ()) -> Config:
    """A ``Config`` from nested ``values``; ``problems`` found earlier are listed with the validator's own.

    Raises:
        UserError: as ``load``.
    """
    config = None
    found = [*problems, *_keys_in(values)]
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        found += _sentences(error)
    if found or config is None:
        raise UserError("\n".join(found))
    return config


def _keys_in(values: Any, path: str = "") -> list[str]:
    """A sentence for each address in ``values`` that holds a key: what is set here is saved, shown and sent around."""
    if isinstance(values, Mapping):
        return [problem for name, value in values.items() for problem in _keys_in(value, f"{path}.{name}".strip("."))]
    if isinstance(values, (list, tuple)):
        return [problem for value in values for problem in _keys_in(value, path)]
    if isinstance(values, str) and path != "run.sample_prompt" and carries_key(values):
        return [f"{path}: {KEY_IN_ADDRESS}"]
    return []


def dump(config: Config) -> dict[str, Any]:
    """``config`` as plain nested values, the inverse of ``validate``."""
    return config.model_dump(mode="json")


def with_values(config: Config, changes: Mapping[str, Any]) -> Config:
    """``config`` with ``{"section.field": value}`` replaced, validated again (a search sample)."""
    # sections that stay as they are need not be checked anew
    values: dict[str, Any] = {name: getattr(config, name) for name in Config.model_fields}
    for section in {path.partition(".")[0] for path in changes} & values.keys():
        values[section] = values[section].model_dump(mode="json")
    problems: list[str] = []
    for path, value in changes.items():
        _assign(values, path, value, problems)
    return validate(values, problems)


def field_value(path: str, value: Any) -> Any:
    """``value`` as the setting at the dotted ``path`` takes it, whatever the others are. Raises ``UserError``."""
    section, _, field = path.partition(".")
    model: Any = Config.model_fields[section].annotation
    try:
        return getattr(model.model_validate({field: value}), field)
    except ValidationError as error:
        found = _sentences(error, section)
    raise UserError("\n".join(found))


def get(config: Config, path: str) -> Any:
    """The value at a dotted ``section.field`` path."""
    section, _, field = path.partition(".")
    return getattr(getattr(config, section), field)


def data_fingerprint(config: Config) -> str:
    """Hex digest of all that decides the bytes of the prepared corpus (its directory apart)."""
    settings = {
        "corpus": config.corpus.model_dump(mode="json"),
        "tokenizer": config.tokenizer.model_dump(mode="json"),
        "shard_tokens": config.data.shard_tokens,
    }
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def to_yaml(config: Config, *, without: Sequence[str] = ()) -> str:
    """``config`` as a YAML file that ``load`` takes, leaving out the sections in ``without``."""
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


def _read_yaml(path: Path) -> dict[str, Any]:
    from pipeline.config.yaml_text import parse

    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"--config: no such file: {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--config: cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    try:
        values = parse(text)
    except UserError as error:
        raise UserError("\n".join(f"--config: {path}: {line}" for line in str(error).splitlines())) from None
    if values is None:
        return {}
    if isinstance(values, str) and ":" in values:
        raise UserError(f"--config: {path}: {no_blank(values)}")
    if not isinstance(values, dict):
        raise UserError(f"--config: {path} must hold sections (corpus:, model:, …), not a {type(values).__name__}")
    return values


def _apply(values: dict[str, Any], override: str, problems: list[str]) -> None:
    path, equals, text = override.partition("=")
    if not path or not equals:
        hint = f"; did you mean --config {override}?" if override.endswith((".yaml", ".yml")) else ""
        problems.append(f"{override}: an override must look like section.field=value{hint}")
        return
    try:
        _assign(values, path, _read_value(path, text), problems)
    except UserError as error:
        problems += [f"{path}: {line}" for line in str(error).splitlines()]


def _read_value(path: str, text: str) -> Any:
    """``text`` as YAML reads it, but of a setting that is a text or paths as it stands, unless it is a list or null.

    YAML would make a mapping of "ROMEO:", and end "chapter #1.txt" at its blank. Raises ``UserError`` as ``parse``.
    """
    from pipeline.config.yaml_text import parse

    section, _, field = path.partition(".")
    fields = section_fields(section) if section in Config.model_fields else {}
    annotation = fields[field].annotation if field in fields else None
    if annotation not in (str, str | None, list[str]):
        return parse(text)
    try:
        value = parse(text)
    except UserError:
        return text
    is_quoted = isinstance(value, str) and text[:1] in ("'", '"')
    is_null = value is None and annotation is not str
    return value if is_quoted or is_null or (isinstance(value, list) and annotation == list[str]) else text


def _assign(values: dict[str, Any], path: str, value: Any, problems: list[str]) -> None:
    section, dot, field = path.partition(".")
    if path in Config.model_fields:
        problems.append(f"{path}: a section; set one of its fields, {path}.field=value")
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


def section_fields(section: str) -> dict[str, Any]:
    """Field name → pydantic ``FieldInfo`` of the section called ``section``."""
    model: Any = Config.model_fields[section].annotation
    return dict(model.model_fields)


def unknown(path: str) -> str:
    """``path: unknown setting``, and which one was meant: of any section, by its own name or another tool's."""
    section, _, name = path.rpartition(".")
    places = [f"{s}.{field}" for s in Config.model_fields for field in section_fields(s)]
    if path in places:
        return f"{path}: is no section; in a file, write {section}: and below it {name}: …"
    if ":" in path:
        return f"{path}: unknown setting; {no_blank(path)}"
    if path in NO_SETTINGS:
        return f"{path}: unknown setting; {NO_SETTINGS[path]}"
    meant = [place for place in places if place.endswith(f".{name}")] or OTHER_NAMES.get(name.lower()) or _near(path)
    return f"{path}: unknown setting" + (f"; did you mean {' or '.join(meant)}?" if meant else "")


def _near(path: str) -> list[str]:
    """The section or setting whose name is most like that of ``path``, one of its own section by its name alone."""
    section, _, name = path.rpartition(".")
    known: dict[str, str] = {} if section else {name: name for name in Config.model_fields}
    for place in [f"{s}.{field}" for s in Config.model_fields for field in section_fields(s)]:
        own, _, field = place.partition(".")
        known[field] = field if own == section else known.get(field, place)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return [known[near[0]]] if near else []


def _sentences(error: ValidationError, *section: str) -> list[str]:
    """What pydantic found, in a sentence for each setting: of the values of a list, the first that is wrong."""
    found: dict[Any, str] = {}
    for item in error.errors():
        location = (*section, *item["loc"])
        found.setdefault(location[:2], _sentence({**item, "loc": location}))
    return list(found.values())


def _sentence(error: Any) -> str:
    """One pydantic error as one sentence that begins with the dotted path."""
    location = [str(part) for part in error["loc"] if not str(part).startswith(("function-", "literal["))]
    path = ".".join(location[:2])
    if error["type"] == "extra_forbidden":
        return unknown(path)
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error":
        return f"{path}: {message}" if path else message
    if error["type"] == "string_type":
        message = "must be a text (in quotes, where YAML would take it for something else)"
    return f"{path}: {message[0].lower()}{message[1:]}, not {shown(error['input'])}"

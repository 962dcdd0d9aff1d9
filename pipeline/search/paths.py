"""Make the paths in ``search.space`` and ``search.try_first`` absolute, as ``pipeline.paths`` does all others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline import config as configuration
from pipeline.config import Config
from pipeline.paths import MODELS, absolute, absolute_path, in_submitted_job, refuse_relative_paths
from pipeline.search.domains import CHOICE
from pipeline.search.specification import WHEN


def absolute_with_space(config: Config) -> Config:
    """Return ``config`` with absolute paths, also those that are searched. Raises ``UserError`` as ``absolute``."""
    if in_submitted_job():
        refuse_relative_in_space(config)
    return with_absolute_space(absolute(config))


def refuse_relative_in_space(config: Config) -> None:
    """Raise ``UserError`` for relative paths in ``search.space``, as ``pipeline.paths.refuse_relative`` for others."""
    refuse_relative_paths((f"search.space.{name}", path) for name in MODELS for path in searched(config, name))


def with_absolute_space(config: Config) -> Config:
    """Return ``config`` with absolute paths in ``search.space`` and ``search.try_first``."""
    search = config.search
    changes: dict[str, Any] = {"search.space": _of_settings(search.space)}
    if search.try_first is not None:
        changes["search.try_first"] = [_of_settings(entry) for entry in search.try_first]
    return configuration.with_values(config, changes)


def searched(config: Config, name: str) -> list[str]:
    """Return the strings that ``search.space`` lists for the setting ``name``."""
    spec = config.search.space.get(name)
    values = spec.get(CHOICE) if isinstance(spec, dict) else spec
    return [value for value in values if isinstance(value, str)] if isinstance(values, list) else []


def _of_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _absolute(name, value) for name, value in settings.items()}


def _absolute(name: str, value: Any) -> Any:
    """Return the entry of the setting ``name`` with absolute paths; its condition names other settings."""
    if isinstance(value, list):
        return [_absolute(name, each) for each in value]
    if isinstance(value, dict):
        return {
            key: _of_settings(part) if key == WHEN and isinstance(part, dict) else _absolute(name, part)
            for key, part in value.items()
        }
    return absolute_path(value) if name in MODELS and isinstance(value, str) else value

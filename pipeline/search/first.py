"""``search.try_first``: what is tried before anything is drawn."""

from __future__ import annotations

from typing import Any

from pipeline import config as configuration
from pipeline.config import Config
from pipeline.errors import UserError
from pipeline.search.space import Space


def first_settings(config: Config, space: Space) -> list[dict[str, Any]]:
    """Settings to try first, each with a value for every path of ``space`` whose condition holds.

    Raises:
        UserError: a path that is not searched, or a value that the space does not hold.
    """
    own = {path: configuration.get(config, path) for path in space}
    entries = config.search.try_first
    if entries is None:
        own = space.active(own)
        return [own] if space.contains(own) and config.search.algorithm != "grid" else []
    return [whole(entry, own, space, place=number) for number, entry in enumerate(entries, start=1)]


def whole(entry: dict[str, Any], own: dict[str, Any], space: Space, *, place: int) -> dict[str, Any]:
    """``entry`` with the configuration's ``own`` values for what it leaves out. Raises ``UserError`` as above."""
    problems, settings = [], dict(own)
    for path, value in entry.items():
        if path not in space:
            problems.append(f"search.try_first: number {place} has {path}, which search.space does not search")
            continue
        try:
            settings[path] = configuration.field_value(path, value)
        except UserError as error:
            problems += [f"search.try_first: number {place}: {line}" for line in str(error).splitlines()]
    settings = space.active(settings)
    for path, value in settings.items():
        if not problems and not space[path].contains(value):
            problems.append(f"search.try_first: number {place}: {path}={value} is not in search.space.{path}")
    if problems:
        raise UserError("\n".join(problems))
    return settings

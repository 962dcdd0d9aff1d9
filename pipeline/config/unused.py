"""Find settings that were given a value but have no effect given the others, so that nobody waits for one.

A condition is written where the setting is (``only_with`` of ``setting``): ``train.teacher``, which must not be null,
0, false or empty; ``no train.teacher``, which must; ``optimizer.name=adam|adamw``, one of these values;
``no model.num_layers=1``, none of them. Several conditions are joined by `` and `` or, binding tighter, by `` or ``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from pipeline.config.fields import shown
from pipeline.config.loading import get
from pipeline.config.names import section_fields
from pipeline.config.schema import Config

OF_A_SEARCH = ("search", "compare")  # sections that the other jobs do not look at


def unused(config: Config, *, sections: Collection[str] = (), varied: Collection[str] = ()) -> dict[str, str]:
    """Return, by its path, a sentence for each setting that was given a value, or several, and has no effect.

    A setting was given a value if it differs from its default. One that has an effect for some values of ``varied``
    is left out.

    Args:
        sections: those of ``OF_A_SEARCH`` that the job looks at.
        varied: settings that take several values, in one run after another or, as in ``train.changes``, within a run.
    """
    found: dict[str, str] = {}
    varied = {*varied, *(path for change in config.train.changes for path in change.settings)}
    for section in Config.model_fields:
        if section in OF_A_SEARCH and section not in sections:
            continue
        for name, field in section_fields(section).items():
            path, value = f"{section}.{name}", get(config, f"{section}.{name}")
            if value == field.get_default(call_default_factory=True) and path not in varied:
                continue
            if why := _unmet(config, field.json_schema_extra["only_with"], varied):
                found[path] = f"{path}{'' if path in varied else f'={shown(value)}'} has no effect {why}"
    return found


class Condition(NamedTuple):
    """The setting at ``path`` must, or must not, have one of ``values``; without values, be set."""

    path: str
    values: list[str]
    is_wanted: bool


def conditions(text: str) -> Iterator[Condition]:
    """Yield each condition in ``text``."""
    for part in filter(None, text.split(" and ")):
        for one in part.split(" or "):
            yield _condition(one)


def _condition(text: str) -> Condition:
    path, _, values = text.removeprefix("no ").partition("=")
    return Condition(path, values.split("|") if values else [], is_wanted=not text.startswith("no "))


def _unmet(config: Config, text: str, varied: Collection[str]) -> str:
    """Return how ``config`` fails a condition in ``text``; empty if it meets all but those on ``varied``."""
    for part in filter(None, text.split(" and ")):
        reasons = [_unmet_alone(config, _condition(one), varied) for one in part.split(" or ")]
        if all(reasons):
            if all(reason.startswith("without ") for reason in reasons):  # "without" is said once
                return "without " + " or ".join(reason.removeprefix("without ") for reason in reasons)
            return " and ".join(reasons)
    return ""


def _unmet_alone(config: Config, condition: Condition, varied: Collection[str]) -> str:
    """Return how ``config`` fails ``condition``; empty if it does not."""
    path, values, is_wanted = condition
    value = get(config, path)
    if path in varied or (str(value) in values if values else bool(value)) is is_wanted:
        return ""
    if values:
        return f"with {path}={value}" + (f", only with {_either(values)}" if is_wanted else "")
    return f"without {path}" if is_wanted else f"with {path}"


def _either(values: list[str]) -> str:
    """Join ``values`` as a sentence does: ``a, b or c``."""
    return " or ".join(filter(None, [", ".join(values[:-1]), values[-1]]))

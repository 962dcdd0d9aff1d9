"""Find settings that were given a value but have no effect given the others, so that nobody waits for one.

A condition is written where the setting is (``only_with`` of ``setting``): ``train.teacher``, which must not be null,
0, false or empty; ``no train.teacher``, which must; ``optimizer.name=adam|adamw``, one of these values. Several of
them are joined by `` and `` or, binding tighter, by `` or ``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

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


def conditions(text: str) -> Iterator[tuple[str, list[str] | bool]]:
    """Yield, for each condition in ``text``, the setting and what it must be: one of some values, set or not set."""
    for part in filter(None, text.split(" and ")):
        for one in part.split(" or "):
            yield _condition(one)


def _condition(text: str) -> tuple[str, list[str] | bool]:
    """Return the setting that one condition is about, and what it must be."""
    path, equals, values = text.removeprefix("no ").partition("=")
    return path, values.split("|") if equals else not text.startswith("no ")


def _unmet(config: Config, text: str, varied: Collection[str]) -> str:
    """Return how ``config`` fails a condition in ``text``; empty if it meets all but those on ``varied``."""
    for part in filter(None, text.split(" and ")):
        reasons = [_unmet_alone(config, *_condition(one), varied) for one in part.split(" or ")]
        if all(reasons):
            first, *others = reasons  # of several settings that are not there, "without" is said once
            return " or ".join([first, *(reason.removeprefix("without ") for reason in others)])
    return ""


def _unmet_alone(config: Config, path: str, wanted: list[str] | bool, varied: Collection[str]) -> str:
    """Return how ``config`` fails the condition that the setting at ``path`` is ``wanted``; empty if it does not."""
    value = get(config, path)
    if path in varied:
        return ""
    if isinstance(wanted, list):
        return "" if value in wanted else f"with {path}={value}, only with {_either(wanted)}"
    if bool(value) is wanted:
        return ""
    return f"without {path}" if wanted else f"with {path}"


def _either(values: list[str]) -> str:
    """Join ``values`` as a sentence does: ``a, b or c``."""
    return " or ".join(filter(None, [", ".join(values[:-1]), values[-1]]))

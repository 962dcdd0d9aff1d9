"""One entry of ``search.space`` as written, ``{loguniform: [1e-4, 1e-2]}``, and what it describes: a ``Domain``."""

from __future__ import annotations

import math
from typing import Any

from pipeline import config as configuration
from pipeline.config import Config
from pipeline.config.fields import shown
from pipeline.errors import UserError
from pipeline.search.domains import CHOICE, KINDS, LOGARITHMIC, STEPPED, WHOLE, Domain, multiple, times

SEARCHED_SECTIONS = ("model", "train", "optimizer", "tokenizer", "data")
LENGTH = "trials are compared at equal tokens, and search.max_tokens says how many each trains on"
NEVER_SEARCHED = {
    "data.directory": "each trial has the corpus of its own tokens",
    "data.layout": "documents and streams are validated in different ways",
    "train.epochs": LENGTH,
    "train.max_steps": LENGTH,
    "train.max_tokens": LENGTH,
    "train.max_words": LENGTH,
}
WHEN = "when"
MOST_NAMED = 5  # values in one message


def parse_setting(path: str, spec: Any) -> Domain:
    """The domain that ``spec`` describes for the setting at ``path``.

    Raises:
        UserError: a setting that cannot be searched, a ``spec`` that makes no sense, or, one a line, the values that
            the setting does not take.
    """
    section, _, field = path.partition(".")
    if path in NEVER_SEARCHED:
        raise UserError(f"not a setting that can be searched: {NEVER_SEARCHED[path]}")
    if section not in SEARCHED_SECTIONS or field not in configuration.section_fields(section):
        near = [place if "." in place else f"{section}.{place}" for place in configuration.meant_by(path)]
        near = [place for place in near if place != path and place.startswith(SEARCHED_SECTIONS)]
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise UserError(f"not a setting that can be searched (of {', '.join(SEARCHED_SECTIONS)}){hint}")
    when: dict[str, list[Any]] = {}
    if isinstance(spec, dict) and WHEN in spec:
        when = parse_condition(path, spec[WHEN])
        spec = {name: value for name, value in spec.items() if name != WHEN}
    kind, values = next(iter(spec.items())) if isinstance(spec, dict) and len(spec) == 1 else (CHOICE, spec)
    if kind not in KINDS or not isinstance(values, list):
        raise UserError(f"must be a list or one of {', '.join(KINDS)} with its values, not {shown(spec)}")
    if kind == CHOICE:
        taken = as_taken(path, values)
        if not taken:
            raise UserError("has no value to choose from")
        return Domain(kind, taken, when)
    domain = Domain(kind, bounds(kind, values), when)
    as_taken(path, domain.ends())
    return domain


def parse_condition(path: str, condition: Any) -> dict[str, list[Any]]:
    """The values of other settings for which the setting at ``path`` is searched. Raises ``UserError``."""
    if not isinstance(condition, dict) or not condition:
        raise UserError(f"{WHEN} must name a searched setting and its values, {{model.head: mixture}}, "
                        f"not {shown(condition)}")  # fmt: skip
    if path in condition:
        raise UserError(f"{WHEN}: a setting cannot be its own condition")
    return {
        str(other): as_taken(str(other), values if isinstance(values, list) else [values])
        if is_setting(str(other)) else [values]
        for other, values in condition.items()
    }  # fmt: skip


def is_setting(path: str) -> bool:
    section, _, field = path.partition(".")
    return section in Config.model_fields and field in configuration.section_fields(section)


def bounds(kind: str, values: list[Any]) -> list[Any]:
    """The bounds of a range, and its step, as numbers: PyYAML reads 1e-4 (without a point) as a string.

    Raises:
        UserError: bounds that are not numbers, not whole where they have to be, or not ascending.
    """
    wanted = "two numbers and a step" if kind in STEPPED else "two numbers"
    try:
        numbers = [math.nan if isinstance(value, bool) else float(value) for value in values]
    except (TypeError, ValueError, OverflowError):
        numbers = []
    if len(numbers) != 2 + (kind in STEPPED) or not all(map(math.isfinite, numbers)):
        raise UserError(f"{kind} takes {wanted}, not {shown(values)}")
    low, high = numbers[:2]
    if low >= high:
        raise UserError(f"{kind} goes from a lower to a higher number, not {shown(values)}")
    if kind in LOGARITHMIC and low <= 0:
        raise UserError(f"{kind} takes numbers above 0, not {shown(values)}")
    if kind in WHOLE:
        if not all(number.is_integer() for number in numbers):
            raise UserError(f"{kind} takes whole numbers, not {shown(values)}")
        numbers = [int(number) for number in numbers]
    if kind in STEPPED:
        check_step(kind, numbers)
    return numbers


def check_step(kind: str, numbers: list[Any]) -> None:
    """Raise ``UserError`` unless both bounds are multiples of the step."""
    *ends, step = numbers
    if step <= 0:
        raise UserError(f"{kind} takes a step above 0, not {step:g}")
    for end in ends:
        if not math.isclose(times(multiple(end, step), step), end, rel_tol=1e-9, abs_tol=1e-12):
            raise UserError(f"{kind} needs multiples of its step, and {end:g} is not a multiple of {step:g}")


def as_taken(path: str, values: list[Any]) -> list[Any]:
    """``values`` as the setting at ``path`` takes them. Raises ``UserError`` with a line for each that it does not."""
    taken, problems = [], []
    for value in values:
        try:
            taken.append(configuration.field_value(path, value))
        except UserError as error:
            problems.append(str(error))
            if len(problems) == MOST_NAMED:
                break
    if problems:
        raise UserError("\n".join(problems))
    return taken

"""Check what pydantic would wrongly accept: values it converts silently, and values that nothing can use.

values as read → ``as_meant`` → pydantic → ``unusable`` → the sentences for both
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, get_args

from pipeline.config.fields import Section, shown
from pipeline.errors import UserError

# YAML reads 1e5 and 3e-4 as text, because they have no decimal point
WHOLE_AS_TEXT = re.compile(r"[-+]?[0-9]+(\.[0-9]+)?[eE]\+?[0-9]{1,2}")
# what int64 holds, and what float32 holds with room to spare
MOST_WHOLE, MOST_REAL = 2**63 - 1, 1e30
MOST_CHARACTERS = 10_000


def as_meant(section: type[Section], values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the ``values`` of a section, with whole numbers in place of texts that spell one, and problems by field.

    A problem is a truth value (0 or 1 to pydantic) where a number belongs; it is left out of the values.
    """
    meant, problems = {}, {}
    for field, value in values.items():
        try:
            meant[field] = _as_meant(value, _kinds(section, field))
        except UserError as error:
            problems[field] = str(error)
    return meant, problems


def unusable(section: Section) -> dict[str, str]:
    """Return what is wrong, by field: numbers that nothing can compute with, and texts that no file can hold."""
    problems = {}
    for field in type(section).model_fields:
        try:
            _check_usable(getattr(section, field))
        except UserError as error:
            problems[field] = str(error)
    return problems


@cache
def _kinds(section: type[Section], field: str) -> set[Any]:
    """Return the plain types that a value of ``field`` may have, those in a list included."""
    return set(_plain_types(section.model_fields[field].annotation)) if field in section.model_fields else set()


def _plain_types(annotation: Any) -> list[Any]:
    return [plain for part in get_args(annotation) for plain in _plain_types(part)] or [annotation]


def _as_meant(value: Any, kinds: set[Any]) -> Any:
    """Return ``value``, or the whole number that it spells. Raises ``UserError`` for true or false as a number."""
    if int not in kinds and float not in kinds:
        return value
    if isinstance(value, list):
        return [_as_meant(item, kinds) for item in value]
    if isinstance(value, bool) and bool not in kinds:
        raise UserError(f"must be a number, not {str(value).lower()}")
    if isinstance(value, str) and float not in kinds and WHOLE_AS_TEXT.fullmatch(value):
        number = float(value)
        return int(number) if number.is_integer() else number
    return value


def _check_usable(value: Any) -> None:
    """Raise ``UserError`` for a number that nothing can compute with, or a text that no file can hold."""
    if isinstance(value, (list, dict)):
        for item in value if isinstance(value, list) else [*value, *value.values()]:
            _check_usable(item)
    elif isinstance(value, str):
        if "\0" in value or not _is_unicode(value):
            raise UserError(f"must be text in UTF-8 without zero bytes, not {shown(value)}")
        if len(value) > MOST_CHARACTERS:
            raise UserError(f"must be at most {MOST_CHARACTERS:,} characters, not {len(value):,}")
    elif isinstance(value, (int, float)):
        most = MOST_REAL if isinstance(value, float) else MOST_WHOLE
        if value > most:
            raise UserError(f"must be at most {most:,}, not {shown(value)}")
        if value != value or value < -most:
            raise UserError(f"must be a finite number, not {shown(value)}")


def _is_unicode(text: str) -> bool:
    """Tell whether ``text`` has no lone surrogates, which stand for bytes of a command line that are not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True

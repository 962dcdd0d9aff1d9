"""What every section is made of: documented, checked, immutable fields."""

from __future__ import annotations

import re
import reprlib
from functools import cache
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
)

from pipeline.errors import UserError

# YAML reads 1e5 and 3e-4 as texts, for want of a point
WHOLE_AS_TEXT = re.compile(r"[-+]?[0-9]+(\.[0-9]+)?[eE]\+?[0-9]{1,2}")
# what int64 holds, and float32 with something to spare
MOST_WHOLE, MOST_REAL = 2**63 - 1, 1e30
# nothing larger of its kind was ever of use, and more would only fill the memory
MOST_UNITS = 100_000
MOST_CHARACTERS = 10_000


def setting(default: Any, doc: str, *, unit: str = "", source: str = "", **constraints: Any) -> Any:
    """A documented field: ``doc`` in one sentence, its ``unit`` and the ``source`` (paper) if it has one."""
    extra: dict[str, Any] = {"unit": unit, "source": source}
    if isinstance(default, (list, dict)):
        return Field(default_factory=lambda: default.copy(), description=doc, json_schema_extra=extra, **constraints)
    return Field(default=default, description=doc, json_schema_extra=extra, **constraints)


def shown(value: Any) -> str:
    """``value`` as a sentence shows it: shortened where it is long."""
    if isinstance(value, int) and abs(value) >= 10**40:
        return f"a number of {round(abs(value).bit_length() * 0.30103):,} digits"
    short = reprlib.Repr()
    short.maxlevel, short.maxlist, short.maxdict, short.maxstring, short.maxother = 4, 8, 8, 120, 120
    return short.repr(value)


def no_blank(text: str) -> str:
    """What is wrong with ``text``, in which YAML sees no key."""
    key, _, value = text.partition(":")
    return f"a blank is missing after the colon: write {key}: {value}"


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _count_or_auto(value: Any) -> Any:
    if value == "auto" or (isinstance(value, int) and value >= 1):
        return value
    raise UserError(f"must be a whole number of at least 1, or auto, not {shown(value)}")


def _size_or_sizes(value: Any) -> Any:
    sizes = value if isinstance(value, list) and value else [value]
    if not all(isinstance(size, int) and size >= 1 for size in sizes):
        raise UserError(f"must be a whole number of at least 1, or a list of them, not {shown(value)}")
    if max(sizes) > MOST_UNITS:
        raise UserError(f"must be at most {MOST_UNITS:,}, not {shown(value)}")
    return value


CountOrAuto = Annotated[int | Literal["auto"], BeforeValidator(_count_or_auto)]
SizeOrSizes = Annotated[int | list[int], BeforeValidator(_size_or_sizes)]
Paths = Annotated[list[str], BeforeValidator(_as_list)]


@cache
def _kinds(section: type[BaseModel], field: str) -> set[Any]:
    """The plain types that a value of ``field`` may have, those in a list included."""
    return set(_plain_types(section.model_fields[field].annotation))


def _plain_types(annotation: Any) -> list[Any]:
    return [plain for part in get_args(annotation) for plain in _plain_types(part)] or [annotation]


def _number_as_meant(value: Any, kinds: set[Any]) -> Any:
    """``value``, or the whole number that it writes. Raises ``UserError`` for a truth value that is to be a number."""
    if isinstance(value, list):
        return [_number_as_meant(item, kinds) for item in value]
    if isinstance(value, bool) and bool not in kinds:
        raise UserError(f"must be a number, not {str(value).lower()}")
    if isinstance(value, str) and float not in kinds and WHOLE_AS_TEXT.fullmatch(value):
        return float(value)
    return value


def _check_usable(value: Any) -> None:
    """Raise ``UserError`` for a number that nothing here can count with, or a text that no file can hold."""
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
    """Whether ``text`` has no half characters, as file names that are not UTF-8 become on the command line."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class Section(BaseModel):
    """Base of every section: immutable; an unknown setting is an error, and a number that is infinite or none."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)

    @field_validator("*", mode="wrap")
    @classmethod
    def _as_meant(cls, value: Any, validate: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
        kinds = _kinds(cls, str(info.field_name))
        taken = validate(_number_as_meant(value, kinds) if int in kinds or float in kinds else value)
        _check_usable(taken)
        return taken

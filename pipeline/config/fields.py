"""The building blocks of every section: documented, checked, immutable fields."""

from __future__ import annotations

import reprlib
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from pipeline.errors import UserError

# no larger size has ever been useful, and one would only fill the memory
MOST_UNITS = 100_000


def setting(
    default: Any, doc: str, *, unit: str = "", source: str = "", only_with: str = "", **constraints: Any
) -> Any:
    """A documented field: ``doc`` in one sentence, its ``unit`` and the ``source`` (paper) if it has one.

    Args:
        only_with: the condition under which it has an effect, in the words of ``pipeline.config.unused``.
    """
    extra: dict[str, Any] = {"unit": unit, "source": source, "only_with": only_with}
    if isinstance(default, (list, dict)):
        return Field(default_factory=lambda: default.copy(), description=doc, json_schema_extra=extra, **constraints)
    return Field(default=default, description=doc, json_schema_extra=extra, **constraints)


def shown(value: Any) -> str:
    """``value`` as a sentence shows it: shortened if it is long."""
    if isinstance(value, int) and abs(value) >= 10**40:
        return f"a number of {round(abs(value).bit_length() * 0.30103):,} digits"
    short = reprlib.Repr()
    short.maxlevel, short.maxlist, short.maxdict, short.maxstring, short.maxother = 4, 8, 8, 120, 120
    return short.repr(value)


def no_blank(text: str) -> str:
    """Say what is wrong with ``text``, in which YAML sees no key."""
    key, _, value = text.partition(":")
    return f"a space is missing after the colon: write {key}: {value}"


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


# the last string tells people what the validator checks
CountOrAuto = Annotated[int | Literal["auto"], BeforeValidator(_count_or_auto), "at least 1"]
SizeOrSizes = Annotated[int | list[int], BeforeValidator(_size_or_sizes), f"from 1 to {MOST_UNITS:,}"]
Paths = Annotated[list[str], BeforeValidator(_as_list)]


class Section(BaseModel):
    """Base of every section: immutable; an unknown setting is an error, and so is a number that is infinite or NaN."""

    # validators are made when they are first needed: help needs none
    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False, defer_build=True
    )

"""What every section is made of: documented, checked, immutable fields."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from pipeline.errors import UserError


def setting(default: Any, doc: str, *, unit: str = "", source: str = "", **constraints: Any) -> Any:
    """A documented field: ``doc`` in one sentence, its ``unit`` and the ``source`` (paper) if it has one."""
    extra: dict[str, Any] = {"unit": unit, "source": source}
    if isinstance(default, (list, dict)):
        return Field(default_factory=lambda: default.copy(), description=doc, json_schema_extra=extra, **constraints)
    return Field(default=default, description=doc, json_schema_extra=extra, **constraints)


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _count_or_auto(value: Any) -> Any:
    if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    raise UserError(f"must be a whole number of at least 1, or auto, not {value!r}")


def _size_or_sizes(value: Any) -> Any:
    sizes = value if isinstance(value, list) and value else [value]
    if all(isinstance(size, int) and not isinstance(size, bool) and size >= 1 for size in sizes):
        return value
    raise UserError(f"must be a whole number of at least 1, or a list of them, not {value!r}")


CountOrAuto = Annotated[int | Literal["auto"], BeforeValidator(_count_or_auto)]
SizeOrSizes = Annotated[int | list[int], BeforeValidator(_size_or_sizes)]
Paths = Annotated[list[str], BeforeValidator(_as_list)]


class Section(BaseModel):
    """Base of every section: immutable, and an unknown setting is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

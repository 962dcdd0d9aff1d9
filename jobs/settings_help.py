"""What a person may read of the settings: all of them for ``--help``, and the one that an unknown option stands for."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from typing import Any, get_args, get_origin

from pipeline import config as configuration
from pipeline.config import Config


def settings_help() -> str:
    """Every setting with its type, unit, default and source, as a text for ``--help``."""
    lines = ["settings (defaults < --config FILE < section.field=value):"]
    for section, info in Config.model_fields.items():
        annotation: Any = info.annotation
        lines.append(f"\n{section}: {annotation.__doc__.strip()}")
        for name, field in configuration.section_fields(section).items():
            extra = field.json_schema_extra
            default = field.get_default(call_default_factory=True)
            unit = f", {extra['unit']}" if extra["unit"] else ""
            source = f" [{extra['source']}]" if extra["source"] else ""
            lines.append(f"  {section}.{name}: {type_name(field.annotation)}{unit} = {json.dumps(default)}")
            lines.append(f"      {field.description}{source}")
    return "\n".join(lines)


def type_name(annotation: Any) -> str:
    """A short name of a field's type: ``int | null``, ``a | b`` for choices, ``list of str``."""
    arguments = get_args(annotation)
    if annotation is type(None):
        return "null"
    if not arguments:
        return getattr(annotation, "__name__", str(annotation))
    origin = get_origin(annotation)
    if origin is list:
        return f"list of {type_name(arguments[0])}"
    if origin is dict:
        return "mapping"
    if all(isinstance(argument, str) for argument in arguments):
        return " | ".join(arguments)
    return " | ".join(type_name(argument) for argument in arguments)


def meant_by(option: str, following: str, known: Sequence[str], *, takes_config: bool) -> str:
    """``; did you mean …?`` for an unknown option: one of the job's ``known``, or a setting; empty if none is near.

    Args:
        following: the argument after it, which may be its value.
    """
    name, equals, value = option.partition("=")
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    if not near and takes_config:
        if not equals and not following.startswith("-") and "=" not in following:
            value = following
        settings = configuration.meant_by(name.lstrip("-").replace("-", "_"))
        near = [f"{setting}={value or '…'}" for setting in settings if "." in setting]
    return f"; did you mean {' or '.join(near)}?" if near else ""

"""Describe the settings: default, type, unit, range, effect, source.

Name sections (model), settings (model.cell), or nothing for all settings.
"""

from __future__ import annotations

import argparse
import difflib
import json
import textwrap
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, get_args, get_origin

from jobs.shared.cli import run_job
from jobs.shared.options import LINE_WIDTH, parser
from pipeline import config as configuration
from pipeline.config import Config
from pipeline.errors import UserError

TYPES = {int: "whole number", float: "number", str: "text", bool: "true or false", type(None): "null", Any: "value"}
SEVERAL = {"whole number": "whole numbers", "number": "numbers", "text": "texts"}
BOUNDS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}


def main(argv: list[str]) -> dict[str, Any]:
    arguments = argument_parser().parse_args(argv)
    print(settings_text(arguments.names))
    fields = chosen(arguments.names)
    return {
        path: {
            "type": type_words(field.annotation),
            "range": range_words(field.metadata),
            "default": field.get_default(call_default_factory=True),
            "description": field.description,
            **field.json_schema_extra,
        }
        for path, field in fields.items()
    }


def argument_parser() -> argparse.ArgumentParser:
    result = parser("settings", __doc__ or "", takes_config=False)
    result.add_argument("names", nargs="*", metavar="NAME", help="a section or section.field; default: all")
    return result


def chosen(names: Sequence[str]) -> dict[str, Any]:
    """Return ``section.field`` → pydantic field for the sections and settings in ``names``, or for all if it is empty.

    Raises:
        UserError: a name is neither a section nor a setting.
    """
    places = {
        f"{section}.{name}": field
        for section in Config.model_fields
        for name, field in configuration.section_fields(section).items()
    }
    for name in names:
        if name not in places and name not in Config.model_fields:
            meant = configuration.meant_by(name)
            hint = f"; did you mean {' or '.join(meant)}?" if meant else f"; sections: {', '.join(Config.model_fields)}"
            raise UserError(f"{name}: no such section or setting{hint}")
    return {
        path: field for path, field in places.items() if not names or path in names or path.partition(".")[0] in names
    }


def settings_text(names: Sequence[str] = ()) -> str:
    """Describe the settings in ``names`` (see ``chosen``) for a terminal, with a heading for each section."""
    lines: list[str] = []
    for path, field in chosen(names).items():
        section = path.partition(".")[0]
        heading = f"{section}: {section_words(section)}"
        if heading not in lines:
            lines += ["", heading] if lines else [heading]
        lines += setting_lines(path, field)
    return "\n".join(lines)


def setting_lines(path: str, field: Any) -> Iterator[str]:
    """Yield the lines of one setting: name and default; type, unit and range; what it does."""
    yield f"  {path}: {json.dumps(field.get_default(call_default_factory=True), ensure_ascii=False)}"
    unit, source, only_with = (field.json_schema_extra[name] for name in ("unit", "source", "only_with"))
    facts = [
        type_words(field.annotation) + (f" ({unit})" if unit else ""),
        *filter(None, [range_words(field.metadata), only_with and f"only with {only_with.replace('|', ' or ')}"]),
    ]
    what = f"{field.description} [{source}]" if source else field.description
    for paragraph in (", ".join(facts), what):
        yield from textwrap.wrap(paragraph, LINE_WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)


def sections_text() -> str:
    """Return a line for each section, and how to see its settings."""
    lines = ["settings (defaults < --config FILE < section.field=value), by section:"]
    lines += [f"  {section:<10} {section_words(section)}" for section in Config.model_fields]
    return "\n".join([*lines, "", "--help all, or --help SECTION, describes them."])


def section_words(section: str) -> str:
    """Return the sentence that says what a section is about."""
    annotation: Any = Config.model_fields[section].annotation
    return str(annotation.__doc__).strip().splitlines()[0]


def type_words(annotation: Any) -> str:
    """Return a field's type in words: ``whole number or null``, ``a | b`` for choices, ``list of texts``."""
    if annotation in TYPES:
        return TYPES[annotation]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        bounds = [item for extra in arguments[1:] for item in getattr(extra, "metadata", [])]
        return ", each ".join(filter(None, [type_words(arguments[0]), range_words(bounds)]))
    if origin is list:
        kind, _, rest = type_words(arguments[0]).partition(",")
        return f"list of {SEVERAL.get(kind, kind)}" + (f",{rest}" if rest else "")
    if origin is dict:
        return "mapping"
    if all(isinstance(argument, str) for argument in arguments):
        return " | ".join(arguments)
    return " or ".join(type_words(argument) for argument in arguments)


def range_words(metadata: Sequence[Any]) -> str:
    """Return the bounds of a field in words: ``at least 0, below 1``; empty if it has none."""
    found = [item for item in metadata if isinstance(item, str)]
    for item in metadata:
        found += [f"{words} {getattr(item, name):,}" for name, words in BOUNDS.items() if hasattr(item, name)]
        if getattr(item, "min_length", 0):
            found.append("not empty")
    return ", ".join(found)


def meant_by(option: str, following: str, known: Sequence[str], *, takes_config: bool) -> str:
    """Return ``; did you mean …?`` for an unknown option that is like a ``known`` one or like a setting, else nothing.

    Args:
        following: the next argument, which may be its value.
    """
    name, equals, value = option.partition("=")
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    if takes_config:
        if not equals and not following.startswith("-") and "=" not in following:
            value = following
        field = name.lstrip("-").replace("-", "_")
        settings = [setting for setting in configuration.meant_by(field) if "." in setting]
        if not near or any(setting.endswith(f".{field}") for setting in settings):
            near = [f"{setting}={value or '…'}" for setting in settings]
    return f"; did you mean {' or '.join(near)}?" if near else ""


if __name__ == "__main__":
    run_job(main)

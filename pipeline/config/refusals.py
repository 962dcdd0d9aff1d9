"""What pydantic refuses, in sentences that name the setting, the value and what it must be."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from pipeline.config.fields import shown
from pipeline.config.names import unknown

# what pydantic calls "a valid integer, unable to parse string as an integer" and the like
WHOLE, NUMBER = "must be a whole number", "must be a number"
MUST_BE = {
    "string_type": "must be a text (in quotes if YAML would take it for something else)",
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size"), WHOLE),
    **dict.fromkeys(("float_type", "float_parsing"), NUMBER),
    **dict.fromkeys(("bool_type", "bool_parsing"), "must be true or false"),
}


def sentences_of(error: ValidationError, *section: str) -> list[str]:
    """Return a sentence for each setting that pydantic refused; for a list, about its first wrong value."""
    found: dict[Any, str] = {}
    for item in error.errors():
        location = (*section, *item["loc"])
        found.setdefault(location[:2], _sentence({**item, "loc": location}))
    return list(found.values())


def _sentence(error: Any) -> str:
    """Return a pydantic error as one sentence that begins with the dotted path."""
    location = [str(part) for part in error["loc"] if not str(part).startswith(("function-", "literal["))]
    path = ".".join(location[:2])
    if error["type"] == "extra_forbidden":
        return unknown(path)
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error":
        return f"{path}: {message}" if path else message
    message = MUST_BE.get(error["type"], message.replace("Input should be", "must be", 1))
    return f"{path}: {message[0].lower()}{message[1:]}, not {shown(error['input'])}"

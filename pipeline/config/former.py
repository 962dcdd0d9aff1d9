"""Settings of earlier versions: what a renamed one is called now, and what is done in place of a removed one.

Files of settings that runs and searches wrote name every setting, so an old name is read with a notice. A removed
setting is accepted if it has its former default, which is what is done now.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from pipeline.errors import Notice

RENAMED = {
    "train.accumulate": "train.gradient_accumulation_steps",
    "prune.share": "prune.sparsity",
    "model.adaptive_shrinkage": "model.adaptive_div_value",
}
# the former default of each, and what replaces it
REMOVED: dict[str, tuple[Any, str]] = {
    "ddp.bucket_megabytes": (25.0, "gradients are exchanged in buckets of 25 MB, and no other size was faster"),
    "ddp.static_graph": (False, "DDP examines every step afresh, which takes no longer; leave it out"),
}


def name_now(path: str) -> str:
    """What the setting at the dotted ``path`` is called now."""
    return RENAMED.get(path, path)


def renamed(path: str) -> str:
    """``name_now``, with a notice if that is another name."""
    if path in RENAMED:
        warnings.warn(_is_called(path), Notice, stacklevel=2)
    return name_now(path)


def up_to_date(values: Mapping[str, Any], *, file: object = None) -> tuple[dict[str, Any], list[str]]:
    """Return nested ``values`` under their present names, and a sentence for each that cannot be read.

    A notice is given (as a warning) for those that can; ``file`` is where they were read.
    """
    problems: list[str] = []
    notices: list[str] = []
    result = {name: _section(name, part, problems, notices) for name, part in values.items()}
    search = result.get("search")
    if isinstance(search, dict) and isinstance(search.get("space"), dict):
        space = {name_now(path): spec for path, spec in search["space"].items()}
        notices += [_is_called(path) for path in search["space"] if path in RENAMED]
        result["search"] = {**search, "space": space}
    if notices:
        warnings.warn((f"{file}: " if file else "") + "; ".join(notices), Notice, stacklevel=2)
    return result, problems


def _section(name: str, values: Any, problems: list[str], notices: list[str]) -> Any:
    """Return the ``values`` of the section called ``name``, in the same order."""
    if not isinstance(values, dict):
        return values
    result = {}
    for field, value in values.items():
        path = f"{name}.{field}"
        if path in REMOVED:
            usual, instead = REMOVED[path]
            if value == usual and type(value) in (type(usual), int):
                notices.append(f"{path} is no longer a setting")
            else:
                problems.append(f"{path}: is no longer a setting: {instead}")
        elif path in RENAMED:
            now = RENAMED[path].partition(".")[2]
            if now in values:
                problems.append(f"{path}: is now called {RENAMED[path]}, which is set as well")
            notices.append(_is_called(path))
            result[now] = value
        else:
            result[field] = value
    return result


def _is_called(path: str) -> str:
    return f"{path} is now {RENAMED[path]}"

"""Which kind of teacher is at a path, by its files alone: torch is not imported."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Literal

from pipeline.errors import UserError
from pipeline.training.selection import choose
from pipeline.training.teaching.stored import MANIFEST

Kind = Literal["stored", "model", "hugging_face"]
STORED: Literal["stored"] = "stored"
MODEL: Literal["model"] = "model"
HUGGING_FACE: Literal["hugging_face"] = "hugging_face"


def kind_of(path: str | Path) -> Kind:
    """Say what is at ``path``.

    Raises:
        UserError: there is nothing that could teach.
    """
    folder = Path(path)
    if os.path.isfile(folder / MANIFEST):  # Path.is_file raises what it finds wrong with a name
        return STORED
    if os.path.isfile(folder / "config.json"):
        check_foreign(folder)
        return HUGGING_FACE
    choose(path)
    return MODEL


def check_foreign(folder: Path) -> None:
    """Raise ``UserError`` for a folder that this project exported for transformers."""
    try:
        values = json.loads((folder / "config.json").read_bytes())
        model_type = values.get("model_type")
    except (OSError, ValueError, AttributeError, RecursionError):
        raise UserError(f"{folder / 'config.json'}: not the configuration of a Hugging Face model") from None
    if model_type == "recurray":
        raise UserError(
            f"{folder} was exported for transformers; name the run it was made from, or an export in the format torch"
        )

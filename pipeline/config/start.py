"""The settings of initial weights that files of earlier versions do not have.

In those versions, embeddings started in ±0.1 and input matrices like recurrent ones, or all of them in ±init_range.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.config.loading import read_yaml
from pipeline.config.model import ModelConfig

OF_THE_START = ("model.embedding_range", "model.input_gain")
BEFORE = "model.input_gain=1 and, if the head has a matrix of its own, model.embedding_range=0.1"


def is_older(path: Path) -> bool:
    """Whether the configuration that was saved at ``path`` is older than these settings."""
    return "input_gain" not in (read_yaml(path).get("model") or {})


def starts_as_before(model: ModelConfig) -> bool:
    """Whether weights start as they did before these settings existed."""
    if model.init_range is not None:
        return model.embedding_range in (None, model.init_range) and model.input_gain in (None, 1)
    is_attending = model.cell == "transformer"
    ranges = (None, 0.1) if model.tie_weights or is_attending else (0.1,)
    return model.embedding_range in ranges and (is_attending or model.input_gain == 1)

"""Export a model to ONNX, in float32 (checked against torch) or int8. Letters: T time, B streams."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from pipeline.compress.onnx_graph import Graph
from pipeline.compress.onnx_int8 import Int8Graph
from pipeline.compress.onnx_model import OnnxModel
from pipeline.errors import UserError
from pipeline.model.ends import read
from pipeline.model.evaluating import evaluating
from pipeline.model.language_model import LanguageModel

# how far the exported file's logits may be from torch's: absolutely, or relative to the largest if that is more
TOLERANCE, RELATIVE_TOLERANCE = 1e-4, 1e-5
CHECKED_AT_ONCE = 64  # tokens


def export(model: LanguageModel, ids: Any, *, int8: bool = False, facts: Mapping[str, str] | None = None) -> bytes:
    """Return the content of the ONNX file of ``model``; in float32 its logits on the tokens ``ids`` match torch's.

    Args:
        facts: added to the file's metadata, which also say what the model is.

    Raises:
        UserError: ONNX is not installed, or the export does not match.
    """
    graph = Int8Graph(model) if int8 else Graph(model)
    content = graph.content(facts or {})
    if not int8:
        check_matches(model, content, ids)
    return content


def check_matches(model: LanguageModel, content: bytes, ids: Any) -> None:
    """Raise ``UserError`` unless both return the same logits after each of ``ids``, up to rounding."""
    exported = OnnxModel(content)
    largest, allowed = 0.0, TOLERANCE
    with evaluating(model):
        state = model.initial_state(1)
        for window in torch.from_numpy(np.asarray(ids, dtype=np.int64)).unsqueeze(1).split(CHECKED_AT_ONCE):
            hidden, state = read(model, window, state)
            logits = model.head.logits(hidden).float()
            largest = max(largest, float((logits - torch.from_numpy(exported(window.numpy()))).abs().max()))
            allowed = max(allowed, RELATIVE_TOLERANCE * float(logits.abs().max()))
    if not largest <= allowed:
        raise UserError(
            f"the exported model's logits differ from the model's by {largest:.2g} on {len(ids):,} tokens, more than "
            f"{allowed:.2g}; it was not written"
        )

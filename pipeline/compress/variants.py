"""Write the smaller forms of a checkpoint, ready to be measured."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import torch

from pipeline.compress.folder import changed, write_model_folder, write_onnx_folder
from pipeline.compress.measure import Variant
from pipeline.compress.onnx_card import onnx_facts
from pipeline.compress.onnx_export import export
from pipeline.compress.onnx_model import OnnxModel
from pipeline.data.windows import Tokens
from pipeline.model.language_model import LanguageModel
from pipeline.training import checkpoint
from pipeline.training.checkpoint import Loaded
from pipeline.training.pruning import magnitude_masks

# tokens of the text on which an export is checked
CHECKED_TOKENS = 512


def make_variants(
    loaded: Loaded, tokens: Tokens, output: Path, *, sparsities: Sequence[float], scope: str
) -> list[Variant]:
    """Write the variants to folders below ``output`` and return them; ONNX only for a model that does not attend.

    An export is checked on the first ``CHECKED_TOKENS`` of ``tokens``.

    Raises:
        UserError: an exported file does not match the model; then nothing is written.
    """
    model = loaded.model.float()  # in place
    exported = {
        weights: export(model, tokens[:CHECKED_TOKENS], int8=weights == "int8", facts=onnx_facts(loaded))
        for weights in (() if model.attends else ("float32", "int8"))
    }
    variants = [in_torch("float32", loaded, output), in_torch("bf16", loaded, output, torch.bfloat16)]
    for weights, content in exported.items():
        path = write_onnx_folder(output / f"onnx-{weights}", content, loaded, weights=weights)
        variants.append(Variant(f"onnx-{weights}", OnnxModel(path), path.stat().st_size))
    for sparsity in sparsities:
        other = changed(loaded, pruned(model, sparsity, scope), loaded.config)
        variants.append(in_torch(f"pruned-{sparsity:g}", other, output))
    return variants


def pruned(model: LanguageModel, sparsity: float, scope: str) -> LanguageModel:
    """Return a copy of ``model`` whose smallest weights are zero; it needs no less memory or time, but zips well."""
    result = copy.deepcopy(model)
    matrices = [parameter for parameter in result.parameters() if parameter.dim() > 1]
    with torch.no_grad():
        for matrix, mask in zip(matrices, magnitude_masks(matrices, sparsity, scope), strict=True):
            matrix.mul_(mask)
    return result


def in_torch(name: str, loaded: Loaded, output: Path, dtype: torch.dtype = torch.float32) -> Variant:
    """Write a model below ``output``, and read it back."""
    weights = write_model_folder(output / name, loaded, dtype=dtype)
    return Variant(name, checkpoint.load_model(weights.parent).model.float(), weights.stat().st_size)

"""Matrix products and sums in autocast's format, each as the device does it fastest. Letters: N rows, V columns."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def product_dtype(weight: Tensor) -> torch.dtype:
    """The format in which autocast, if it is on, multiplies."""
    device = weight.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype


def affine(rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(N, H) → rows · weightᵀ + bias, (N, V)."""
    if has_onednn_linear(weight):  # where ``addmm`` would first copy the bias into every row
        product: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
        return product
    return torch.addmm(bias, rows, weight.t())


def product_with(weight: Tensor, *, num_rows: int) -> Callable[[Tensor], Tensor]:
    """(num_rows, H) → (num_rows, V) by ``weight`` (V, H), laid out for oneDNN once for all times that it is called."""
    if not has_onednn_linear(weight):
        return lambda rows: rows @ weight.t()
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, num_rows)
    multiply = torch.ops.mkldnn._linear_pointwise
    return lambda rows: multiply(rows, packed, None, "none", [], "")


def has_onednn_linear(weight: Tensor) -> bool:
    """Whether torch's inner operators for oneDNN, those of its compiler, can take ``weight``."""
    return weight.dtype == torch.bfloat16 and not weight.is_cuda and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def column_sums(values: Tensor, dtype: torch.dtype) -> Tensor:
    """(N, V) → (V,) in ``dtype``; on a CPU by a product where that is higher, which needs no copy in it."""
    if values.dtype == dtype or values.is_cuda:
        return values.sum(0, dtype=dtype)
    return (values.new_ones(1, len(values)) @ values)[0].to(dtype)

"""Matrix products and sums in autocast's format, each as the device does it fastest. Letters: N rows, V columns."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def product_dtype(weight: Tensor) -> torch.dtype:
    """The format in which autocast, if it is on, multiplies."""
    device = weight.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype


def product_with(weight: Tensor, *, num_rows: int) -> Callable[[Tensor], Tensor]:
    """(num_rows, H) → (num_rows, V) by ``weight`` (V, H), laid out for oneDNN once for all times that it is called."""
    is_low = weight.dtype == torch.bfloat16 and not weight.is_cuda
    if not is_low or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):  # an inner operator, of torch's compiler
        return lambda rows: rows @ weight.t()
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, num_rows)
    multiply = torch.ops.mkldnn._linear_pointwise
    return lambda rows: multiply(rows, packed, None, "none", [], "")


def column_sums(values: Tensor, dtype: torch.dtype) -> Tensor:
    """(N, V) → (V,) in ``dtype``; on a CPU by a product where that is higher, which needs no copy in it."""
    if values.dtype == dtype or values.is_cuda:
        return values.sum(0, dtype=dtype)
    return (values.new_ones(1, len(values)) @ values)[0].to(dtype)

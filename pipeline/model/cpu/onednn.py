"""torch's private operators of oneDNN, which its compiler uses; whoever calls them asks ``has_products`` first.

They may change with any version of torch, so they are tried once on a small product. Where they are not as expected,
torch's public operators multiply instead, which is slower on some processors and as exact.
"""

from __future__ import annotations

import functools
import platform

import torch
from torch import Tensor

ROWS, WEIGHT = [[1.0, 0.0], [0.0, 1.0]], [[1.0, 2.0], [3.0, 4.0]]  # that the operators are tried on


def linear(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(N, H) by ``weight`` (V, H), or by what ``packed`` made of it, plus ``bias`` (V,) → (N, V)."""
    result: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
    return result


def packed(weight: Tensor, num_rows: int) -> Tensor:
    """Lay ``weight`` (V, H) out for products with about ``num_rows`` rows."""
    result: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, num_rows)
    return result


@functools.cache
def has_products() -> bool:
    """Whether ``linear`` and ``packed`` are there and multiply."""
    rows, weight, bias = (torch.tensor(values, device="cpu") for values in (ROWS, WEIGHT, [1.0, 1.0]))
    try:
        found = [linear(rows, each, bias).tolist() for each in (weight, packed(weight, 2))]
    except (AttributeError, RuntimeError, TypeError):
        return False
    return found == [[[2.0, 4.0], [3.0, 5.0]]] * 2


@functools.cache
def has_bf16_products() -> bool:
    """Whether this CPU multiplies matrices in bf16; oneDNN takes bare AVX-512 for it and emulates it there."""
    is_x86 = platform.machine().lower() in ("x86_64", "amd64")
    try:
        supported: bool = torch.ops.mkldnn._is_mkldnn_bf16_supported()
        return supported and (torch.cpu._is_avx512_bf16_supported() or not is_x86)
    except (AttributeError, RuntimeError):
        return False  # this torch does not tell: float32 is right everywhere

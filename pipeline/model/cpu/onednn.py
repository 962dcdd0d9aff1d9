"""torch's private oneDNN operators, which its compiler uses; callers must check ``has_products`` first.

They may change with any version of torch, so they are tried once on a small product. If they do not work as expected,
torch's public operators multiply instead, which are slower on some processors but as exact.
"""

from __future__ import annotations

import functools
import platform

import torch
from torch import Tensor

ROWS, WEIGHT = [[1.0, 0.0], [0.0, 1.0]], [[1.0, 2.0], [3.0, 4.0]]  # on which the operators are tried


def linear(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(N, H) by ``weight`` (V, H), plain or from ``packed``, plus ``bias`` (V,) → (N, V)."""
    result: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
    return result


def packed(weight: Tensor, num_rows: int) -> Tensor:
    """Lay ``weight`` (V, H) out for products with about ``num_rows`` rows."""
    result: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, num_rows)
    return result


@functools.cache
def has_products() -> bool:
    """Return whether ``linear`` and ``packed`` exist and multiply correctly."""
    rows, weight, bias = (torch.tensor(values, device="cpu") for values in (ROWS, WEIGHT, [1.0, 1.0]))
    try:
        found = [linear(rows, each, bias).tolist() for each in (weight, packed(weight, 2))]
    except (AttributeError, RuntimeError, TypeError):
        return False
    return found == [[[2.0, 4.0], [3.0, 5.0]]] * 2


@functools.cache
def has_bf16_products() -> bool:
    """Return whether this CPU multiplies matrices in bf16; oneDNN also claims it for bare AVX-512, but emulates it."""
    is_x86 = platform.machine().lower() in ("x86_64", "amd64")
    try:
        supported: bool = torch.ops.mkldnn._is_mkldnn_bf16_supported()
        return supported and (torch.cpu._is_avx512_bf16_supported() or not is_x86)
    except (AttributeError, RuntimeError):
        return False  # this version of torch does not tell: float32 is right everywhere

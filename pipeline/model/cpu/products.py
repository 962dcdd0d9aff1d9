"""Matrix products and sums, each done as the device does it fastest. Letters: N rows, H and V columns."""

from __future__ import annotations

import functools
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from pipeline.model.cpu import onednn
from pipeline.model.precision import autocast_where_native

# rows of the gradient of a large matrix that are computed at a time
ROWS_MADE_AT_ONCE = 16_384
# number of summands from which oneDNN's faster sums over rows outweigh the copying needed to add them
FEW_ROWS = 256


def product_dtype(weight: Tensor) -> torch.dtype:
    """Return the format of products: that of autocast, if it is on, else that of ``weight``."""
    device = weight.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype


def linear(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """(…, H) by ``weight`` (V, H), plus ``bias`` (V,) → (…, V), in autocast's format where the device has it."""
    with autocast_where_native(inputs.device.type):
        if product_dtype(weight) == inputs.dtype and takes_onednn(inputs):
            result: Tensor = Linear.apply(inputs.reshape(-1, inputs.shape[-1]), weight, bias)
            return result.view(*inputs.shape[:-1], len(weight))
        return F.linear(inputs, weight, bias)


class Linear(torch.autograd.Function):
    """``F.linear`` of (N, H) and its gradients, computed with ``product``; differentiable once."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(rows, weight)
        ctx.has_bias = bias is not None
        return product(rows, weight.t(), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight = ctx.saved_tensors
        grad_rows = product(grad, weight) if ctx.needs_input_grad[0] else None
        grad_weight = product_over_rows(grad, rows) if ctx.needs_input_grad[1] else None
        return grad_rows, grad_weight, grad.sum(0) if ctx.has_bias else None


def product(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    """(N, H) by (H, V), plus ``bias`` (V,) → (N, V), outside autograd."""
    if takes_onednn(left) and left.numel() and right.numel():  # it refuses an empty product
        # with part of a wider matrix it would take a thousand times as long
        is_dense = right.is_contiguous() or right.t().is_contiguous()
        weight = (right if is_dense else right.contiguous()).t()
        bias = None if bias is None else bias.contiguous()  # it ignores strides
        return onednn.linear(left, weight, bias)
    return left @ right if bias is None else torch.addmm(bias, left, right)


def product_over_rows(left: Tensor, right: Tensor) -> Tensor:
    """Multiply the transpose of (N, V) by (N, H) → (V, H), a sum over rows, outside autograd."""
    if not takes_onednn(left) or left.shape[1] <= right.shape[1]:
        return product(left.t(), right)
    result = left.new_empty(left.shape[1], right.shape[1])
    for part, columns in zip(result.split(ROWS_MADE_AT_ONCE), left.split(ROWS_MADE_AT_ONCE, dim=1), strict=True):
        transpose_into(part, product(right.t(), columns))  # oneDNN wants the longer side of the result last
    return result


def add_over_rows(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add ``product_over_rows`` to (V, H) ``total``, a part at a time, so that no second matrix of its size exists."""
    if total.dtype == left.dtype and (not takes_onednn(left) or len(left) < FEW_ROWS):
        total.addmm_(left.t(), right)
        return
    for part, columns in zip(total.split(ROWS_MADE_AT_ONCE), left.split(ROWS_MADE_AT_ONCE, dim=1), strict=True):
        part += product_over_rows(columns, right)


def product_with(weight: Tensor, bias: Tensor | None = None, *, num_rows: int) -> Callable[[Tensor], Tensor]:
    """Return a function that multiplies (num_rows, H) by ``weight`` (V, H) and adds ``bias`` (V,), outside autograd.

    For oneDNN the weight is laid out only once.
    """
    if not is_laid_out(weight):
        return lambda rows: F.linear(rows, weight, bias)
    packed = onednn.packed(weight, num_rows)
    bias = None if bias is None else bias.contiguous()  # oneDNN ignores strides
    return lambda rows: onednn.linear(rows.contiguous(), packed, bias)


def product_by_heads(weights: Tensor, *, num_rows: int) -> Callable[[Tensor], Tensor]:
    """Return a function that multiplies (K, num_rows, D) by ``weights`` (K, V, D), each head by its own, outside
    autograd: (K, num_rows, V).
    """
    if not is_laid_out(weights):
        columns = weights.transpose(1, 2)
        return lambda rows: torch.bmm(rows, columns)
    heads = [product_with(weight.contiguous(), num_rows=num_rows) for weight in weights]
    return lambda rows: torch.stack([head(part) for head, part in zip(heads, rows, strict=True)])


def is_laid_out(weight: Tensor) -> bool:
    """Return whether ``product_with`` lays ``weight`` out for oneDNN, in float32 or in bf16."""
    is_low = weight.dtype == torch.bfloat16 and not weight.is_cuda
    return takes_onednn(weight) or (is_low and onednn.has_products() and onednn.has_bf16_products())


def column_sums(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Sum (N, V) over its rows in ``dtype``; on a CPU with a product, which needs no copy of the values in it."""
    if values.dtype == dtype or values.is_cuda:
        return values.sum(0, dtype=dtype)
    return (values.new_ones(1, len(values)) @ values)[0].to(dtype)


def tanh_(values: Tensor) -> Tensor:
    """Compute tanh in place: on a CPU as 2 σ(2 x) − 1, in a quarter of torch's time, in float32 within 2e-7 of it."""
    if values.device.type != "cpu":
        return values.tanh_()
    values.mul_(2).sigmoid_()
    return torch.add(values.new_tensor(-1), values, alpha=2, out=values)


def transposed(matrix: Tensor) -> Tensor:
    """(N, H) → (H, N), contiguous."""
    result = matrix.new_empty(matrix.shape[::-1])
    transpose_into(result, matrix)
    return result


def transpose_into(result: Tensor, matrix: Tensor) -> None:
    """Write (N, H) into (H, N), some rows at a time, which stay in the cache: torch's own copy takes twice as long."""
    for source, target in zip(matrix.split(128), result.split(128, dim=1), strict=True):
        target.copy_(source.t())


def takes_onednn(values: Tensor) -> bool:
    """Return whether to multiply ``values`` with oneDNN instead of with MKL, as torch would."""
    return values.dtype == torch.float32 and values.device.type == "cpu" and onednn_is_faster()


@functools.cache
def onednn_is_faster() -> bool:
    """Return whether MKL multiplies float32 without AVX-512 here, at half the speed, as it does on AMD processors."""
    has_avx512 = "AVX512" in torch.backends.cpu.get_cpu_capability()
    return has_avx512 and torch.backends.mkl.is_available() and onednn.has_products() and "AuthenticAMD" in _vendor()


def _vendor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return platform.processor()
    return next((line for line in cpuinfo.read_text().splitlines() if line.startswith("vendor_id")), "")

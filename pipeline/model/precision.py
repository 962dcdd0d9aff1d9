"""The number format of a forward pass: the one asked for, those that the device has, and the one used."""

from __future__ import annotations

import inspect
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.model.cpu.onednn import has_bf16_products, has_products

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}

# parts of the names of torch's operators that multiply matrices
MULTIPLIES = ("mm", "linear", "rnn", "lstm", "gru")


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """Return the autocast context of ``train.precision`` on ``device``, which does nothing for float32 and float64."""
    if precision not in AUTOCAST:
        return nullcontext()
    return torch.autocast(device.type, dtype=AUTOCAST[precision], cache_enabled=False)


def set_tf32(allowed: bool) -> None:
    """Let a GPU multiply float32 in TF32 or not, in cuBLAS and cuDNN alike (torch's own defaults differ)."""
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def runs_in_autocast(device: str) -> bool:
    """Return whether products run in autocast's format; else they run in the format of the weights.

    A CPU without instructions for bf16 emulates it, 4 to 50 times slower than float32, and no CPU has a recurrent
    kernel in fp16.
    """
    if device != "cpu" or not torch.is_autocast_enabled("cpu"):
        return True
    return torch.get_autocast_dtype("cpu") == torch.bfloat16 and has_bf16_products()


def autocast_where_native(device: str) -> AbstractContextManager[Any]:
    """Leave autocast as it is, or turn it off if ``device`` would emulate its format."""
    return nullcontext() if runs_in_autocast(device) else torch.autocast(device, enabled=False)


class ProductFormats(TorchDispatchMode):
    """While active, collects in ``found`` the formats of all matrices that are multiplied.

    It sees operators below autocast, as the device receives them. Their results would not tell: torch's own GRU
    multiplies in autocast's format and sums in the format of its state.
    """

    def __init__(self) -> None:
        super().__init__()
        has_products()  # tries products of its own, which must not be counted
        self.found: set[torch.dtype] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(part in func.name().partition("::")[2] for part in MULTIPLIES):
            matrices = (item for item in args if isinstance(item, torch.Tensor) and item.dim() > 1)
            self.found |= {matrix.dtype for matrix in matrices if matrix.dtype.is_floating_point}
        return func(*args, **(kwargs or {}))


# without torch's do-not-compile mark, for which torch would import its compiler (1.3 s of CPU time)
ProductFormats.__torch_dispatch__ = inspect.unwrap(ProductFormats.__torch_dispatch__)  # type: ignore[method-assign]

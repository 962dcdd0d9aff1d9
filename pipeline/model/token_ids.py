"""Token ids of any integer type as torch's kernels take them: tokenizers and shards hold them as uint16 or uint32."""

from __future__ import annotations

import torch
from torch import Tensor


def as_int64(ids: Tensor) -> Tensor:
    """Return ``ids`` in int64, unchanged if they are. Raises ``TypeError`` if they are not integers."""
    if ids.dtype is torch.int64:
        return ids
    if ids.dtype is torch.bool or ids.is_floating_point() or ids.is_complex():
        raise TypeError(f"token ids must be integers, not {ids.dtype}")
    return ids.long()

"""In-place operations on lists of tensors, each in one call to torch.

Torch documents these functions, but their names begin with an underscore: if a version of torch lacks one, the
operation is done tensor by tensor, with the same result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def _on_lists(name: str) -> Callable[..., None]:
    """Return the tensor method ``name`` for lists of tensors; other arguments are lists as long, or one for all."""
    together = getattr(torch, f"_foreach_{name}", None)

    def one_by_one(tensors: Sequence[Tensor], *others: Any, **named: Any) -> None:
        for index, tensor in enumerate(tensors):
            arguments = [other[index] if isinstance(other, (list, tuple)) else other for other in others]
            getattr(tensor, name)(*arguments, **named)

    return one_by_one if together is None else together


addcmul_ = _on_lists("addcmul_")
clamp_max_ = _on_lists("clamp_max_")
clamp_min_ = _on_lists("clamp_min_")
div_ = _on_lists("div_")
lerp_ = _on_lists("lerp_")
mul_ = _on_lists("mul_")

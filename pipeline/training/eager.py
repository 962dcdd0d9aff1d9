"""torch's optimizers without torch's compiler, which they import at their first use: 1.3 s of CPU time and 100 MB.

torch marks methods of its optimizers as not to be compiled, and imports the compiler to say so. Here they are called
without these marks, and compute the same.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch


class Eager(torch.optim.Optimizer):
    """An optimizer whose common methods have no marks; each class below removes that of its ``step``."""

    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)
    state_dict = inspect.unwrap(torch.optim.Optimizer.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.Optimizer.load_state_dict)


def eager(step: Any) -> Any:
    """Return ``step`` of one of torch's optimizers without its mark."""
    return torch.no_grad()(inspect.unwrap(step))


class SGD(Eager, torch.optim.SGD):
    step = eager(torch.optim.SGD.step)


class Adam(Eager, torch.optim.Adam):
    step = eager(torch.optim.Adam.step)


class AdamW(Eager, torch.optim.AdamW):
    step = eager(torch.optim.AdamW.step)

"""What an update leaves on the device: the scale of an fp16 loss, and how many updates were refused."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class LossScale:
    """Dynamic scale of an fp16 loss, kept on the device: halved at an overflow, doubled after 2,000 good updates.

    Source: Micikevicius et al. 2018. Gradients are averaged over the ranks before they are judged, and an overflow
    on one is an overflow on all, so all ranks have the same scale without communication.
    """

    def __init__(self, *, enabled: bool, device: torch.device) -> None:
        self.enabled = enabled
        self.scale = torch.tensor(2.0**16 if enabled else 1.0, device=device)
        self.num_good = torch.zeros((), dtype=torch.int32, device=device)

    def update(self, finite: Tensor) -> None:
        if self.enabled:
            torch._amp_update_scale_(self.scale, self.num_good, (~finite).float(), 2.0, 0.5, 2000)

    def state_dict(self) -> dict[str, Tensor]:
        return {"scale": self.scale, "num_good": self.num_good}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.scale.copy_(state["scale"])
        self.num_good.copy_(state["num_good"])


class Refusals:
    """Counts, on the device, the updates that were not made because a gradient was not finite."""

    def __init__(self, device: torch.device) -> None:
        self.number = torch.zeros((), dtype=torch.int64, device=device)

    def state_dict(self) -> dict[str, Tensor]:
        return {"number": self.number}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.number.copy_(state["number"])

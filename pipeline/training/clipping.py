"""Gradients are clipped by value, by global norm, or to a percentile of recent norms.

Everything stays on the device: nothing here waits for it. The ranks have averaged their gradients first, so all of
them decide alike.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pipeline.config import TrainConfig
from pipeline.model import foreach


class Clipping:
    """Clips to the smallest limit that is set, and counts how often it clipped.

    Source: Pascanu et al. 2013 (norm); Mikolov 2012 (value); Seetharaman et al. 2020, AutoClip (percentile), here over
    the last ``clip_history`` finite norms, the current one included, instead of over all.
    """

    def __init__(
        self,
        *,
        norm: float | None = None,
        value: float | None = None,
        percentile: float | None = None,
        history: int = 100,
        device: torch.device | str = "cpu",
    ) -> None:
        self.norm, self.value, self.percentile = norm, value, percentile
        self.norms = torch.full(
            (history if percentile else 0,), torch.nan, dtype=torch.float64, device=device
        )  # a ring
        self.num_seen = torch.zeros((1,), dtype=torch.int64, device=device)
        self.num_clipped = torch.zeros((), dtype=torch.int64, device=device)
        self.num_updates = 0

    @classmethod
    def of(cls, train: TrainConfig, *, device: torch.device) -> Clipping:
        return cls(
            norm=train.clip_norm,
            value=train.clip_value,
            percentile=train.clip_percentile,
            history=train.clip_history,
            device=device,
        )

    def __call__(self, gradients: list[Tensor], scale: Tensor) -> tuple[Tensor, Tensor]:
        """Clip by value in place, and return what to divide the gradients by for the other limits.

        Args:
            gradients: of the loss times ``scale``.

        Returns:
            The global norm of the unscaled gradients before any clipping, and what to divide ``gradients`` by now.
        """
        norm = torch.nn.utils.get_total_norm(gradients) / scale
        finite = torch.isfinite(norm)
        clipped = torch.zeros_like(finite)
        divisor, left = scale, norm
        if self.value is not None:
            foreach.div_(gradients, scale)
            clipped |= torch.nn.utils.get_total_norm(gradients, torch.inf) > self.value
            foreach.clamp_min_(gradients, -self.value)
            foreach.clamp_max_(gradients, self.value)
            divisor = torch.ones_like(scale)
            if self.norm is not None or self.percentile is not None:
                left = torch.nn.utils.get_total_norm(gradients)
        limit = self._limit(left, finite)
        if limit is not None:
            exceeds = left > limit
            clipped |= exceeds
            # a limit of 0, the percentile of norms that are 0, must not be divided by where nothing exceeds it
            divisor = divisor * torch.where(exceeds, left / limit, 1.0)
        self.num_clipped += clipped & finite
        self.num_updates += 1
        return norm, divisor

    def _limit(self, norm: Tensor, finite: Tensor) -> Tensor | float | None:
        """Return the norm to clip to, after noting ``norm`` among the recent ones if it is finite."""
        if self.percentile is None:
            return self.norm
        place = self.num_seen % len(self.norms)  # (1,)
        self.norms[place] = torch.where(finite, norm.double(), self.norms[place])
        self.num_seen += finite
        limit = torch.nanquantile(self.norms, self.percentile / 100).to(norm.dtype)
        return limit if self.norm is None else limit.clamp(max=self.norm)

    def take_share(self) -> float:
        """Return the share of updates since the last call that were clipped; waits for the device."""
        share = int(self.num_clipped) / max(1, self.num_updates)
        self.num_clipped.zero_()
        self.num_updates = 0
        return share

    def state_dict(self) -> dict[str, Tensor | int]:
        return {
            "norms": self.norms,
            "num_seen": self.num_seen,
            "num_clipped": self.num_clipped,
            "num_updates": self.num_updates,
        }

    def load_state_dict(self, state: Mapping[str, Tensor | int]) -> None:
        """Copy what ``state_dict`` returned into this object's own tensors."""
        norms = state["norms"]
        assert isinstance(norms, Tensor)
        kept = ("norms", "num_seen") if len(norms) == len(self.norms) else ()  # else they begin empty, or are unused
        for own, saved in ((getattr(self, name), state[name]) for name in (*kept, "num_clipped")):
            own.copy_(saved)
        self.num_updates = int(state["num_updates"])

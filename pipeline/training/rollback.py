"""What stands at the edge of each update, so that the last one can be undone."""

from __future__ import annotations

import copy
from collections import deque
from typing import Any

import torch

from pipeline.training.step import TrainingStep


class Rollback:
    """Remembers weights, average, masks, optimizer, loss scale and clipping before each of the last two updates.

    A window whose loss is bad was read with weights that the update before it made. So going back means to where that
    update began: two updates back, once the window has made its own.
    """

    def __init__(self, step: TrainingStep) -> None:
        self.step = step
        self.edges: deque[dict[str, Any]] = deque(maxlen=2)

    def remember(self) -> None:
        """Take note of what the next update will change."""
        step = self.step
        self.edges.append(
            {
                "weights": [parameter.detach().clone() for parameter in step.parameters],
                "optimizer": copy.deepcopy(step.optimizer.state_dict()),
                "loss_scale": copy.deepcopy(step.loss_scale.state_dict()),
                "averaging": step.averaging.remembered(),
                "pruning": copy.copy(step.pruning.state_dict()),
                "clipping": copy.deepcopy(step.clipping.state_dict()),
                "num_refused": step.num_refused.clone(),
            }
        )

    def undo(self) -> bool:
        """Go back to before the update that the last window was read after; False where that is not known."""
        if len(self.edges) < 2:
            return False
        step, edge = self.step, self.edges[0]
        with torch.no_grad():
            for parameter, weights in zip(step.parameters, edge["weights"], strict=True):
                parameter.copy_(weights)
        step.optimizer.load_state_dict(edge["optimizer"])
        step.loss_scale.load_state_dict(edge["loss_scale"])
        step.averaging.recall(edge["averaging"])
        step.pruning.load_state_dict(edge["pruning"])
        step.clipping.load_state_dict(edge["clipping"])
        step.num_refused.copy_(edge["num_refused"])
        del self.edges[1]
        return True

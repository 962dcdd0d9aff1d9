"""What lies between embedding and head: a stack of layers, in the precision in which the device multiplies."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.model.precision import runs_in_autocast
from pipeline.model.regularization import Masks
from pipeline.model.segments import Segments
from pipeline.model.state import State


class LayerStack(nn.Module):
    """A ``Recurrence``, or a ``Transformer`` in its place. Letters: T time, B streams, E embedding, H hidden."""

    def forward(
        self,
        inputs: Tensor,
        state: State,
        segments: Segments | None = None,
        masks: Masks | None = None,
        outputs: list[Tensor] | None = None,
    ) -> tuple[Tensor, State]:
        """Run all layers over (T, B, E); returns (T, B, H) of the last layer and the state after the last step.

        Args:
            segments: where in the window streams restart.
            masks: of locked and weight dropout; None: no such dropout, as when not training.
            outputs: a list that receives what each layer passes on, (T, B, H of that layer).
        """
        if runs_in_autocast(inputs.device.type):
            return self.run(inputs, state, segments, masks, outputs)
        with torch.autocast(inputs.device.type, enabled=False):
            return self.run(inputs.to(state[0].dtype), state, segments, masks, outputs)

    def run(
        self,
        inputs: Tensor,
        state: State,
        segments: Segments | None,
        masks: Masks | None,
        outputs: list[Tensor] | None,
    ) -> tuple[Tensor, State]:
        """Do what ``forward`` says, with or without autocast."""
        raise NotImplementedError

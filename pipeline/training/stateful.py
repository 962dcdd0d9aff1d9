"""The parts of a run that remember something, each with ``state_dict`` and ``load_state_dict``.

``TrainingStep.parts`` lists those that an update changes, ``RunState.parts`` adds where the run is. Checkpoints and
resuming (``resume``) walk over the second, undoing (``rollback``) over the first, and neither names a part: a new part
is listed once and cannot be forgotten. Letters: B streams of this rank, H hidden, W ranks.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pipeline.data.windows import TrainingData
from pipeline.model.state import State


class Stateful(Protocol):
    """A part of a run that a checkpoint holds."""

    def state_dict(self) -> Any:
        """What the next step depends on: tensors, numbers and strings in dicts, lists and tuples. All ranks call it."""

    def load_state_dict(self, state: Any, /) -> Any:
        """Take on the state that ``state_dict`` returned."""


class Weights:
    """The trained weights of a model, by name; a tied weight once."""

    def __init__(self, model: nn.Module) -> None:
        self.parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}

    def state_dict(self) -> dict[str, Tensor]:
        return self.parameters

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        for name, parameter in self.parameters.items():
            parameter.copy_(state[name])


class HiddenState:
    """The hidden state (layers, B, H) that the last window left, saved by global stream.

    Every stream keeps its own when a run continues with another number of workers.
    """

    def __init__(self, state: State, data: TrainingData) -> None:
        self.state = state
        self.rows, self.batch_size = data.rows, data.batch_size

    def state_dict(self) -> State:
        return global_rows(self.rows, self.batch_size, self.state)

    def load_state_dict(self, state: State) -> None:
        self.state = tuple(part[:, self.rows.start : self.rows.stop].contiguous() for part in state)


class Interval:
    """This rank's sums since the last line of the metrics file."""

    def __init__(self, device: torch.device, *, rank: int, world_size: int) -> None:
        self.nats = torch.zeros((), dtype=torch.float64, device=device)
        self.rank, self.world_size = rank, world_size
        self.begin()

    def begin(self) -> None:
        """Begin a new interval."""
        self.nats = torch.zeros_like(self.nats)
        self.tokens = 0  # over all ranks
        self.tokens_before = 0  # of these, those of an earlier start of the run
        self.started = time.monotonic()  # moved forward by every pause in training

    def state_dict(self) -> dict[str, Any]:
        own = range(self.rank, self.rank + 1)
        return {"nats": global_rows(own, self.world_size, [self.nats.reshape(1, 1)])[0], "tokens": self.tokens}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        nats = state["nats"].flatten()  # (W,) of the ranks that saved it
        if len(nats) == self.world_size:
            self.nats = nats[self.rank].clone()
        elif self.rank == 0:
            self.nats = nats.sum()
        self.tokens = self.tokens_before = state["tokens"]


def global_rows(rows: range, batch_size: int, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Gather each rank's (layers, B, H) ``tensors`` into those of the whole batch, at its ``rows``, on all ranks.

    A sum of one value and zeros is exact, so one all-reduce gathers uneven parts without loss.
    """
    gathered = []
    for tensor in tensors:
        whole = tensor.new_zeros(tensor.shape[0], batch_size, *tensor.shape[2:])
        whole[:, rows.start : rows.stop] = tensor
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(whole)
        gathered.append(whole)
    return tuple(gathered)

"""The soft targets of each window, and what a run remembers of its teacher: its state, and a sum for the record.

Letters: T time, B streams of this rank, k types, W ranks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.config import TrainConfig
from pipeline.data.shards import PreparedCorpus
from pipeline.data.streams import Streams
from pipeline.data.windows import IGNORED, TrainingData, Window
from pipeline.errors import UserError
from pipeline.metrics import all_reduce_sum
from pipeline.model.head.distillation import SoftTargets, TopTargets, WholeTargets
from pipeline.model.state import State
from pipeline.training.stateful import global_rows
from pipeline.training.teaching.find import Found, find, open_model
from pipeline.training.teaching.kinds import STORED
from pipeline.training.teaching.models import TeacherModel
from pipeline.training.teaching.stored import Ids, Rows, StoredLogits

TOP_K = "train.teacher_top_k"


class Teaching(ABC):
    """What one rank knows about the teacher of its run."""

    def __init__(
        self, train: TrainConfig, vocab_size: int, fingerprint: str, *, device: torch.device, rank: int, world_size: int
    ) -> None:
        self.weight, self.temperature = train.teacher_weight, train.teacher_temperature
        self.vocab_size = vocab_size
        self.fingerprint = fingerprint
        self.device = device
        self.rank, self.world_size = rank, world_size
        self.divergence = torch.zeros((), dtype=torch.float64, device=device)  # summed since the last line

    @abstractmethod
    def __call__(self, window: Window, inputs: Tensor) -> SoftTargets:
        """What the teacher says of a window's targets; ``inputs`` are its (T, B) ids on the device."""

    def take(self, num_targets: int) -> float:
        """The mean divergence per token since the last call, over all ranks, which call it together."""
        (total,) = all_reduce_sum([float(self.divergence)])
        self.divergence = torch.zeros_like(self.divergence)
        return total / num_targets if num_targets else float("nan")

    def state_dict(self) -> dict[str, Any]:
        own = range(self.rank, self.rank + 1)
        return {"divergence": global_rows(own, self.world_size, [self.divergence.reshape(1, 1)])[0]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        sums = state["divergence"].flatten()  # (W,) of the ranks that saved it
        if len(sums) == self.world_size:
            self.divergence = sums[self.rank].clone()
        elif self.rank == 0:
            self.divergence = sums.sum()


class LiveTeaching(Teaching):
    """Teaching by a model that reads each window just before the student does."""

    def __init__(self, model: TeacherModel, train: TrainConfig, *, data: TrainingData, **named: Any) -> None:
        super().__init__(train, **named)
        self.model = model
        self.top_k = train.teacher_top_k
        # a model of documents begins anew before the <eos> after which their first tokens are read, not at these
        self.is_reset = train.reset_state != "document" or model.begin_id is None
        self.rows, self.batch_size = data.rows, data.batch_size
        self.state = model.initial_state(len(data.rows))

    def __call__(self, window: Window, inputs: Tensor) -> SoftTargets:
        state = self.model.initial_state(inputs.shape[1]) if window.begins else self.state
        hidden, self.state = self.model.read(inputs, state, window.resets if self.is_reset else None)
        common = (self.weight, self.temperature, self.vocab_size)
        if self.top_k is None:
            return WholeTargets(*common, hidden=hidden, logits=self.model.logits)
        types, log_q = self.model.likeliest(hidden, self.top_k, self.temperature)
        return TopTargets(*common, types=types, log_q=log_q)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "state": global_rows(self.rows, self.batch_size, self.state)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        saved: State = tuple(state["state"])
        self.state = tuple(part[:, self.rows.start : self.rows.stop].contiguous() for part in saved)


class StoredTeaching(Teaching):
    """Teaching from files of the likeliest types, which hold a row for every token of the split."""

    def __init__(self, stored: StoredLogits, train: TrainConfig, **named: Any) -> None:
        super().__init__(train, **named)
        self.stored = stored
        self.temperature_index = stored.temperature_index(train.teacher_temperature)
        self.top_k = train.teacher_top_k or stored.origin.top_k

    def __call__(self, window: Window, inputs: Tensor) -> SoftTargets:
        assert window.places is not None
        places = window.places.reshape(-1)
        found = self.stored.rows(places, top_k=self.top_k, temperature_index=self.temperature_index)
        if self.stored.origin.layout == "streams":
            self._fill_in_first(found, places, window.targets.reshape(-1))
        normalizers, types, log_p = (torch.from_numpy(part).to(self.device, non_blocking=True) for part in found)
        log_q = log_p.float().div_(self.temperature).sub_(normalizers.unsqueeze(1))  # (N, k)
        shape = (*window.places.shape, self.top_k)
        return TopTargets(
            self.weight, self.temperature, self.vocab_size, types=types.view(shape), log_q=log_q.view(shape)
        )

    def _fill_in_first(self, rows: Rows, places: Ids, targets: Ids) -> None:
        """Have the teacher expect the first token of the split, of which a teacher that reads streams says nothing.

        Only a student that reads documents has it as a target.
        """
        normalizers, types, log_p = rows
        for row in np.flatnonzero((places == 0) & (targets != IGNORED)).tolist():
            types[row] = (targets[row] + np.arange(self.top_k)) % self.vocab_size
            normalizers[row], log_p[row] = 0, np.finfo(log_p.dtype).min  # far below what counts, but no infinity
            log_p[row, 0] = 0


def teaching_of(
    train: TrainConfig, corpus: PreparedCorpus, data: TrainingData, *, device: torch.device, rank: int, world_size: int
) -> Teaching | None:
    """What ``train.teacher`` asks for; None: no teacher. Raises ``UserError`` like ``find`` and ``open_model``."""
    if train.teacher is None:
        return None
    found = check_teacher(train, corpus)
    named: dict[str, Any] = {
        "vocab_size": corpus.vocab_size,
        "fingerprint": found.fingerprint,
        "device": device,
        "rank": rank,
        "world_size": world_size,
    }
    if found.kind == STORED:
        return StoredTeaching(StoredLogits(found.path), train, **named)
    reads_streams = isinstance(data, Streams)
    model = open_model(found, corpus.tokenizer, device=device, precision=train.precision, reads_streams=reads_streams)
    return LiveTeaching(model, train, data=data, **named)


def check_teacher(train: TrainConfig, corpus: PreparedCorpus) -> Found:
    """Find the teacher and check that the settings fit it, without building it. Raises ``UserError``."""
    assert train.teacher is not None
    found = find(train.teacher, corpus)
    top_k = train.teacher_top_k
    if found.kind == STORED:
        stored = StoredLogits(found.path)
        stored.temperature_index(train.teacher_temperature)
        if top_k is not None and top_k > stored.origin.top_k:
            raise UserError(f"{top_k:,}, but {stored.folder} has {stored.origin.top_k:,} per token", argument=TOP_K)
    elif top_k is not None and top_k > corpus.vocab_size:
        raise UserError(f"{top_k:,} is more than the {corpus.vocab_size:,} types there are", argument=TOP_K)
    return found

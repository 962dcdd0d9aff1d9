"""A teacher that runs: windows of ids in, its distributions out, with a state that is carried from window to window.

Letters: T time, B streams, H hidden, V vocabulary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from pipeline.data.windows import Resets
from pipeline.model.ends import resets_within, without_ended
from pipeline.model.language_model import LanguageModel
from pipeline.model.precision import autocast
from pipeline.model.segments import Segments
from pipeline.model.state import State

# rows whose logits are computed at a time
ROWS_AT_ONCE = 512


class TeacherModel(ABC):
    """A model that only predicts: nothing of it has a gradient."""

    # what documents begin with, each from a zero state, for a model that was trained on documents and reads streams
    begin_id: int | None = None

    @abstractmethod
    def initial_state(self, num_rows: int) -> State:
        """The state before any text: tensors with the streams in their second dimension."""

    @abstractmethod
    def read(self, inputs: Tensor, state: State, resets: Resets | None) -> tuple[Tensor, State]:
        """(T, B) ids → (T, B, H) what ``logits`` takes, and the state after them.

        Args:
            resets: (T, B), true where a stream is reset before that input; None: nowhere.
        """

    @abstractmethod
    def logits(self, hidden: Tensor) -> Tensor:
        """(n, H) → (n, V) over the types of the corpus, at least in float32."""

    def likeliest(self, hidden: Tensor, top_k: int, temperature: float) -> tuple[Tensor, Tensor]:
        """(T, B, H) → the (T, B, k) likeliest types, the likeliest first, and ln of their probabilities at τ."""
        types, values = [], []
        for logits in self.chunks(hidden):
            found = (logits / temperature).log_softmax(-1).topk(top_k, dim=-1)
            types.append(found.indices)
            values.append(found.values)
        shape = (*hidden.shape[:2], top_k)
        return torch.cat(types).view(shape), torch.cat(values).view(shape)

    def chunks(self, hidden: Tensor) -> Iterator[Tensor]:
        """(n, V) logits of the T·B places of (T, B, H), some at a time."""
        with torch.no_grad():
            for rows in hidden.flatten(0, 1).split(ROWS_AT_ONCE):
                yield self.logits(rows)


class RecurrentTeacher(TeacherModel):
    """A model of this project."""

    def __init__(self, model: LanguageModel, *, precision: str, begin_id: int | None = None) -> None:
        """
        Args:
            precision: as ``train.precision``.
            begin_id: as in ``TeacherModel``.
        """
        self.model = (model.double() if precision == "float64" else model).eval().requires_grad_(False)
        self.precision = precision
        self.begin_id = begin_id

    def initial_state(self, num_rows: int) -> State:
        return self.model.initial_state(num_rows)

    def read(self, inputs: Tensor, state: State, resets: Resets | None) -> tuple[Tensor, State]:
        own = self._own_resets(inputs)
        if own is not None:
            resets = own if resets is None else resets | own
        segments = None if resets is None else Segments(resets, device=inputs.device)
        with torch.no_grad(), autocast(self.precision, inputs.device):
            hidden, state = self.model(inputs, state, segments)
        return hidden, without_ended(self.model, inputs[-1], state)

    def _own_resets(self, inputs: Tensor) -> Resets | None:
        """(T, B), true where this model's state is zero as in its own training, whatever resets the student has."""
        ends = self.model.reset_after if self.begin_id is None else self.begin_id
        own = resets_within(self.model, inputs)
        if self.begin_id is not None:
            own = (inputs == self.begin_id).cpu().numpy()
        if own is None or ends is None:
            return None
        # not within padding, which is <eos> too: each reset makes a row of the window
        is_tail = np.logical_and.accumulate((inputs == ends).cpu().numpy()[::-1])[::-1]  # (T, B): nothing else follows
        own[1:] &= ~is_tail[:-1]
        return own

    def logits(self, hidden: Tensor) -> Tensor:
        with torch.no_grad(), autocast(self.precision, hidden.device):
            return self.model.head.logits(hidden)

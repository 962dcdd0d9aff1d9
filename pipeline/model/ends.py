"""Where a state becomes zero because of what was read: after the <eos> of documents, if training reset it there.

In running text, resets come with its windows. Here they follow from the ids alone, for texts that have no such windows:
prompts, texts that are being written, what a teacher reads beside a student. Letters: T time, B streams.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from pipeline.model.language_model import LanguageModel
from pipeline.model.segments import Segments
from pipeline.model.state import State


def resets_within(model: LanguageModel, tokens: Tensor) -> np.ndarray[Any, np.dtype[np.bool_]] | None:
    """(T, B) ids → (T, B), true where the state of ``model`` is zero before one of them; None: nowhere."""
    if model.reset_after is None:
        return None
    has_ended = (tokens == model.reset_after).cpu().numpy()
    resets = np.zeros_like(has_ended)
    resets[1:] = has_ended[:-1]
    return resets if resets.any() else None


def read(model: LanguageModel, tokens: Tensor, state: State) -> tuple[Tensor, State]:
    """Read (T, B) ids as ``LanguageModel.forward`` does, with a zero state after each end of a document."""
    resets = resets_within(model, tokens)
    hidden, state = model(tokens, state, None if resets is None else Segments(resets, device=tokens.device))
    return hidden, without_ended(model, tokens[-1], state)


def without_ended(model: LanguageModel, tokens: Tensor, state: State) -> State:
    """``state``, after (B,) ``tokens`` were read, made zero where it leaves nothing for what comes next."""
    if model.reset_after is None or not bool((has_ended := tokens == model.reset_after).any()):
        return state
    return tuple(part.masked_fill(has_ended.view(1, -1, 1), 0) for part in state)

"""Where a state becomes zero in texts, as training reset it: after the <eos> of documents, or every few tokens.

In running text, resets come with its windows. Here they follow from the ids alone, or from how much of a text came
before, for texts that have no such windows: prompts, texts that are being written, what a teacher reads beside a
student. A text's first token is at position 0, what is read before it at −1. Letters: T time, B streams.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.model.language_model import LanguageModel
from pipeline.model.segments import Segments
from pipeline.model.state import State


def resets_within(
    model: LanguageModel, tokens: Tensor, position: int | None = None
) -> np.ndarray[Any, np.dtype[np.bool_]] | None:
    """(T, B) ids → (T, B), true where the state of ``model`` is zero before one of them; None: nowhere.

    ``position``: of the first of them; None: it is not known, so that only documents end.
    """
    resets = np.zeros(tuple(tokens.shape), dtype=bool)
    if model.reset_after is not None:
        resets[1:] = (tokens[:-1] == model.reset_after).cpu().numpy()
    if model.reset_every is not None and position is not None:
        resets[-position % model.reset_every :: model.reset_every] = True
    return resets if resets.any() else None


def read(model: LanguageModel, tokens: Tensor, state: State, position: int | None = None) -> tuple[Tensor, State]:
    """Read (T, B) ids as ``LanguageModel.forward`` does, with a zero state where ``resets_within`` says."""
    resets = resets_within(model, tokens, position)
    hidden, state = model(tokens, state, None if resets is None else Segments(resets, device=tokens.device))
    following = None if position is None else [position + len(tokens)] * tokens.shape[1]
    return hidden, without_ended(model, tokens[-1], state, following)


def without_ended(model: LanguageModel, tokens: Tensor, state: State, following: Sequence[int] | None = None) -> State:
    """``state``, after (B,) ``tokens`` were read, made zero where it leaves nothing for what comes next.

    ``following``: the position of that in each stream; None: it is not known.
    """
    if model.reset_after is not None:
        is_zero = tokens == model.reset_after
    elif model.reset_every is not None and following is not None:
        # in Python, which divides by numbers of any size
        is_zero = torch.tensor([position % model.reset_every == 0 for position in following], device=tokens.device)
    else:
        return state
    return tuple(part.masked_fill(is_zero.view(1, -1, 1), 0) for part in state) if bool(is_zero.any()) else state

"""Short texts in one window. Letters: T time, B texts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.data.tokenizer import Ids
from pipeline.data.windows import IGNORED, Window, resets_of_texts


def window_of(sentences: Sequence[Ids], *, resets_first: bool = False, reset_every: int | None = None) -> Window:
    """Put sentences side by side in one window, padded to the longest; the first id of each is only read before it.

    ``resets_first``, ``reset_every``: as for ``resets_of_texts``.
    """
    longest = max(map(len, sentences)) - 1
    inputs = np.zeros((longest, len(sentences)), dtype=np.int64)
    targets = np.full_like(inputs, IGNORED)
    for column, ids in enumerate(sentences):
        inputs[: len(ids) - 1, column], targets[: len(ids) - 1, column] = ids[:-1], ids[1:]
    resets = resets_of_texts(inputs.shape, position=-1, resets_first=resets_first, every=reset_every)
    return Window(inputs, targets, position=0, next_position=longest, begins=True, resets=resets)

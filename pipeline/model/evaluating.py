"""The one way to use a model without training it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from pipeline.model.language_model import LanguageModel


@contextmanager
def evaluating(model: LanguageModel, *, gradients: bool = False) -> Iterator[None]:
    """Run ``model`` without dropout, and without gradients unless they are asked for; its mode is given back.

    A generator must leave it before it yields: gradients would be off for whoever takes the next value.
    """
    was_training = model.training
    with ExitStack() as stack:
        if gradients:
            stack.enter_context(torch.enable_grad())
            # cuDNN has no gradient of a recurrence that is not training
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        else:
            stack.enter_context(torch.inference_mode())
        if was_training:  # to set a mode takes a third of the time of a token
            model.eval()
            stack.callback(model.train)
        yield

"""A model without numbers: the shapes of its parameters, on torch's meta device."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from pipeline.config import ModelConfig
from pipeline.model.language_model import LanguageModel

DRAWS = {"normal_", "uniform_"}


def shapes_of(config: ModelConfig, vocab_size: int) -> LanguageModel:
    """Return the model of ``config`` with empty parameters. Raises ``UserError`` for an impossible one."""
    with torch.device("meta"), WithoutDraws():
        return LanguageModel(config, vocab_size)


class WithoutDraws(TorchFunctionMode):
    """Skips drawing initial values: on the meta device torch imports its compiler for some, which takes a second."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init" or getattr(func, "__name__", None) in DRAWS:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)

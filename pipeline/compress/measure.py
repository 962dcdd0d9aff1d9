"""Any variant of a model in, its figures out: perplexity with the whole history, seconds per token.

Letters: T time, V vocabulary.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pipeline import metrics
from pipeline.compress.onnx_model import OnnxModel
from pipeline.generate.sampling import AS_IS, Uniforms, draw
from pipeline.generate.stepper import Stepper, evaluating
from pipeline.model.language_model import LanguageModel

# tokens scored in one call
SCORED_AT_ONCE = 64
# tokens that one variant writes before it is the next one's turn
TURN = 20


@dataclass(frozen=True)
class Variant:
    """A model in one of its forms, what is said of it, and how many bytes it takes."""

    name: str
    model: LanguageModel | OnnxModel
    bytes: int


def perplexity(variant: Variant, ids: Any) -> float:
    """Of ``ids`` after the first, each scored once in a single stream."""
    tokens = torch.from_numpy(np.asarray(ids, dtype=np.int64))
    logits = reader(variant.model)
    nats = 0.0
    for start in range(0, len(tokens) - 1, SCORED_AT_ONCE):
        window = tokens[start : start + SCORED_AT_ONCE + 1]
        scores = logits(window[:-1].unsqueeze(1))[:, 0].double()  # (T, V)
        nats += float(torch.nn.functional.cross_entropy(scores, window[1:], reduction="sum"))
    return metrics.perplexity(nats, len(tokens) - 1)


def reader(model: LanguageModel | OnnxModel) -> Callable[[torch.Tensor], torch.Tensor]:
    """(T, 1) tokens → (T, 1, V) logits, the state carried from call to call, blank at first."""
    if isinstance(model, OnnxModel):
        model.reset(1)
        return lambda tokens: torch.from_numpy(model(tokens.numpy()))
    state = model.initial_state(1)

    def read(tokens: torch.Tensor) -> torch.Tensor:
        nonlocal state
        with evaluating(model):
            hidden, state = model(tokens, state)
            logits: torch.Tensor = model.head.logits(hidden)
            return logits

    return read


def writer(model: LanguageModel | OnnxModel) -> Callable[[], None]:
    """Writes one more token of a single text each time that it is called."""
    uniforms = Uniforms(1, np.array([0]))
    token, position = torch.zeros(1, dtype=torch.int64), 0
    if isinstance(model, OnnxModel):
        model.reset(1)
        step = None
    else:
        with evaluating(model):
            step, state = Stepper(model), model.initial_state(1)

    def write() -> None:
        nonlocal token, position, state
        with torch.inference_mode():
            if step is None:
                logits = torch.from_numpy(model(token.unsqueeze(0).numpy())[0])
            else:
                logits, state = step(token, state)
            uniform = torch.tensor([uniforms[position]], dtype=torch.float64)
            token, position = draw(logits, uniform, AS_IS), position + 1

    return write


def seconds_per_token(models: Mapping[str, LanguageModel | OnnxModel], num_tokens: int) -> dict[str, list[float]]:
    """Seconds of each of ``num_tokens`` tokens that each model writes in one stream; they take turns."""
    writers = {name: writer(model) for name, model in models.items()}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for write in writers.values():
        for _ in range(TURN):
            write()
    while len(min(seconds.values(), key=len)) < num_tokens:
        for name, write in writers.items():
            for _ in range(TURN):
                started = time.perf_counter()
                write()
                seconds[name].append(time.perf_counter() - started)
    return seconds

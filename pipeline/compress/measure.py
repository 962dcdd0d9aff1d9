"""Figures for any variant of a model: perplexity with the whole history, and seconds per token.

Letters: T time, B streams or documents, V vocabulary.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from pipeline import metrics
from pipeline.compress.onnx_model import OnnxModel
from pipeline.data.scoring import ScoringDocuments, ScoringStreams
from pipeline.data.streams import ResetRule
from pipeline.data.tokenizer import Ids
from pipeline.data.windows import IGNORED, HeldOutData, Window
from pipeline.evaluate import HeldOut, counted, total
from pipeline.generate.sampling import Uniforms, draw
from pipeline.model.evaluating import evaluating
from pipeline.model.language_model import LanguageModel
from pipeline.model.stepper import Stepper
from pipeline.options import AS_IS
from pipeline.scoring import Scored, scored_windows

# tokens scored at a time, all from one stream or spread over this many documents
SCORED_AT_ONCE, DOCUMENTS_AT_ONCE = 64, 8
# tokens that one variant writes before the next one takes its turn
TURN = 20


@dataclass(frozen=True)
class Variant:
    """A model in one of its forms, with the name of the form and its size in bytes."""

    name: str
    model: LanguageModel | OnnxModel
    bytes: int


def held_out_windows(text: HeldOut, reset: ResetRule) -> HeldOutData:
    """Return what each variant is scored on: one stream, with resets as ``reset`` says, or each document by itself.

    Raises:
        UserError: fewer than two tokens, or no document.
    """
    if text.begin_id is None:
        return ScoringStreams(text.tokens, num_streams=1, bptt=SCORED_AT_ONCE, reset=reset)
    length = SCORED_AT_ONCE // DOCUMENTS_AT_ONCE
    return ScoringDocuments(text.tokens, num_rows=DOCUMENTS_AT_ONCE, window_length=length, begin_id=text.begin_id)


def perplexity(variant: Variant, text: HeldOutData, *, on_tokens: Callable[[int], None] = lambda number: None) -> float:
    """Return the perplexity of the targets of ``text``, each scored once.

    An int8 model reads as it writes, one token at a time. ``on_tokens`` is called with the number just scored.
    """
    model, windows = variant.model, text.windows()
    scored = exported_windows(model, windows) if isinstance(model, OnnxModel) else scored_windows(model, windows)
    return metrics.perplexity(*total(counted(scored, on_tokens)))


def exported_windows(model: OnnxModel, windows: Iterable[Window]) -> Iterator[Scored]:
    """Score ``windows`` with an exported model, as ``scored_windows`` does with a torch model."""
    longest = 1 if model.is_int8 else SCORED_AT_ONCE
    for window in windows:
        parts = []
        for inputs, is_zero in stretches(window, longest):
            if is_zero:
                model.reset(inputs.shape[1])
            parts.append(torch.from_numpy(model(inputs)))
        logits = torch.cat(parts)  # (T, B, V)
        targets = torch.from_numpy(window.targets)  # (T, B)
        nats = cross_entropy(logits.double().flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none")
        yield Scored(window, logits, nats.view_as(targets))


def stretches(window: Window, longest: int) -> Iterator[tuple[Ids, bool]]:
    """Cut ``window`` where its only row restarts and after every ``longest`` steps.

    Yields (T, B) inputs, and whether the states before them are zero: an exported model takes no resets within a call.
    """
    inputs = window.inputs
    is_zero = np.zeros(len(inputs), dtype=bool)
    if window.resets is not None:
        assert window.resets.shape[1] == 1
        is_zero |= window.resets[:, 0]
    is_zero[0] |= window.begins
    cuts = np.union1d(np.flatnonzero(is_zero), np.arange(0, len(inputs), longest)).tolist()
    for begin, end in pairwise([*cuts, len(inputs)]):
        yield inputs[begin:end], bool(is_zero[begin])


def writer(model: LanguageModel | OnnxModel) -> Callable[[], None]:
    """Return a function that writes one more token of a single text each time it is called."""
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


def seconds_per_token(
    models: Mapping[str, LanguageModel | OnnxModel],
    num_tokens: int,
    *,
    on_tokens: Callable[[int], None] = lambda number: None,
) -> dict[str, list[float]]:
    """Return the seconds of each of ``num_tokens`` tokens that each model writes in one stream; models take turns.

    ``on_tokens`` is called with the number just timed.
    """
    writers = {name: writer(model) for name, model in models.items()}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for write in writers.values():
        for _ in range(TURN):
            write()
    for done in range(0, num_tokens, TURN):
        turn = min(TURN, num_tokens - done)
        for name, write in writers.items():
            for _ in range(turn):
                started = time.perf_counter()
                write()
                seconds[name].append(time.perf_counter() - started)
            on_tokens(turn)
    return seconds

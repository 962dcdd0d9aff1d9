"""How fast the trials of a search train: the measured speed of a few windows of a few of its models."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import islice
from statistics import fmean
from typing import Any

import numpy as np
import torch

from pipeline import config as configuration
from pipeline import resources, run
from pipeline.config import Config
from pipeline.data.streams import Streams
from pipeline.data.windows import ArrayTokens
from pipeline.errors import UserError
from pipeline.search.space import Space, random_settings

NUM_MODELS, MOST_DRAWN = 3, 50
LEAST_SECONDS, MOST_WINDOWS = 0.5, 20
MOST_BPTT = 16  # of the windows that are measured: longer ones are hardly faster per token


def estimated_speed(config: Config, space: Space, *, vocab_size: int, worker: resources.Worker) -> float:
    """The tokens per second of one trial, training alone, by the speed of the first models drawn from the space.

    Raises:
        UserError: none of the first draws can be a trial; it gives the reason for the last.
    """
    return 1 / fmean(1 / tokens_per_second(trial, vocab_size, worker) for trial in some_trials(config, space))


def some_trials(config: Config, space: Space) -> Sequence[Config]:
    """The configurations of the first few draws that can be trials."""
    found: list[Config] = []
    reason = ""
    for settings in islice(random_settings(space, seed=config.search.seed), MOST_DRAWN):
        try:
            found.append(configuration.with_values(config, without_other_tokens(settings)))
        except UserError as error:
            reason = str(error)
        if len(found) == NUM_MODELS:
            break
    if not found:
        raise UserError(reason)
    return found


def without_other_tokens(settings: Mapping[str, Any]) -> dict[str, Any]:
    """``settings`` without those of the tokenizer and the data, because a single corpus is counted."""
    return {path: value for path, value in settings.items() if not path.startswith(("tokenizer.", "data."))}


def tokens_per_second(config: Config, vocab_size: int, worker: resources.Worker) -> float:
    """The speed of training on random tokens, in short windows, not counting the first unless it took long."""
    torch.set_num_threads(worker.num_threads)
    changes: dict[str, Any] = {
        "train.window_lengths": "fixed",
        "train.reset_state": "never",
        "train.epoch_order": "same",
    }
    changes |= {"data.layout": "streams", "train.bptt": min(MOST_BPTT, config.train.bptt)}
    config = configuration.with_values(config, changes)
    length = config.train.batch_size * config.train.bptt * (MOST_WINDOWS + 1) + config.train.batch_size
    tokens = ArrayTokens(np.random.default_rng(0).integers(vocab_size, size=length + 1).astype(np.uint32))
    data = Streams.of(tokens, config.train)
    model = run.build_model(config, vocab_size).to(worker.device)
    step = run.build_step(config, worker, model, total_steps=MOST_WINDOWS, vocab_size=vocab_size)
    state = model.initial_state(config.train.batch_size, device=worker.device, dtype=model.dtype)
    began, done = time.perf_counter(), 0
    for index, window in enumerate(data.windows(0, epoch=0)):
        inputs, targets = (
            torch.from_numpy(part).to(worker.device) for part in (window.inputs, window.targets)
        )  # (T, B)
        _, norm, state = step(
            inputs, targets, state, num_targets=window.num_targets, lr=config.optimizer.lr, index=index,
            resets=window.resets,
        )  # fmt: skip
        float(norm)  # waits for a GPU
        done += window.num_inputs
        seconds = time.perf_counter() - began
        if seconds > LEAST_SECONDS:
            return done / seconds
        if index == 0:
            began, done = time.perf_counter(), 0
    return done / (time.perf_counter() - began)

"""Rounds of timing are long enough not to fall between two time slices, and steps are those of a run."""

from collections.abc import Callable, Iterator
from itertools import count
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.compare import speed
from pipeline.compare.memory import make_steps
from pipeline.config import Config
from pipeline.data.documents import Documents
from pipeline.data.streams import Streams
from pipeline.data.windows import ArrayTokens
from pipeline.resources import Worker


def test_a_round_of_single_tokens_lasts_for_its_time(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock advances by 0.04 s each time it is read, so 0.1 s are over after the third batch of 40 tokens."""
    reader = speed.Reader(make_config({}), Worker(torch.device("cpu"), num_threads=1), vocab_size=11)
    reader.read(5)
    clock: Iterator[int] = count()
    monkeypatch.setattr("pipeline.compare.speed.time.perf_counter", lambda: next(clock) * 0.04)
    assert reader.a_round() == 3 * speed.TOKENS_A_ROUND
    monkeypatch.setattr("pipeline.compare.speed.ROUND_SECONDS", 0.0)
    assert reader.a_round() == speed.TOKENS_A_ROUND


@pytest.mark.parametrize("layout", ["streams", "documents"])
def test_training_is_measured_from_zero_states_where_runs_have_them(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    """A document is read from nothing, an epoch begins with nothing; other windows continue the one before."""
    tokens = ArrayTokens(np.arange(61) % 11, np.arange(0, 61, 5))
    config = make_config({"data.layout": layout, "train.batch_size": 3, "tokenizer.eos": "document"})
    data = {
        "streams": Streams.of(tokens, config.train),
        "documents": Documents.of(tokens, config.data, config.train, begin_id=0),
    }[layout]
    monkeypatch.setattr("pipeline.compare.speed.run.training_data", lambda *arguments, **named: data)
    windows = speed.TrainingWindows(config, SimpleNamespace(vocab_size=11), Worker(torch.device("cpu"), num_threads=1))  # type: ignore[arg-type]
    make_step, are_zero = windows.step, []

    def noting(inputs: Any, targets: Any, state: Any, **named: Any) -> Any:
        are_zero.append(not any(bool(part.any()) for part in state))
        return make_step(inputs, targets, state, **named)

    monkeypatch.setattr(windows, "step", noting)
    windows(6)
    assert are_zero == ([True] * 6 if layout == "documents" else [True, False] * 3)


@pytest.mark.parametrize("layout", ["streams", "documents"])
def test_memory_is_measured_from_zero_states_where_runs_have_them(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    config = make_config({"data.layout": layout, "tokenizer.eos": "document"})
    worker, are_zero = Worker(torch.device("cpu"), num_threads=1), []
    make_step = speed.training_step(config, worker, vocab_size=11)

    def noting(inputs: Any, targets: Any, state: Any, **named: Any) -> Any:
        are_zero.append(not any(bool(part.any()) for part in state))
        return make_step(inputs, targets, state, **named)

    noting.model = make_step.model  # type: ignore[attr-defined]
    monkeypatch.setattr("pipeline.compare.memory.training_step", lambda *arguments, **named: noting)
    make_steps(config, worker, 11)
    assert are_zero == [True, layout == "documents"]

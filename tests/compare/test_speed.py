"""Rounds of timing are long enough not to fall between two time slices of other processes."""

from collections.abc import Callable, Iterator
from itertools import count

import pytest
import torch

from pipeline.compare import speed
from pipeline.config import Config
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

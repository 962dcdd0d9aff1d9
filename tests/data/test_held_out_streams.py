"""Every held-out token is scored once, in streams that may read what is before them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.scoring import ScoringStreams
from pipeline.data.windows import IGNORED, ArrayTokens


@settings(deadline=None)
@given(
    num_tokens=st.integers(2, 900),
    num_streams=st.integers(1, 12),
    bptt=st.integers(1, 40),
    world_size=st.integers(1, 5),
    burn_in=st.integers(0, 60),
)
def test_every_held_out_token_is_scored_once(
    num_tokens: int, num_streams: int, bptt: int, world_size: int, burn_in: int
) -> None:
    tokens = ArrayTokens(np.arange(num_tokens, dtype=np.uint32))
    scored: list[int] = []
    for rank in range(world_size):
        parts = ScoringStreams(
            tokens, num_streams=num_streams, bptt=bptt, burn_in=burn_in, rank=rank, world_size=world_size
        )
        for window in parts.windows():
            kept = window.targets != IGNORED
            assert window.position >= 0 or not kept.any()
            np.testing.assert_array_equal(window.inputs[kept] + 1, window.targets[kept])
            scored += window.targets[kept].tolist()
    assert sorted(scored) == list(range(1, num_tokens))


def test_each_stream_reads_the_text_before_it_without_scoring_it() -> None:
    parts = ScoringStreams(ArrayTokens(np.arange(31)), num_streams=3, bptt=4, burn_in=6)  # streams of 10 targets
    windows = list(parts.windows())
    assert [window.position for window in windows] == [-6, -2, 0, 4, 8]
    inputs = np.concatenate([window.inputs for window in windows])
    assert inputs[:, 1].tolist() == list(range(4, 20))
    assert inputs[:, 2].tolist() == list(range(14, 30))
    assert inputs[6:, 0].tolist() == list(range(10))
    # the first stream has nothing before it, so its state is reset at its beginning
    assert [None if w.resets is None else np.argwhere(w.resets).tolist() for w in windows] == [
        None, None, [[0, 0]], None, None,
    ]  # fmt: skip


def test_there_is_a_window_of_held_out_text_for_each_stream() -> None:
    for num_tokens, num_parts in ((2, 1), (8, 1), (9, 2), (41, 10), (100, 12)):
        assert ScoringStreams(ArrayTokens(np.arange(num_tokens)), num_streams=12, bptt=4).num_parts == num_parts


def test_a_text_of_one_token_has_nothing_to_score() -> None:
    with pytest.raises(ValueError, match="nothing to score"):
        ScoringStreams(ArrayTokens(np.zeros(1)), num_streams=2, bptt=5)

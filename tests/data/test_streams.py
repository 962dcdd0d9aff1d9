"""Every token once, in order, whatever the number of ranks and wherever it starts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.streams import IGNORED, ArrayTokens, ScoringStreams, Streams


def test_the_alphabet() -> None:
    """The drawing in word_language_model: 26 letters in 4 streams of 6, Y and Z left over (Z is a target here)."""
    streams = Streams(ArrayTokens(np.arange(26, dtype=np.uint16)), batch_size=4, bptt=4)
    first, second = streams.windows()
    assert streams.tokens_per_stream == 6
    assert streams.num_unused == 1
    assert first.inputs.T.tolist() == [[0, 1, 2, 3], [6, 7, 8, 9], [12, 13, 14, 15], [18, 19, 20, 21]]
    assert first.targets.T.tolist() == [[1, 2, 3, 4], [7, 8, 9, 10], [13, 14, 15, 16], [19, 20, 21, 22]]
    assert second.inputs.T.tolist() == [[4, 5], [10, 11], [16, 17], [22, 23]]
    assert second.targets.T.tolist() == [[5, 6], [11, 12], [17, 18], [23, 24]]
    assert (first.next_position, second.position, second.next_position) == (4, 4, 6)


@settings(deadline=None)
@given(
    batch_size=st.integers(1, 9), bptt=st.integers(1, 40), extra=st.integers(0, 3000), data=st.data(),
)  # fmt: skip
def test_every_token_comes_once_as_input_and_once_as_target(
    batch_size: int, bptt: int, extra: int, data: st.DataObject
) -> None:
    num_tokens = batch_size * bptt + 1 + extra
    world_size = data.draw(st.integers(1, batch_size))
    tokens = ArrayTokens(np.arange(num_tokens, dtype=np.uint32))
    length = (num_tokens - 1) // batch_size
    inputs: list[int] = []
    for rank in range(world_size):
        streams = Streams(tokens, batch_size=batch_size, bptt=bptt, rank=rank, world_size=world_size)
        windows = list(streams.windows())
        assert len(windows) == streams.num_windows
        whole = np.concatenate([window.inputs for window in windows])  # (L, B of this rank)
        targets = np.concatenate([window.targets for window in windows])
        np.testing.assert_array_equal(targets, whole + 1)
        assert [int(column[0]) for column in whole.T] == [row * length for row in streams.rows]
        inputs += whole.T.flatten().tolist()
        start = data.draw(st.integers(0, len(windows) - 1))
        again = list(streams.windows(windows[start].position))
        assert len(again) == len(windows) - start
        for a, b in zip(again, windows[start:], strict=True):
            np.testing.assert_array_equal(a.inputs, b.inputs)
    assert inputs == list(range(batch_size * length))
    assert streams.num_unused == num_tokens - 1 - batch_size * length


@settings(deadline=None)
@given(
    num_tokens=st.integers(2, 900),
    num_streams=st.integers(1, 12),
    bptt=st.integers(1, 40),
    world_size=st.integers(1, 5),
)
def test_every_held_out_token_is_scored_once(num_tokens: int, num_streams: int, bptt: int, world_size: int) -> None:
    tokens = ArrayTokens(np.arange(num_tokens, dtype=np.uint32))
    scored: list[int] = []
    for rank in range(world_size):
        parts = ScoringStreams(tokens, num_streams=num_streams, bptt=bptt, rank=rank, world_size=world_size)
        for window in parts.windows():
            kept = window.targets != IGNORED
            np.testing.assert_array_equal(window.inputs[kept] + 1, window.targets[kept])
            scored += window.targets[kept].tolist()
    assert sorted(scored) == list(range(1, num_tokens))


def test_what_cannot_be_streamed_is_refused() -> None:
    with pytest.raises(ValueError, match=r"3 workers, but only train\.batch_size=2 streams"):
        Streams(ArrayTokens(np.zeros(100)), batch_size=2, bptt=5, world_size=3)
    with pytest.raises(ValueError, match="has 10 tokens, but one window per stream needs 11"):
        Streams(ArrayTokens(np.zeros(10)), batch_size=2, bptt=5)
    Streams(ArrayTokens(np.zeros(11)), batch_size=2, bptt=5)
    with pytest.raises(ValueError, match="nothing to score"):
        ScoringStreams(ArrayTokens(np.zeros(1)), num_streams=2, bptt=5)

"""Every token comes once, in order, on any number of ranks and from any position."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.config import TrainConfig
from pipeline.data import streams as module
from pipeline.data.shards import TokenSequence
from pipeline.data.streams import NO_RESETS, ResetRule, Streams
from pipeline.data.windows import IGNORED, ArrayTokens, Window


def test_the_alphabet() -> None:
    """The drawing in word_language_model: 26 letters in 4 streams of 6, Y and Z left over (Z is a target here)."""
    streams = Streams(ArrayTokens(np.arange(26, dtype=np.uint16)), batch_size=4, bptt=4)
    first, second = streams.windows()
    assert streams.tokens_per_stream == 6
    assert (streams.num_unused, streams.unused) == (1, "1 token left over at the end of an epoch")
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
        assert len(windows) == streams.num_windows()
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


class Run:
    """Ranks that carry a hidden state, here each stream's last target, and the inputs that each stream got."""

    def __init__(self, batch_size: int) -> None:
        self.position = 0
        self.hidden = np.full(batch_size, -1)
        self.fed: list[list[int]] = [[] for _ in range(batch_size)]

    def go_on(self, ranks: list[Streams], num_windows: int | None = None) -> None:
        """Take ``num_windows`` on every rank, which begins with its rows of the saved hidden state."""
        own = [self.hidden[streams.rows.start : streams.rows.stop].copy() for streams in ranks]
        walks = [list(streams.windows(self.position))[:num_windows] for streams in ranks]
        for turn in zip(*walks, strict=True):
            assert len({(window.position, window.next_position, len(window.inputs)) for window in turn}) == 1
            for rank, window in enumerate(turn):
                self.feed(ranks[rank], own[rank], window)
            self.position = turn[0].next_position
        self.hidden = np.concatenate(own)

    def feed(self, streams: Streams, hidden: np.ndarray, window: Window) -> None:  # type: ignore[type-arg]
        assert window.position == self.position
        for index, row in enumerate(streams.rows):
            inputs, targets = window.inputs[:, index].tolist(), window.targets[:, index].tolist()
            if self.position:
                assert inputs[0] == hidden[index]
            assert inputs[1:] == targets[:-1]
            hidden[index] = targets[-1]
            self.fed[row] += inputs


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.integers(0, 120), min_size=1, max_size=20),
    shard_tokens=st.integers(1, 300),
    batch_size=st.integers(1, 7),
    bptt=st.integers(1, 30),
    data=st.data(),
)
def test_streams_from_shards_on_changing_numbers_of_ranks(
    make_sequence: Callable[..., TokenSequence],
    lengths: list[int],
    shard_tokens: int,
    batch_size: int,
    bptt: int,
    data: st.DataObject,
) -> None:
    num_tokens = max(sum(lengths), batch_size * bptt + 1)
    bounds = np.cumsum([0, *lengths, num_tokens - sum(lengths)]).tolist()
    documents = [list(range(a, b)) for a, b in itertools.pairwise(bounds)]
    sequence = make_sequence(documents, shard_tokens=shard_tokens)

    def ranks() -> list[Streams]:
        world_size = data.draw(st.integers(1, batch_size))
        common = {"batch_size": batch_size, "bptt": bptt, "world_size": world_size}
        return [Streams(sequence, rank=rank, **common) for rank in range(world_size)]

    run = Run(batch_size)
    parts = ranks()
    run.go_on(parts, data.draw(st.integers(1, parts[0].num_windows())))
    run.go_on(ranks())  # stopped, then continued with another number of ranks
    length = (num_tokens - 1) // batch_size
    assert [token for row in run.fed for token in row] == list(range(batch_size * length))
    assert run.hidden.tolist() == [length * (row + 1) for row in range(batch_size)]
    assert parts[0].num_unused == num_tokens - 1 - batch_size * length


def reset_places(streams: Streams, position: int = 0) -> list[tuple[int, int]]:
    """(position, first input) of every reset."""
    places = []
    for window in streams.windows(position):
        if window.resets is not None:
            assert window.resets.shape == window.inputs.shape
            steps, rows = np.nonzero(window.resets)
            places += [(window.position + int(s), int(window.inputs[s, r])) for s, r in zip(steps, rows, strict=True)]
    return places


def test_resets_at_documents_fall_on_their_first_tokens(make_sequence: Callable[..., TokenSequence]) -> None:
    documents = [list(range(9)), [9], [], list(range(10, 26))]
    sequence = make_sequence(documents, shard_tokens=7)
    rule = ResetRule.of(TrainConfig(reset_state="document"))
    streams = Streams(sequence, batch_size=4, bptt=4, reset=rule)  # streams of 6 tokens, from 0, 6, 12 and 18
    assert reset_places(streams) == [(0, 0), (3, 9), (4, 10)]
    assert reset_places(streams, 4) == [(4, 10)]


def test_the_alphabet_rotated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams of 6 letters from A, G, M and S, which begin at their third, first, second and last letter."""
    streams = Streams(ArrayTokens(np.arange(26)), batch_size=4, bptt=4, rotation_seed=1)
    monkeypatch.setattr(streams, "offsets", lambda epoch: np.array([2, 0, 1, 5]))
    first, second = streams.windows()
    assert first.inputs.T.tolist() == [[2, 3, 4, 5], [6, 7, 8, 9], [13, 14, 15, 16], [23, 18, 19, 20]]
    assert first.targets.T.tolist() == [[3, 4, 5, IGNORED], [7, 8, 9, 10], [14, 15, 16, 17], [IGNORED, 19, 20, 21]]
    assert second.inputs.T.tolist() == [[0, 1], [10, 11], [17, 12], [21, 22]]
    assert second.targets.T.tolist() == [[1, 2], [11, 12], [IGNORED, 13], [22, 23]]
    assert (first.num_targets, second.num_targets) == (14, 7)


def test_a_window_that_ends_where_a_rotated_stream_does_has_no_target_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same however many windows are copied at a time, which depends on the number of workers."""
    monkeypatch.setattr(module, "BLOCK_TOKENS", 1)
    streams = Streams(ArrayTokens(np.arange(26)), batch_size=4, bptt=4, rotation_seed=1)
    monkeypatch.setattr(streams, "offsets", lambda epoch: np.array([2, 0, 1, 5]))
    first, second = streams.windows()
    assert first.targets.T.tolist() == [[3, 4, 5, IGNORED], [7, 8, 9, 10], [14, 15, 16, 17], [IGNORED, 19, 20, 21]]
    assert second.inputs.T.tolist() == [[0, 1], [10, 11], [17, 12], [21, 22]]
    for window in (first, second):
        assert window.num_targets == np.count_nonzero(window.targets != IGNORED)


@settings(deadline=None)
@given(
    batch_size=st.integers(1, 6),
    bptt=st.integers(1, 30),
    extra=st.integers(0, 500),
    seed=st.integers(0, 99),
    epoch=st.integers(0, 9),
    lengths=st.none() | st.integers(0, 99),
    data=st.data(),
)
def test_a_rotated_epoch_has_every_token_once(
    batch_size: int, bptt: int, extra: int, seed: int, epoch: int, lengths: int | None, data: st.DataObject
) -> None:
    sequence = ArrayTokens(np.arange(batch_size * bptt + 1 + extra))
    world_size = data.draw(st.integers(1, batch_size))
    inputs, num_targets, said = [], 0, []
    for rank in range(world_size):
        streams = Streams(
            sequence,
            batch_size=batch_size,
            bptt=bptt,
            rotation_seed=seed,
            length_seed=lengths,
            with_places=True,
            rank=rank,
            world_size=world_size,
        )
        length = streams.tokens_per_stream
        windows = list(streams.windows(epoch=epoch))
        assert len(windows) == streams.num_windows(epoch)
        fed = np.concatenate([window.inputs for window in windows])
        targets = np.concatenate([window.targets for window in windows])
        for column, row in zip(fed.T, streams.rows, strict=True):
            offset = int(streams.offsets(epoch)[row])
            np.testing.assert_array_equal(column, row * length + (offset + np.arange(length)) % length)
        kept = targets != IGNORED
        np.testing.assert_array_equal(targets[kept], fed[kept] + 1)
        places = np.concatenate([window.places for window in windows if window.places is not None])
        np.testing.assert_array_equal(places[kept], targets[kept])  # each token is its own place
        inputs += fed.flatten().tolist()
        num_targets += int(kept.sum())
        said.append([window.num_targets for window in windows])
        start = data.draw(st.integers(0, len(windows) - 1))
        for a, b in zip(streams.windows(windows[start].position, epoch=epoch), windows[start:], strict=True):
            np.testing.assert_array_equal(a.inputs, b.inputs)
            np.testing.assert_array_equal(a.targets, b.targets)
    assert sorted(inputs) == list(range(batch_size * length))
    assert all(counts == said[0] for counts in said)
    assert sum(said[0]) == num_targets == batch_size * length - np.count_nonzero(streams.offsets(epoch))


def test_every_epoch_is_rotated_anew_and_resets_stay_at_their_tokens(
    make_sequence: Callable[..., TokenSequence],
) -> None:
    sequence = make_sequence([list(range(40)), list(range(40, 75)), list(range(75, 102))], shard_tokens=30)
    rule = ResetRule(at_documents=True)
    streams = Streams(sequence, batch_size=2, bptt=8, reset=rule, rotation_seed=3)  # streams of 50 tokens
    assert streams.offsets(0).tolist() != streams.offsets(1).tolist()
    assert streams.offsets(1).tolist() == streams.offsets(1).tolist()
    for epoch in range(5):
        places = [token for window in streams.windows(epoch=epoch) if window.resets is not None
                  for token in window.inputs[window.resets].tolist()]  # fmt: skip
        assert sorted(places) == [0, 40, 75]


def test_resets_every_few_windows() -> None:
    rule = ResetRule.of(TrainConfig(reset_state="windows", reset_every_windows=2, bptt=3))
    streams = Streams(ArrayTokens(np.arange(31)), batch_size=2, bptt=3, reset=rule)  # streams of 15 tokens
    assert reset_places(streams) == [(0, 0), (0, 15), (6, 6), (6, 21), (12, 12), (12, 27)]
    assert reset_places(streams, 6) == [(6, 6), (6, 21), (12, 12), (12, 27)]
    rule = ResetRule.of(TrainConfig(reset_state="windows", reset_every_windows=3, bptt=3))
    streams = Streams(ArrayTokens(np.arange(31)), batch_size=2, bptt=3, reset=rule)
    assert reset_places(streams, 3) == [(9, 9), (9, 24)]  # from amid three windows on
    assert ResetRule.of(TrainConfig()) == NO_RESETS


def test_rotations_and_lengths_follow_from_the_seed_of_the_run() -> None:
    tokens = ArrayTokens(np.zeros(2001))
    train = TrainConfig(batch_size=4, bptt=20, epoch_order="rotated", window_lengths="random")
    runs = [Streams.of(tokens, train.model_copy(update={"seed": seed})) for seed in (1, 1, 2)]
    for drawn in ([run.offsets(0).tolist() for run in runs], [run.ends(0).tolist() for run in runs]):
        assert drawn[0] == drawn[1] != drawn[2]


def test_texts_that_cannot_be_streamed_are_refused() -> None:
    with pytest.raises(ValueError, match=r"3 workers, but only train\.batch_size=2 streams"):
        Streams(ArrayTokens(np.zeros(100)), batch_size=2, bptt=5, world_size=3)
    with pytest.raises(ValueError, match="has 10 tokens, but one window per stream needs 11"):
        Streams(ArrayTokens(np.zeros(10)), batch_size=2, bptt=5)
    Streams(ArrayTokens(np.zeros(11)), batch_size=2, bptt=5)


def test_random_window_lengths_lie_around_bptt_and_one_in_twenty_around_half_of_it() -> None:
    streams = Streams(ArrayTokens(np.zeros(2_000_001)), batch_size=1, bptt=70, length_seed=1)
    lengths = np.diff(streams.ends(), prepend=0)
    half = lengths < 52
    assert half.mean() == pytest.approx(0.05, abs=0.005)
    assert lengths[half].mean() == pytest.approx(35, abs=0.5)
    assert lengths[~half].mean() == pytest.approx(69.5, abs=0.2)  # lengths are cut to whole numbers
    assert lengths[~half].std() == pytest.approx(5, abs=0.2)
    assert not np.array_equal(streams.ends(1)[:100], streams.ends()[:100])
    for _, window in zip(range(3), streams.windows(), strict=False):
        assert window.next_position in streams.ends()

"""Every token of every document comes once, in documents from their beginning, on any ranks, from any position."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.config import DataConfig, TrainConfig
from pipeline.data import document_pools
from pipeline.data.documents import Documents
from pipeline.data.scoring import ScoringDocuments
from pipeline.data.shards import TokenSequence
from pipeline.data.windows import IGNORED, ArrayTokens, Window

BEGIN = 60_000


def array_of(lengths: list[int]) -> ArrayTokens:
    """Documents of these lengths, whose tokens are 0, 1, 2 …"""
    ends = np.cumsum(lengths)
    return ArrayTokens(np.arange(ends[-1], dtype=np.uint16), starts=ends - lengths)


def rows_of(window: Window) -> list[list[int]]:
    """The targets of each row without padding; asserts that the inputs are the targets one place later."""
    found = []
    for inputs, targets in zip(window.inputs.T.tolist(), window.targets.T.tolist(), strict=True):
        kept = [target for target in targets if target != IGNORED]
        assert targets == kept + [IGNORED] * (len(targets) - len(kept))
        assert inputs == ([BEGIN, *kept[:-1]] if kept else []) + [BEGIN] * (len(inputs) - len(kept))
        found.append(kept)
    return found


def test_five_documents_in_windows_of_two() -> None:
    data = Documents(array_of([3, 1, 5, 2, 2]), batch_size=2, most_tokens=4, begin_id=BEGIN, seed=1, bucket_windows=9)
    windows = list(data.windows())
    assert [(window.position, window.next_position, window.begins) for window in windows] == [
        (0, 1, True), (1, 2, True), (2, 3, True)
    ]  # fmt: skip
    rows = [row for window in windows for row in rows_of(window)]
    assert sorted(rows) == [[], [0, 1, 2], [3], [4, 5, 6, 7], [9, 10], [11, 12]]
    # sorted by length: no window has both the shortest and the longest
    assert not any({1, 4} <= {len(row) for row in rows_of(window)} for window in windows)
    assert all(len(window.inputs) == max(map(len, rows_of(window))) for window in windows)
    assert [window.num_targets for window in windows] == [sum(map(len, rows_of(window))) for window in windows]
    assert (data.num_windows(), data.epoch_end, data.tokens_per_epoch, data.num_unused) == (3, 3, 12, 1)
    assert data.tokens_reached().tolist() == np.cumsum([window.num_inputs for window in windows]).tolist()
    assert data.unused == "1 token cut off beyond train.bptt=4 of a document"


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.integers(0, 25), min_size=1, max_size=60),
    shard_tokens=st.integers(1, 300),
    batch_size=st.integers(1, 7),
    most_tokens=st.integers(1, 30),
    pool_tokens=st.integers(1, 400),
    bucket_windows=st.integers(1, 5),
    epoch=st.integers(0, 3),
    data=st.data(),
)
def test_an_epoch_has_every_document_once(
    make_sequence: Callable[..., TokenSequence],
    lengths: list[int],
    shard_tokens: int,
    batch_size: int,
    most_tokens: int,
    pool_tokens: int,
    bucket_windows: int,
    epoch: int,
    data: st.DataObject,
) -> None:
    bounds = np.cumsum([0, *lengths, *[1] * batch_size])
    texts = [list(range(a, b)) for a, b in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)]
    sequence = make_sequence(texts, shard_tokens=shard_tokens)
    options: dict[str, Any] = {"batch_size": batch_size, "most_tokens": most_tokens, "begin_id": BEGIN, "seed": 5}
    world_size = data.draw(st.integers(1, batch_size))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(document_pools, "POOL_TOKENS", pool_tokens)
        patch.setattr(document_pools, "MOST_READ_ALONG", 3)
        ranks = [
            Documents(
                sequence, bucket_windows=bucket_windows, with_places=True, rank=rank, world_size=world_size, **options
            )
            for rank in range(world_size)
        ]
        walks = [list(rank.windows(epoch=epoch)) for rank in ranks]
        again = data.draw(st.integers(0, len(walks[0]) - 1))
        whole = Documents(sequence, bucket_windows=bucket_windows, **options)
        rest = list(whole.windows(again, epoch=epoch))
        reached = whole.tokens_reached(epoch).tolist()
    assert {len(walk) for walk in walks} == {whole.num_windows(epoch)}
    rows = []
    for turn in zip(*walks, strict=True):
        assert len({(w.position, w.next_position, len(w.inputs), w.num_inputs, w.num_targets) for w in turn}) == 1
        for window in turn:
            kept = window.targets != IGNORED
            assert window.places is not None
            np.testing.assert_array_equal(window.places[kept], window.targets[kept])  # each token is its own place
        found = [row for window in turn for row in rows_of(window)]
        assert len(found) == batch_size
        assert sum(map(len, found)) == turn[0].num_targets
        rows += [row for row in found if row]
    assert sorted(rows) == [text[:most_tokens] for text in texts if text]
    assert reached == np.cumsum([window.num_inputs for window in walks[0]]).tolist()
    assert reached[-1] == whole.tokens_per_epoch
    assert whole.num_unused == sum(max(0, len(text) - most_tokens) for text in texts)
    for window, *parts in zip(rest, *(walk[again:] for walk in walks), strict=True):
        np.testing.assert_array_equal(window.inputs, np.concatenate([part.inputs for part in parts], axis=1))
        np.testing.assert_array_equal(window.targets, np.concatenate([part.targets for part in parts], axis=1))


def test_epochs_have_different_but_repeatable_orders() -> None:
    data = Documents(array_of([3] * 50), batch_size=5, most_tokens=9, begin_id=BEGIN, seed=1)

    def first_tokens(epoch: int) -> list[int]:
        return [row[0] for window in data.windows(epoch=epoch) for row in rows_of(window)]

    assert first_tokens(0) == first_tokens(0)
    assert first_tokens(0) != first_tokens(1) != list(range(0, 150, 3))
    assert sorted(first_tokens(0)) == sorted(first_tokens(1)) == list(range(0, 150, 3))


def test_pools_are_read_in_another_order_in_each_epoch_and_with_each_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document_pools, "POOL_TOKENS", 30)

    def order(epoch: int, seed: int) -> list[int]:
        """The pools, of ten documents, that the windows of an epoch are from."""
        train = TrainConfig(batch_size=5, bptt=9, seed=seed)
        data = Documents.of(array_of([3] * 100), DataConfig(), train, begin_id=BEGIN)
        of_windows = [{row[0] // 30 for row in rows_of(window)} for window in data.windows(epoch=epoch)]
        assert all(len(pools) == 1 for pools in of_windows)
        pools = [pool for (pool,) in of_windows]
        assert pools[::2] == pools[1::2]
        return pools[::2]

    orders = [order(0, 1), order(1, 1), order(0, 2)]
    assert all(sorted(found) == list(range(10)) for found in orders)
    assert len({str(found) for found in orders}) == 3


def test_buckets_leave_little_padding() -> None:
    lengths = np.random.default_rng(1).integers(1, 41, 2000).tolist()
    shares = []
    for bucket_windows in (1, 20):
        data = Documents(
            array_of(lengths), batch_size=20, most_tokens=40, begin_id=BEGIN, seed=1, bucket_windows=bucket_windows
        )
        shares.append(sum(lengths) / sum(window.inputs.size for window in data.windows()))
    assert shares[0] < 0.56  # of 20 lengths from 1 to 40 the longest is about 39, the mean 20.5
    assert shares[1] > 0.93


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=40),
    num_rows=st.integers(1, 7),
    bptt=st.integers(1, 20),
    world_size=st.integers(1, 4),
)
def test_every_held_out_token_is_scored_once(lengths: list[int], num_rows: int, bptt: int, world_size: int) -> None:
    scored: list[int] = []
    for rank in range(world_size):
        parts = ScoringDocuments(
            array_of(lengths), num_rows=num_rows, window_length=bptt, begin_id=BEGIN, rank=rank, world_size=world_size
        )
        assert parts.num_parts == len(lengths)
        for window in parts.windows():
            assert len(window.inputs) <= bptt
            kept = window.targets != IGNORED
            firsts = np.isin(window.targets, array_of(lengths).starts)
            assert (window.inputs[firsts] == BEGIN).all()
            assert not firsts[1 if window.begins else 0 :].any()
            np.testing.assert_array_equal(window.inputs[kept & ~firsts] + 1, window.targets[kept & ~firsts])
            assert window.first is not None
            places = window.first + np.arange(len(window.targets))[:, None]
            np.testing.assert_array_equal(window.targets[kept], places[kept])
            scored += window.targets[kept].tolist()
    assert sorted(scored) == list(range(sum(lengths)))


def test_documents_that_cannot_be_laid_out_are_refused() -> None:
    with pytest.raises(ValueError, match=r"3 workers, but only train\.batch_size=2"):
        Documents(array_of([1] * 9), batch_size=2, most_tokens=4, begin_id=0, seed=1, world_size=3)
    with pytest.raises(ValueError, match=r"only 1 of the train\.batch_size=2 documents in a window \(corpus\.document"):
        Documents(ArrayTokens(np.zeros(100)), batch_size=2, most_tokens=4, begin_id=0, seed=1)
    with pytest.raises(ValueError, match="nothing to score"):
        ScoringDocuments(ArrayTokens(np.zeros(0)), num_rows=2, window_length=4, begin_id=0)

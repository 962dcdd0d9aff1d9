"""Where documents begin in a sequence of shards."""

from collections.abc import Callable

import numpy as np
import pytest

from pipeline.data.shards import TokenSequence
from pipeline.data.shards.sidecar import Sidecar

MakeSequence = Callable[..., TokenSequence]


@pytest.mark.parametrize("shard_tokens", [1, 3, 4, 100])
def test_document_starts_of_any_stretch(make_sequence: MakeSequence, shard_tokens: int) -> None:
    # the empty document begins where the next one does; the last is empty, at the end, and begins at no token
    documents = [[1, 2, 3], [], [4, 5, 6, 7, 8], [9], [10], []]
    sequence = make_sequence(documents, shard_tokens=shard_tokens)
    all_starts = [0, 3, 8, 9]
    for start in range(11):
        for stop in range(start, 11):
            found = sequence.document_starts(start, stop)
            assert found.dtype == np.int64
            assert [i for i in found.tolist() if i < 10] == [i for i in all_starts if start <= i < stop]
    assert sequence.document_starts(0, len(sequence)).tolist() == all_starts


def test_an_empty_document_at_the_end_of_a_shard_begins_in_the_next(make_sequence: MakeSequence) -> None:
    sequence = make_sequence([[1, 2], [3, 4]], shard_tokens=2)
    # as a preparation writes it if the shard's last piece has no token
    sequence._shard(0).sidecar = Sidecar.of({}, np.array([0, 2]))
    sequence._shard(1).sidecar = Sidecar.of({}, np.array([], dtype=np.int64))
    assert sequence.document_starts(0, 4).tolist() == [0, 2]
    assert sequence.document_starts(2, 3).tolist() == [2]


@pytest.mark.parametrize("starts", [[], [0], [7], [0, 0, 3, 3], [0, 255, 511, 70_000, 1 << 33, (1 << 33) + 1]])
def test_a_sidecar_keeps_where_documents_begin(starts: list[int]) -> None:
    sidecar = Sidecar.of({"made_of": "é", "batches": [[1, 2, "x"]]}, np.array(starts, dtype=np.int64))
    again = Sidecar.from_bytes(sidecar.to_bytes())
    assert again == sidecar
    assert again.document_starts.tolist() == starts
    assert again.document_starts.dtype == np.int64


def test_a_short_document_takes_less_than_a_byte_of_the_sidecar() -> None:
    lengths = np.random.default_rng(1).poisson(12, size=50_000)
    starts = np.cumsum(lengths) - lengths
    assert len(Sidecar.of({}, starts).to_bytes()) < 0.7 * len(starts)


def test_every_altered_byte_of_a_sidecar_is_detected() -> None:
    data = Sidecar.of({"batches": []}, np.array([0, 5, 9])).to_bytes()
    for place in range(len(data)):
        with pytest.raises(ValueError, match="altered since"):
            Sidecar.from_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(ValueError, match="altered since"):
            Sidecar.from_bytes(data[:place])

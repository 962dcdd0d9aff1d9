"""Token sequences in shards, made directly from documents of ids; a corpus of files; a store that speaks S3."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.shards import TokenSequence, write_shard
from tests.data.object_store import door, server, store

__all__ = ["door", "server", "store"]


@pytest.fixture
def make_sequence(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., TokenSequence]:
    """A function: documents of token ids and a shard size → one token sequence in shards of that size."""

    def make(documents: Sequence[Sequence[int]], *, shard_tokens: int = 1 << 20) -> TokenSequence:
        directory: Path = tmp_path_factory.mktemp("shards")
        tokens = np.array([token for document in documents for token in document], dtype=np.uint16)
        starts = np.cumsum([0, *(len(document) for document in documents)])[:-1]
        entries = []
        for index, begin in enumerate(range(0, max(1, len(tokens)), shard_tokens)):
            part = tokens[begin : begin + shard_tokens]
            # an empty document at a shard's end belongs to that shard
            within = starts[np.searchsorted(starts, begin) :] - begin
            within = within[within <= len(part)] if begin + shard_tokens >= len(tokens) else within[within < len(part)]
            entries.append(write_shard(directory, f"train-{index:05d}", part, within.tolist(), {}))
        return TokenSequence(directory, {"shards": entries, "num_bytes": 0, "num_unknown": 0}, tokens.dtype)

    return make


@pytest.fixture
def corpus_of_files(tmp_path: Path) -> Path:
    """Thirty files of a few hundred characters, except one that is much longer."""
    source = random.Random(3)
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(30):
        lines = ["".join(source.choices("abcde é\n", k=60)) for _ in range(200 if number == 7 else 8)]
        (folder / f"{number:02d}.txt").write_text("\n".join(lines), encoding="utf-8")
    return folder

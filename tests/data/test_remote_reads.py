"""The requests to a store that speaks S3, and what happens to reads and writes that it refuses."""

import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from pipeline import config as configuration
from pipeline import storage
from pipeline.config import Config
from pipeline.data.prepare import prepare_in_process
from pipeline.data.shards import PreparedCorpus, TokenSequence, open_prepared, read_manifest
from pipeline.data.streams import Streams
from tests.data.object_store import BUCKET, Door, put


@pytest.fixture(scope="module")
def long_tokens(store: fs.FileSystem, tmp_path_factory: pytest.TempPathFactory) -> PreparedCorpus:
    """1.4 million tokens in shards of half a million."""
    put(store, "long/a.txt", np.random.default_rng(1).bytes(700_000).hex().encode())
    return prepare_in_process(
        configuration.with_values(
            configuration.load(),
            {"corpus.train": [f"{BUCKET}/long"], "corpus.valid_fraction": 0, "tokenizer.kind": "byte",
             "data.directory": f"{BUCKET}/long-data", "data.shard_tokens": 500_000},
        )
    )  # fmt: skip


def batches_of(tokens: TokenSequence) -> list[tuple[str, int, int]]:
    """The bytes of every record batch, as (shard, start, stop), from the sidecars."""
    return [
        (entry["name"], offset, offset + num_bytes)
        for index, entry in enumerate(tokens.entries)
        for offset, num_bytes, _ in tokens._shard(index).table
    ]


def test_an_epoch_reads_each_byte_once(door: Door, long_tokens: PreparedCorpus) -> None:
    tokens = open_prepared(long_tokens.directory).splits["train"]
    streams = Streams(tokens, batch_size=3, bptt=500)
    door.requests.clear()
    seen = np.concatenate([window.inputs for window in streams.windows()])
    asked = [(name, *found) for name in (e["name"] for e in tokens.entries) for found in door.ranges(f"{name}.arrow")]
    assert asked == batches_of(tokens)
    assert sum(stop - start for _, start, stop in asked) == 2 * len(tokens)
    expected = np.frombuffer(storage.read(f"{BUCKET}/long/a.txt"), dtype=np.uint8)
    np.testing.assert_array_equal(seen.T.ravel(), expected[: seen.size])


def test_a_window_is_one_ranged_read(door: Door, long_tokens: PreparedCorpus) -> None:
    tokens = open_prepared(long_tokens.directory).splits["train"]
    name, start, stop = batches_of(tokens)[1]
    expected = np.frombuffer(storage.read(f"{BUCKET}/long/a.txt"), dtype=np.uint8)[70_000:70_100]
    door.requests.clear()
    np.testing.assert_array_equal(tokens[70_000:70_100], expected)
    assert door.requests == [("GET", f"/texts/long-data/{name}.arrow", f"bytes={start}-{stop - 1}")]


def test_a_bucket_that_fails_midway(
    store: fs.FileSystem, door: Door, make_config: Callable[..., Config], tiny_text: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A failure that passes is waited for; one that lasts is one sentence, and the same command continues."""
    put(store, "fails/tiny.txt", tiny_text.read_bytes())
    directory = f"{BUCKET}/fails-data"
    config = make_config(
        {"corpus.train": [f"{BUCKET}/fails/tiny.txt"], "data.directory": directory, "data.shard_tokens": 4096}
    )
    waited: list[float] = []
    monkeypatch.setattr(storage.time, "sleep", waited.append)
    turned_away = []

    def once(method: str, path: str) -> bool:
        is_first = path.endswith("train-00001.arrow") and method in ("PUT", "POST") and len(turned_away) < 3
        turned_away.extend([path] * is_first)
        return is_first

    door.is_shut = once
    done: list[str] = []

    def shut_after_two(entry: dict[str, str], total: int) -> None:
        done.append(entry["name"])
        if len(done) == 2:
            door.is_shut = lambda method, path: method in ("PUT", "POST")

    with pytest.raises(storage.UnwritableError, match=r"train-00002\.arrow: cannot be written: .*continues$") as error:
        prepare_in_process(config, on_shard=shut_after_two)
    assert "\n" not in str(error.value)
    assert len(turned_away) == 3
    assert len(waited) > storage.ATTEMPTS - 1
    assert done == ["train-00000", "train-00001"]
    assert read_manifest(directory) is None
    door.is_shut = lambda method, path: False
    door.requests.clear()
    corpus = prepare_in_process(config)
    written = {path.rpartition("/")[2] for method, path, _ in door.requests if method in ("PUT", "POST")}
    assert written.isdisjoint({"train-00000.arrow", "train-00001.arrow"})
    expected = prepare_in_process(configuration.with_values(config, {"data.directory": f"{directory}-whole"}))
    assert corpus.fingerprint == expected.fingerprint


def test_parquet_reads_are_tried_again(
    store: fs.FileSystem, door: Door, tmp_path: Path, make_config: Callable[..., Config],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    texts = [f"text {number} " * 20 for number in range(300)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet", row_group_size=100)
    put(store, "tables/a.parquet", (tmp_path / "a.parquet").read_bytes())
    monkeypatch.setattr(storage.time, "sleep", lambda seconds: None)
    gets: list[str] = []

    def now_and_then(method: str, path: str) -> bool:
        gets.extend([path] * (method == "GET" and path.endswith("a.parquet")))
        # the third read, which the store's client tries twice by itself, and our next attempt
        return method == "GET" and path.endswith("a.parquet") and len(gets) in (3, 4, 5)

    door.is_shut = now_and_then
    changes = {"corpus.valid_fraction": 0, "tokenizer.kind": "byte", "data.shard_tokens": 8192}
    there = make_config({**changes, "corpus.train": [f"{BUCKET}/tables/a.parquet"]})
    tokens = prepare_in_process(there).splits["train"]
    assert len(gets) > 6
    found = bytes(tokens[: len(tokens)][tokens[: len(tokens)] < 256].astype(np.uint8))
    assert found == "".join(texts).encode()
    door.is_shut = lambda method, path: method == "GET" and path.endswith("a.parquet")
    away = configuration.with_values(there, {"data.directory": str(tmp_path / "away")})
    with pytest.raises(storage.UnreadableError, match=r"s3://texts/tables/a\.parquet: cannot be read: "):
        prepare_in_process(away)


def test_a_store_that_does_not_answer_is_named(
    monkeypatch: pytest.MonkeyPatch, make_config: Callable[..., Config]
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    waited: list[float] = []
    monkeypatch.setattr(storage.time, "sleep", waited.append)
    storage._connect.cache_clear()
    with pytest.raises(ValueError, match=r"s3://nowhere/a\.txt: cannot be read: its store does not answer \(Could not"):
        prepare_in_process(make_config({"corpus.train": ["s3://nowhere/a.txt"]}))
    assert len(waited) == storage.ATTEMPTS - 1
    storage._connect.cache_clear()

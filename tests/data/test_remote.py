"""Corpora from and to a store that speaks S3: a local server of moto's, none of it mocked on our side."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from moto.server import ThreadedMotoServer
from pyarrow import fs

from pipeline import config as configuration
from pipeline import launch, storage
from pipeline.config import Config
from pipeline.data.prepare import prepare_in_process
from pipeline.data.shards import open_prepared, read_manifest, sequence
from pipeline.data.streams import Streams

BUCKET = "s3://texts"


@pytest.fixture(scope="module")
def store() -> Iterator[fs.FileSystem]:
    """An empty bucket, and the environment that leads to it."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }.items():
            patch.setenv(name, value)
        bucket = fs.S3FileSystem(endpoint_override=f"http://127.0.0.1:{port}", allow_bucket_creation=True)
        bucket.create_dir("texts")
        storage._connect.cache_clear()
        yield bucket
        server.stop()
        storage._connect.cache_clear()


def put(store: fs.FileSystem, path: str, data: bytes) -> None:
    with store.open_output_stream(f"texts/{path}") as stream:
        stream.write(data)


def test_files_are_found_as_in_a_folder(store: fs.FileSystem) -> None:
    for path in ("find/a.txt", "find/b.txt", "find/deep/c.txt", "find/deep/.d.txt", "find/e.md"):
        put(store, path, b"x" * len(path))

    def found(pattern: str) -> list[str]:
        return [path.removeprefix(f"{BUCKET}/find/") for path, _ in storage.find(f"{BUCKET}/{pattern}")]

    assert found("find") == ["a.txt", "b.txt", "deep/c.txt", "e.md"]
    assert found("find/*.txt") == ["a.txt", "b.txt"]
    assert found("find/**/*.txt") == ["a.txt", "b.txt", "deep/.d.txt", "deep/c.txt"]
    assert found("find/[ae].*") == ["a.txt", "e.md"]
    assert storage.find(f"{BUCKET}/find/a.txt") == [(f"{BUCKET}/find/a.txt", 10)]
    assert found("nothing/*") == []


def test_from_a_bucket_to_a_bucket(
    store: fs.FileSystem, make_config: Callable[..., Config], tmp_path: Path, tiny_text: Path
) -> None:
    """The same shards as from files to files, byte for byte; an interrupted preparation goes on."""
    put(store, "in/tiny.txt", tiny_text.read_bytes())
    changes = {"data.shard_tokens": 2048, "tokenizer.kind": "bpe", "tokenizer.vocab_size": 300}
    expected = prepare_in_process(make_config(changes))
    there = make_config({**changes, "corpus.train": [f"{BUCKET}/in/*.txt"], "data.directory": f"{BUCKET}/out"})
    done: list[str] = []

    def killed(entry: dict[str, str], total: int) -> None:
        done.append(entry["name"])
        if len(done) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_in_process(there, on_shard=killed)
    assert read_manifest(f"{BUCKET}/out") is None
    first = {info.path: info.mtime_ns for info in store.get_file_info(fs.FileSelector("texts/out"))}
    corpus = prepare_in_process(there)
    again = {info.path: info.mtime_ns for info in store.get_file_info(fs.FileSelector("texts/out"))}
    assert all(again[path] == time for path, time in first.items() if path.endswith(".arrow"))
    for entry in expected.splits["train"].entries:
        name = f"{entry['name']}.arrow"
        assert storage.read(f"{BUCKET}/out/{name}") == (Path(expected.directory) / name).read_bytes()
    open_prepared(f"{BUCKET}/out", verify=True)
    assert corpus.tokenizer.fingerprint == expected.tokenizer.fingerprint


def test_an_epoch_reads_each_byte_once_ahead_of_its_use(
    store: fs.FileSystem, make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, "long/a.txt", np.random.default_rng(1).bytes(700_000).hex().encode())
    config = make_config(
        {"corpus.train": [f"{BUCKET}/long"], "corpus.valid_fraction": 0, "tokenizer.kind": "byte",
         "data.directory": f"{BUCKET}/long-data", "data.shard_tokens": 500_000}
    )  # fmt: skip
    tokens = prepare_in_process(config).splits["train"]
    reads: list[tuple[str, int, int]] = []
    read = storage.read_open

    def recorded(file: object, path: str, start: int, num_bytes: int) -> bytes:
        reads.append((path, start, num_bytes))
        return read(file, path, start, num_bytes)

    monkeypatch.setattr(sequence.storage, "read_open", recorded)
    streams = Streams(tokens, batch_size=3, bptt=500)
    seen = np.concatenate([window.inputs for window in streams.windows()])
    expected = np.frombuffer(storage.read(f"{BUCKET}/long/a.txt"), dtype=np.uint8)
    np.testing.assert_array_equal(seen.T.ravel(), expected[: seen.size])
    assert len(reads) == len(set(reads)) == sum(-(-entry["num_tokens"] // 65_536) for entry in tokens.entries)
    assert sum(num_bytes for _, _, num_bytes in reads) == 2 * len(tokens)


def test_training_from_a_bucket_is_training_from_files(
    store: fs.FileSystem, make_config: Callable[..., Config], tiny_text: Path, tmp_path: Path
) -> None:
    put(store, "train/tiny.txt", tiny_text.read_bytes())
    here = make_config({"train.max_steps": 12})
    there = configuration.with_values(
        here,
        {"corpus.train": [f"{BUCKET}/train/tiny.txt"], "data.directory": f"{BUCKET}/train-data",
         "run.directory": str(tmp_path / "there")},
    )  # fmt: skip
    results = [launch.train(config, launch.in_process) for config in (here, there)]
    assert results[0]["perplexity"] == results[1]["perplexity"]


def test_damage_in_a_bucket_is_found(store: fs.FileSystem, make_config: Callable[..., Config]) -> None:
    directory = f"{BUCKET}/damaged"
    prepare_in_process(make_config({"data.directory": directory}))
    path = f"{directory}/train-00000.arrow"
    data = bytearray(storage.read(path))
    data[len(data) // 2] ^= 8
    storage.write(path, bytes(data))
    tokens = open_prepared(directory).splits["train"]
    with pytest.raises(ValueError, match=r"train-00000\.arrow: record batch 0 was altered"):
        tokens[:100]
    storage.write(path, bytes(data[:-10]))
    with pytest.raises(ValueError, match=r"train-00000\.arrow: [\d,]+ bytes where the manifest says"):
        open_prepared(directory)


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


def test_stores_and_buckets_that_there_are_not(store: fs.FileSystem, make_config: Callable[..., Config]) -> None:
    with pytest.raises(ValueError, match="carrier-pigeon:// is not a store"):
        prepare_in_process(make_config({"corpus.train": ["carrier-pigeon://coop/a.txt"]}))
    with pytest.raises(ValueError, match=r"corpus\.train: no file matches s3://no-such-bucket/a\.txt|does not exist"):
        prepare_in_process(make_config({"corpus.train": ["s3://no-such-bucket/a.txt"]}))

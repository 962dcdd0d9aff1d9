"""Corpora from and to a store that speaks S3: a local server of moto's, none of it mocked on our side."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from moto.server import ThreadedMotoServer
from pyarrow import fs

from pipeline import config as configuration
from pipeline import launch, storage
from pipeline.config import Config
from pipeline.data.prepare import prepare_in_process
from pipeline.data.shards import PreparedCorpus, TokenSequence, open_prepared, read_manifest
from pipeline.data.streams import Streams

BUCKET = "s3://texts"


class Door:
    """Stands before the server: writes down what is asked for, and turns away what ``is_shut`` says."""

    def __init__(self, application: Callable[..., Any]) -> None:
        self.application = application
        self.requests: list[tuple[str, str, str]] = []  # method, path, range
        self.is_shut: Callable[[str, str], bool] = lambda method, path: False

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.requests.append((method, path, environ.get("HTTP_RANGE", "")))
        if self.is_shut(method, path):
            start_response("503 Slow Down", [("Content-Type", "application/xml")])
            return [b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"]
        return self.application(environ, start_response)

    def ranges(self, name: str) -> list[tuple[int, int]]:
        """(start, stop) of what was read of the files whose path has ``name`` in it."""
        return sorted(
            (int(first), int(last) + 1)
            for method, path, asked in self.requests
            if method == "GET" and name in path
            for first, last in [asked.removeprefix("bytes=").split("-")]
        )


@pytest.fixture(scope="module")
def server() -> Iterator[ThreadedMotoServer]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def door(server: ThreadedMotoServer) -> Iterator[Door]:
    assert server._server is not None
    application = server._server.app
    server._server.app = Door(application)
    yield server._server.app
    server._server.app = application


@pytest.fixture(scope="module")
def store(server: ThreadedMotoServer) -> Iterator[fs.FileSystem]:
    """An empty bucket, and the environment that leads to it."""
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
    """(shard, start, stop) of the bytes of every record batch, as the sidecars tell."""
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
    """What passes is waited for; what does not is one sentence, and the same command goes on."""
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

    with pytest.raises(storage.UnwritableError, match=r"train-00002\.arrow: cannot be written: .*goes on$") as error:
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
        # the third read, the store's client trying it twice by itself, and once more
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


def test_documents_from_a_bucket_are_documents_from_files(
    store: fs.FileSystem, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    names = "".join(f"{['ka', 'mo', 'ri'][n % 3] * (1 + n % 5)}\n" for n in range(120))
    put(store, "names/names.txt", names.encode())
    (tmp_path / "names.txt").write_text(names)
    here = make_config(
        {"corpus.train": [str(tmp_path / "names.txt")], "corpus.document": "line", "data.layout": "documents",
         "train.max_steps": 12}
    )  # fmt: skip
    there = configuration.with_values(
        here,
        {"corpus.train": [f"{BUCKET}/names/names.txt"], "data.directory": f"{BUCKET}/names-data",
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

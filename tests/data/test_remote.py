"""Corpora read from and written to a store that speaks S3: a local moto server; nothing is mocked on our side."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs

from pipeline import config as configuration
from pipeline import launch, storage
from pipeline.config import Config
from pipeline.data import extracts
from pipeline.data.directory import OtherCorpusError
from pipeline.data.prepare import prepare_in_process
from pipeline.data.shards import open_prepared, read_manifest
from tests.data.changing import EDITED, LINES, config_of, write_compressed, write_parquet
from tests.data.object_store import BUCKET, Door, put


def test_files_are_found_as_in_a_folder(store: fs.FileSystem) -> None:
    for path in ("find/a.txt", "find/b.txt", "find/deep/c.txt", "find/deep/.d.txt", "find/e.md"):
        put(store, path, b"x" * len(path))

    def found(pattern: str) -> list[str]:
        return [path.removeprefix(f"{BUCKET}/find/") for path, *_ in storage.find(f"{BUCKET}/{pattern}")]

    assert found("find") == ["a.txt", "b.txt", "deep/c.txt", "e.md"]
    assert found("find/*.txt") == ["a.txt", "b.txt"]
    assert found("find/**/*.txt") == ["a.txt", "b.txt", "deep/c.txt"]
    assert found("find/deep/.*") == ["deep/.d.txt"]
    assert found("find/[ae].*") == ["a.txt", "e.md"]
    ((path, size, changed),) = storage.find(f"{BUCKET}/find/a.txt")
    assert (path, size) == (f"{BUCKET}/find/a.txt", 10)
    assert changed == storage.find(f"{BUCKET}/find/*.txt")[0].changed > 0
    assert found("nothing/*") == []


def test_from_a_bucket_to_a_bucket(
    store: fs.FileSystem, make_config: Callable[..., Config], tmp_path: Path, tiny_text: Path
) -> None:
    """The shards equal those from files to files, byte for byte; an interrupted preparation is continued."""
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


def assert_trains_alike(here: Config, in_bucket: dict[str, Any]) -> None:
    """``here`` trains to the same figure with its text and its shards ``in_bucket``."""
    there = configuration.with_values(here, {**in_bucket, "run.directory": f"{here.run.directory}-there"})
    results = [launch.train(config, launch.in_process) for config in (here, there)]
    assert results[0]["perplexity"] == results[1]["perplexity"]


def test_training_from_a_bucket_is_training_from_files(
    store: fs.FileSystem, make_config: Callable[..., Config], tiny_text: Path, tmp_path: Path
) -> None:
    put(store, "train/tiny.txt", tiny_text.read_bytes())
    here = make_config({"train.max_steps": 12})
    assert_trains_alike(here, {"corpus.train": [f"{BUCKET}/train/tiny.txt"], "data.directory": f"{BUCKET}/train-data"})


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
    assert_trains_alike(here, {"corpus.train": [f"{BUCKET}/names/names.txt"], "data.directory": f"{BUCKET}/names-data"})


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


def test_stores_and_buckets_that_do_not_exist_are_named(
    store: fs.FileSystem, make_config: Callable[..., Config]
) -> None:
    with pytest.raises(ValueError, match="carrier-pigeon:// is not a store"):
        prepare_in_process(make_config({"corpus.train": ["carrier-pigeon://coop/a.txt"]}))
    with pytest.raises(ValueError, match=r"corpus\.train: no file matches s3://no-such-bucket/a\.txt|does not exist"):
        prepare_in_process(make_config({"corpus.train": ["s3://no-such-bucket/a.txt"]}))


@pytest.mark.parametrize("write", [write_compressed, write_parquet])
def test_a_text_in_a_bucket_is_known_by_its_tag(
    store: fs.FileSystem, door: Door, make_config: Callable[..., Config], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, write: Callable[[Path, Sequence[str]], str],
) -> None:  # fmt: skip
    name = write(tmp_path, LINES)
    text = f"known/{name}"
    put(store, text, (tmp_path / name).read_bytes())
    config = config_of(make_config, f"{BUCKET}/{text}", **{"corpus.document": "line"})
    expected = prepare_in_process(config).fingerprint

    def num_bytes_read() -> int:
        door.requests.clear()
        assert prepare_in_process(config).fingerprint == expected
        return sum(stop - start for start, stop in door.ranges(name))

    unread = num_bytes_read()  # except for where the splits are cut, and the end of a table
    put(store, text, (tmp_path / name).read_bytes())
    assert num_bytes_read() == unread
    with monkeypatch.context() as patch:  # as if the same text were uploaded in other parts
        patch.setattr(extracts, "tag_of", lambda file: "another")
        assert num_bytes_read() > unread
    with monkeypatch.context() as patch:
        patch.setattr(storage, "ATTEMPTS", 1)
        door.is_shut = lambda method, path: True
        told: list[str] = []
        assert prepare_in_process(config, say=told.append).fingerprint == expected
        assert "its text cannot be checked" in told[-1]
        door.is_shut = lambda method, path: False
    write(tmp_path, EDITED)
    put(store, text, (tmp_path / name).read_bytes())
    with pytest.raises(OtherCorpusError, match=rf"{name} has changed since"):
        prepare_in_process(config)

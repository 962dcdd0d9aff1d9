"""A prepared corpus as files: opened without being read, every damage found, and what its card says."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xxhash

from pipeline import storage
from pipeline.config import Config
from pipeline.data import shards
from pipeline.data.card import card
from pipeline.data.prepare import prepare_in_process
from pipeline.data.shards import manifest, open_prepared
from pipeline.data.shards.remote import BatchCache

MakeConfig = Callable[..., Config]


def test_a_corpus_of_another_format_is_refused(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    config = make_config()
    with monkeypatch.context() as patch:
        patch.setattr(manifest, "FORMAT", 1)
        prepare_in_process(config)
    with pytest.raises(ValueError, match=r"manifest\.json: format 1, but this version reads format 2; remove"):
        prepare_in_process(config)


@pytest.mark.parametrize("file", ["train-00001.arrow", "train-00001.index", "manifest.json", "tokenizer.json"])
def test_every_damage_is_found(make_config: MakeConfig, corpus_of_files: Path, tmp_path: Path, file: str) -> None:
    config = make_config({"corpus.train": [str(corpus_of_files)], "data.shard_tokens": 4096})
    directory = Path(prepare_in_process(config).directory)
    path = directory / file
    intact = path.read_bytes()
    source = random.Random(5)
    for number in range(200):
        data = bytearray(intact)
        place = source.randrange(len(data))
        if number % 3 == 0:
            data[place] ^= 1 << source.randrange(8)
        elif number % 3 == 1:
            end = min(len(data), place + 4096)
            if not any(data[place:end]):
                data[place] = 1  # the page was all zeros already
            else:
                data[place:end] = bytes(end - place)
        else:
            del data[place:]
        path.write_bytes(data)
        with pytest.raises(ValueError, match=str(directory)) as error:  # every sentence names the file
            open_prepared(directory, verify=True)
        assert "\n" not in str(error.value)
    path.write_bytes(intact)
    open_prepared(directory, verify=True)


def test_a_flipped_token_is_found_at_its_first_use(
    make_config: MakeConfig, corpus_of_files: Path, tmp_path: Path
) -> None:
    config = make_config({"corpus.train": [str(corpus_of_files)], "data.shard_tokens": 1024})
    corpus = prepare_in_process(config)
    path = Path(corpus.directory) / "train-00001.arrow"
    sidecar = shards.read_sidecar(corpus.directory, "train-00001")
    assert sidecar is not None
    data = bytearray(path.read_bytes())
    data[sidecar.facts["batches"][0][0] + 11] ^= 4
    path.write_bytes(data)
    tokens = open_prepared(corpus.directory).splits["train"]
    first = tokens.entries[0]["num_tokens"]
    tokens[0:first]
    with pytest.raises(ValueError, match=r"train-00001\.arrow: record batch 0 was altered"):
        tokens[first : first + 1]


def test_the_card_has_the_counts_of_a_corpus(make_config: MakeConfig, tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("a b a\nb a a\n")
    (tmp_path / "valid.txt").write_text("a z\n")
    corpus = prepare_in_process(
        make_config(
            {"corpus.train": [str(tmp_path / "train.txt")], "corpus.valid": [str(tmp_path / "valid.txt")],
             "tokenizer.kind": "word"}
        )
    )  # fmt: skip
    found = card(open_prepared(corpus.directory, verify=True))
    train, valid = found.splits["train"], found.splits["valid"]
    assert (train.tokens, train.documents, train.bytes, train.bytes_per_token) == (8, 1, 12, 1.5)
    assert train.most_frequent == [("a", 0.5), ("<eos>", 0.25), ("b", 0.25)]
    assert (train.coverage, train.unknown_rate) == (0.75, 0.0)
    assert (valid.coverage, valid.unknown_rate) == (0.75, 1 / 3)
    assert "train: 8 tokens in 1 documents and 1 shards, 12 bytes (1.500 a token)" in str(found)


@pytest.mark.parametrize("num_tokens", [1, 3, 65_536, 65_541, 200_001])
def test_the_sidecar_says_where_arrow_keeps_each_batch(tmp_path: Path, num_tokens: int) -> None:
    for dtype in (np.uint16, np.uint32):
        tokens = np.random.default_rng(1).integers(0, 60_000, num_tokens).astype(dtype)
        shards.write_shard(str(tmp_path), "train-00000", tokens, [0], {})
        sidecar = shards.read_sidecar(str(tmp_path), "train-00000")
        assert sidecar is not None
        data = (tmp_path / "train-00000.arrow").read_bytes()
        with pa.memory_map(str(tmp_path / "train-00000.arrow")) as file:
            reader = pa.ipc.open_file(file)
            batches = [reader.get_batch(i).column(0).to_numpy().copy() for i in range(reader.num_record_batches)]
        assert len(sidecar.facts["batches"]) == len(batches)
        for (offset, num_bytes, checksum), batch in zip(sidecar.facts["batches"], batches, strict=True):
            assert data[offset : offset + num_bytes] == batch.tobytes()
            assert checksum == xxhash.xxh3_64_hexdigest(batch)


def test_only_a_few_shards_stay_open_and_the_least_recently_used_goes(
    make_sequence: Callable[..., shards.TokenSequence], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.data.shards.sequence.MAX_OPEN_SHARDS", 2)
    tokens = make_sequence([list(range(40))], shard_tokens=10)
    for place in (5, 15, 7, 25):
        assert tokens[place : place + 1].tolist() == [place]
    assert list(tokens.open_shards) == [0, 2]


def test_batches_from_a_store_are_kept_up_to_a_number_of_bytes() -> None:
    reads: list[int] = []

    def read(key: tuple[int, int]) -> np.ndarray:  # type: ignore[type-arg]
        reads.append(key[1])
        return np.full(10, key[1], dtype=np.uint8)

    cache = BatchCache(read, capacity_bytes=30)
    for number in (0, 1, 2, 0, 3, 0, 2, 1):
        assert set(cache.get((7, number)).tolist()) == {number}
        assert cache.num_bytes == 10 * len(cache.futures) <= 30
    assert reads == [0, 1, 2, 3, 1]  # 3 took the place of 1, which had not been used for longest


def test_a_batch_that_could_not_be_read_is_asked_for_again() -> None:
    answers: list[Any] = [OSError("the store is away"), np.zeros(4, dtype=np.uint8)]

    def read(key: tuple[int, int]) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    cache = BatchCache(read, capacity_bytes=30)
    with pytest.raises(OSError, match="the store is away"):
        cache.get((0, 0))
    assert cache.get((0, 0)).tolist() == [0] * 4
    assert cache.num_bytes == 4


def test_a_thousand_shards_are_opened_without_reading_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = np.arange(16, dtype=np.uint16)
    entries = [shards.write_shard(str(tmp_path), f"train-{i:05d}", tokens, [0], {}) for i in range(1000)]
    with monkeypatch.context() as patch:
        patch.setattr(storage, "open_file", None)
        patch.setattr(storage, "size", None)
        split = {"shards": entries, "num_bytes": 0, "num_unknown": 0}
        sequence = shards.TokenSequence(str(tmp_path), split, tokens.dtype)
    assert len(sequence) == 16_000
    assert sequence[8_000:8_020].tolist() == [*range(16), *range(4)]

"""Which documents are repeated, by their hashes, and how much memory each takes."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import config as configuration
from pipeline.data.corpus import Slice, deduplication, find_sources, texts_of
from pipeline.data.corpus.deduplication import Hashes, HashTask, deduplicated, repeated
from pipeline.data.prepare import in_process
from pipeline.data.readers import TextSettings
from pipeline.data.readers.text import TextReader


def test_the_first_of_equal_hashes_stays() -> None:
    source = np.random.default_rng(5)
    hashes = source.integers(0, 256, size=(40, 16), dtype=np.uint8)[source.integers(0, 40, size=3000)]
    parts = np.split(hashes, [7, 7, 1200, 2900])
    seen: set[bytes] = set()
    expected = [row.tobytes() in seen or seen.add(row.tobytes()) is not None for row in hashes]
    assert np.concatenate(repeated(parts)).tolist() == expected
    assert repeated([]) == []
    assert not np.concatenate(repeated([np.unique(hashes, axis=0)])).any()


def test_a_document_takes_little_more_than_its_hash(tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_text("".join(f"line {n} {'x' * (n * 7919 % 60)}\n" for n in range(20_000)))
    values = {"corpus.train": [str(path)], "corpus.document": "line", "corpus.deduplicate": True}
    config = configuration.with_values(configuration.load(), values)
    held: list[Hashes] = []

    def map_tasks(tasks: Sequence[Any]) -> Iterator[Hashes]:
        for result in in_process(tasks):
            held.append(result)
            yield result

    slices = [Slice.whole(source) for source in find_sources("train", config.corpus)]
    deduplicated({"train": slices}, config.corpus, map_tasks)
    num_bytes = sum(part.hashes.nbytes + len(part.packed_numbers) + len(part.packed_places) for part in held)
    assert sum(len(part.hashes) for part in held) == 20_000
    assert 16 * 20_000 < num_bytes < 17 * 20_000


def test_the_work_of_dividing_files_among_tasks_grows_with_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Slice] = []
    monkeypatch.setattr(Slice, "num_bytes", property(lambda item: asked.append(item) or item.reader.num_bytes))
    monkeypatch.setattr(deduplication, "HASHED_BYTES", 40_000)
    readers = [TextReader(f"{n}.txt", f"/{n}.txt", TextSettings(), 100, 100, 100) for n in range(1000)]
    tasks: list[HashTask] = []
    deduplication.hashed(
        {Slice.whole(reader): n for n, reader in enumerate(readers)}, lambda own: tasks.extend(own) or []
    )
    assert [len(task.slices) for task in tasks] == [400, 400, 200]
    assert [number for task in tasks for number in task.numbers] == list(range(1000))
    assert len(asked) < 5000


def test_files_and_records_are_compared_in_corpus_order(tmp_path: Path) -> None:
    """Files that are hashed together must not come before the records that lie between them in the corpus."""
    (tmp_path / "first.txt").write_text("only here")
    (tmp_path / "records.jsonl").write_text('{"text": "in both"}\n{"text": "a record"}\n')
    (tmp_path / "held-out.txt").write_text("in both")
    (tmp_path / "more.txt").write_text("held out")
    values = {
        "corpus.train": [str(tmp_path / "first.txt"), str(tmp_path / "records.jsonl")],
        "corpus.valid": [str(tmp_path / "held-out.txt"), str(tmp_path / "more.txt")],
        "corpus.deduplicate": True,
    }
    config = configuration.with_values(configuration.load(), values).corpus
    splits = {split: list(map(Slice.whole, find_sources(split, config))) for split in ("train", "valid")}
    kept, num_files = deduplicated(splits, config, in_process)
    assert {split: list(texts_of(slices)) for split, slices in kept.items()} == {
        "train": ["only here", "in both", "a record"],
        "valid": ["held out"],
    }
    assert num_files == 1

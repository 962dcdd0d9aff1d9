"""From files to shards and back: the same tokens, the same bytes, and no damage goes unseen."""

import errno
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import config as configuration
from pipeline.config import Config, CorpusConfig
from pipeline.data import prepare as preparation
from pipeline.data import shards, vocabulary
from pipeline.data.corpus import Slice, split_corpus, texts_of
from pipeline.data.corpus.slices import num_bytes_of, sample
from pipeline.data.counting import count_tokens
from pipeline.data.prepare import in_process, prepare, prepare_in_process
from pipeline.data.readers import text as text_reader
from pipeline.data.shards import writing
from pipeline.data.tasks import CountTask, Task
from pipeline.data.tokenizer import train_tokenizer

MakeConfig = Callable[..., Config]


def text_of(item: Slice) -> str:
    return "".join(texts_of([item]))


def files_of(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def config_for(make_config: MakeConfig, folder: Path, tmp_path: Path, **changes: Any) -> Config:
    return make_config({"corpus.train": [str(folder)], "data.shard_tokens": 1024, **changes})


@pytest.mark.parametrize("kind", ["byte", "char", "word", "bpe"])
def test_shards_hold_the_tokens_of_the_whole_text(
    make_config: MakeConfig, corpus_of_files: Path, tmp_path: Path, kind: str
) -> None:
    config = config_for(make_config, corpus_of_files, tmp_path, **{"tokenizer.kind": kind})
    corpus = prepare_in_process(config)
    assert len(corpus.splits["train"].entries) > 3
    for split, slices in split_corpus(config.corpus).items():
        expected = np.concatenate([corpus.tokenizer.encode_document(text_of(item)) for item in slices])
        sequence = corpus.splits[split]
        np.testing.assert_array_equal(sequence[0 : len(sequence)], expected)
        assert sequence.num_bytes == sum(item.num_bytes for item in slices)
        length = len(expected) // 3
        starts = np.array([0, 5, length, len(expected) - length])
        rows = np.stack([expected[start : start + length] for start in starts])
        np.testing.assert_array_equal(sequence.rows(starts, length), rows)
    if kind != "bpe":  # its figures are estimates
        counts = count_tokens(configuration.with_values(config, {"data.directory": "x"}))
        assert (counts.vocab_size, counts.is_exact) == (corpus.vocab_size, True)
        assert counts.tokens == {split: len(sequence) for split, sequence in corpus.splits.items()}


def test_splits_are_disjoint_and_complete(make_config: MakeConfig, corpus_of_files: Path, tmp_path: Path) -> None:
    for by in ("file", "fraction"):
        config = config_for(
            make_config, corpus_of_files, tmp_path,
            **{"corpus.split_by": by, "corpus.valid_fraction": 0.2, "corpus.test_fraction": 0.1},
        )  # fmt: skip
        splits = split_corpus(config.corpus)
        text = {path.name: bytearray(path.stat().st_size) for path in corpus_of_files.iterdir()}
        for slices in splits.values():
            for item in slices:
                for offset in range(item.start, item.stop):
                    text[Path(item.reader.name).name][offset] += 1
        assert all(set(seen) == {1} for seen in text.values())
        total = sum(len(seen) for seen in text.values())
        for split, fraction in (("valid", 0.2), ("test", 0.1)):
            share = sum(item.num_bytes for piece in splits[split]) / total
            assert share == pytest.approx(fraction, abs=0.05)


def test_order_and_interruption_do_not_change_a_byte(
    make_config: MakeConfig, corpus_of_files: Path, tmp_path: Path
) -> None:
    config = config_for(make_config, corpus_of_files, tmp_path)
    prepare_in_process(config)
    expected = files_of(Path(str(config.data.directory)))

    def backwards(tasks: Sequence[Task]) -> list[dict[str, Any]]:
        return [task() for task in reversed(tasks)]

    def killed(tasks: Sequence[Task]) -> Any:
        if isinstance(tasks[0], CountTask):
            yield from in_process(tasks)
            return
        yield tasks[2]()
        yield tasks[4]()
        raise KeyboardInterrupt

    again = configuration.with_values(config, {"data.directory": str(tmp_path / "again")})
    with pytest.raises(KeyboardInterrupt):
        prepare(again, map_tasks=killed, on_shard=lambda entry, total: None)
    assert shards.read_manifest(str(tmp_path / "again")) is None
    made: list[int] = []

    def counted(tasks: Sequence[Task]) -> list[dict[str, Any]]:
        made.append(len(tasks))
        return backwards(tasks)

    kept: list[bool] = []
    prepare(again, map_tasks=counted, on_shard=lambda entry, total: kept.append("is_kept" in entry))
    assert kept == [True] * 2 + [False] * made[-1]
    assert files_of(tmp_path / "again") == expected
    assert made[1:] == [len([name for name in expected if name.endswith(".arrow")]) - 2]


@pytest.mark.parametrize("kind", ["char", "word", "bpe"])
def test_the_tokenizer_of_a_sample_does_not_depend_on_how_the_work_is_divided(
    make_config: MakeConfig, corpus_of_files: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_for(
        make_config, corpus_of_files, tmp_path, **{"tokenizer.kind": kind, "tokenizer.sample_bytes": 9000}
    )
    splits = split_corpus(config.corpus)
    chosen = sample(splits["train"], 9000)
    assert 0.8 < num_bytes_of(chosen) / 9000 < 1.2
    expected = train_tokenizer(config.tokenizer, [text_of(item) for item in chosen], num_documents=2)
    whole = train_tokenizer(config.tokenizer, [text_of(item) for item in splits["train"]], num_documents=2)
    assert expected.fingerprint != whole.fingerprint or kind == "char"
    for count_bytes in (500, 1 << 20):
        monkeypatch.setattr(vocabulary, "COUNT_BYTES", count_bytes)
        found = vocabulary.tokenizer_of(
            splits["train"], config.tokenizer, lambda tasks: reversed(list(in_process(tasks)))
        )
        assert found.fingerprint == expected.fingerprint


def test_a_prepared_corpus_is_recognised_and_another_refused(
    make_config: MakeConfig, corpus_of_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_for(make_config, corpus_of_files, tmp_path)
    fingerprint = prepare_in_process(config).fingerprint
    monkeypatch.setattr(preparation, "tokenizer_of", None)  # so that preparing again would fail
    assert prepare_in_process(config).fingerprint == fingerprint
    other = configuration.with_values(config, {"tokenizer.min_count": 3})
    with pytest.raises(ValueError, match=r"tokenizer\.min_count was 1, is 3"):
        prepare_in_process(other)
    (corpus_of_files / "00.txt").write_text("changed")
    with pytest.raises(ValueError, match="the texts are not the same"):
        prepare_in_process(config)


def test_a_shard_damaged_by_an_interruption_is_made_again(
    make_config: MakeConfig, corpus_of_files: Path, tmp_path: Path
) -> None:
    config = config_for(make_config, corpus_of_files, tmp_path)
    directory = Path(prepare_in_process(config).directory)
    expected = files_of(directory)
    (directory / shards.MANIFEST).unlink()
    data = bytearray(expected["train-00001.arrow"])
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)  # as long as before, but the end was never written
    (directory / "train-00001.arrow").write_bytes(data)
    (directory / "train-00002.index").write_bytes(b"[]")
    (directory / "train-99999.arrow").write_bytes(b"of an earlier, larger corpus")
    stale = directory / ".train-00003.1.tmp"
    stale.write_bytes(b"")
    os.utime(stale, (0, 0))
    prepare_in_process(config)
    assert files_of(directory) == expected


def test_a_file_that_is_being_written_is_kept_whatever_the_clock_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time
    (tmp_path / ".train-00001.1.tmp").touch()
    (tmp_path / ".train-00002.1.tmp").touch()
    os.utime(tmp_path / ".train-00002.1.tmp", (0, now() - 2 * writing.STALE_SECONDS))
    for hours in (-1, 1):
        monkeypatch.setattr(time, "time", lambda hours=hours: now() + 3600 * hours)
        shards.remove_leftovers(str(tmp_path), [])
        assert [path.name for path in tmp_path.iterdir()] == [".train-00001.1.tmp"]


def test_blocks_smaller_than_a_document_change_nothing(
    make_config: MakeConfig, corpus_of_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in ("byte", "char", "word", "bpe"):
        at_once = config_for(
            make_config, corpus_of_files, tmp_path,
            **{"tokenizer.kind": kind, "tokenizer.vocab_size": None if kind != "bpe" else 270,
               "data.directory": str(tmp_path / kind)},
        )  # fmt: skip
        in_blocks = configuration.with_values(at_once, {"data.directory": str(tmp_path / f"{kind} in blocks")})
        expected = files_of(Path(prepare_in_process(at_once).directory))
        with monkeypatch.context() as patch:
            patch.setattr(text_reader, "BLOCK_BYTES", 700)
            patch.setattr(text_reader, "TAIL_BYTES", 100)
            assert files_of(Path(prepare_in_process(in_blocks).directory)) == expected


def test_a_full_disk_keeps_what_is_done(
    make_config: MakeConfig, corpus_of_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_for(make_config, corpus_of_files, tmp_path)
    directory = Path(str(config.data.directory))
    opened: list[Path] = []

    class FullDisk(writing.HashedFile):
        def __init__(self, path: Path) -> None:
            super().__init__(path)
            opened.append(path)

        def write(self, data: Any) -> None:
            if len(opened) == 3 and self.num_bytes > 1000:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            super().write(data)

    with monkeypatch.context() as patch:
        patch.setattr(writing, "HashedFile", FullDisk)
        with pytest.raises(ValueError, match=r"train-00002\.arrow: cannot be written: No space left .* continues"):
            prepare_in_process(config)
    assert sorted(path.name for path in directory.glob("*.arrow")) == ["train-00000.arrow", "train-00001.arrow"]
    assert not list(directory.glob(".*"))
    made: list[str] = []
    prepare_in_process(config, on_shard=lambda entry, total: made.append(entry["name"]))
    assert len(made) == len(list(directory.glob("*.arrow")))


def test_an_address_of_a_folder_is_as_good_as_its_path(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = []
    for directory in (tmp_path / "path", f"file://{tmp_path}/deep/address"):
        corpus = prepare_in_process(make_config({"data.directory": str(directory)}))
        tokens = corpus.splits["train"]
        prepared.append((corpus.fingerprint, tokens[:].tolist()))
        if tokens.cache is not None:
            asked: list[Any] = []
            monkeypatch.setattr(tokens.cache, "ask", asked.extend)
            assert len(tokens[7:7]) == len(tokens[len(tokens) :]) == len(asked) == 0
    assert prepared[0] == prepared[1]


def test_a_text_that_changes_during_preparation_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one line\n" * 50)
    (item, _) = (own for slices in split_corpus(corpus_at(path)).values() for own in slices)
    path.write_text("one line\n" * 49)
    with pytest.raises(ValueError, match=r"a\.txt: 441 bytes, but 450 when the corpus was planned"):
        text_of(item)
    path.unlink()
    with pytest.raises(ValueError, match=r"a\.txt: cannot be read: No such file"):
        text_of(item)


@pytest.mark.parametrize("empty", ["train", "valid"])
def test_a_split_without_a_token_is_refused(make_config: MakeConfig, tmp_path: Path, empty: str) -> None:
    for split in ("train", "valid"):
        (tmp_path / f"{split}.txt").write_text(" \n \n" if split == empty else "some words\n")
    config = make_config(
        {"corpus.train": [str(tmp_path / "train.txt")], "corpus.valid": [str(tmp_path / "valid.txt")],
         "tokenizer.kind": "word", "tokenizer.eos": "none"}
    )  # fmt: skip
    with pytest.raises(ValueError, match=rf"corpus\.{empty}: there is no token"):
        prepare_in_process(config)
    assert not Path(str(config.data.directory)).exists()


def corpus_at(path: Path) -> CorpusConfig:
    return Config().corpus.model_copy(update={"train": [str(path)]})


def test_standard_counts_of_words_and_lines(make_config: MakeConfig, tmp_path: Path) -> None:
    """In Penn Treebank's form: a space on either side of each line, <unk> in the text, <eos> a type and a token."""
    (tmp_path / "train.txt").write_text(" a b <unk> \n b c N \n a \n")
    (tmp_path / "valid.txt").write_text(" a d <unk> \n")
    config = make_config(
        {"corpus.train": [str(tmp_path / "train.txt")], "corpus.valid": [str(tmp_path / "valid.txt")],
         "tokenizer.kind": "word"}
    )  # fmt: skip
    corpus = prepare_in_process(config)
    assert corpus.vocab_size == 6  # <unk> <eos> a b c N
    assert {split: len(sequence) for split, sequence in corpus.splits.items()} == {"train": 10, "valid": 4}
    assert corpus.splits["valid"].num_unknown == 2


@pytest.mark.parametrize("builtin", ["builtin:python-docs", "builtin:python-stdlib"])
def test_builtin_corpora(builtin: str) -> None:
    splits = split_corpus(Config().corpus.model_copy(update={"train": [builtin]}))
    assert sum(item.num_bytes for item in splits["train"]) > 300_000
    assert splits["valid"]
    assert text_of(splits["train"][0])
    assert splits == split_corpus(Config().corpus.model_copy(update={"train": [builtin]}))

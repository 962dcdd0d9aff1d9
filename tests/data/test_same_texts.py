"""A corpus whose texts are unchanged is used again: with other times, on other machines, and when they are gone."""

import os
import random
from pathlib import Path
from typing import Any

import pytest

from pipeline import config as configuration
from pipeline import launch
from pipeline.data import extracts, reuse
from pipeline.data.counting import count_tokens
from pipeline.data.directory import OtherCorpusError
from pipeline.data.extracts import Extract
from pipeline.data.prepare import prepare_in_process
from pipeline.data.readers import Reader
from pipeline.data.readers import text as text_reader
from pipeline.data.shards import MANIFEST
from pipeline.data.verify import verify_texts
from pipeline.errors import UserError
from tests.data.changing import (
    EDITED,
    FORMS,
    LINES,
    MakeConfig,
    config_of,
    folder,
    interrupted,
    write_files,
    write_text,
)

__all__ = ["folder"]


@pytest.mark.parametrize("seconds", [-1e6, 3600.0])
def test_a_new_time_alone_is_not_a_change(
    make_config: MakeConfig, folder: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    monkeypatch.setattr(extracts, "COARSE_NANOSECONDS", 0)
    config = config_of(make_config, write_files(folder, LINES))
    expected = prepare_in_process(config).fingerprint
    read: list[str] = []
    is_same = Extract.is_same

    def counted(extract: Extract, reader: Reader) -> bool:
        read.append(extract.name)
        return is_same(extract, reader)

    monkeypatch.setattr(Extract, "is_same", counted)
    assert prepare_in_process(config).fingerprint == expected
    assert read == []
    times = (folder / "000.txt").stat()
    os.utime(folder / "000.txt", (times.st_atime + seconds, times.st_mtime + seconds))
    for _ in range(2):  # once found to be the same, it is not read again
        assert prepare_in_process(config).fingerprint == expected
        assert read == ["000.txt"]


@pytest.mark.parametrize("is_finished", [True, False])
def test_a_corpus_of_an_earlier_version_is_used_with_a_notice(
    make_config: MakeConfig, folder: Path, is_finished: bool
) -> None:
    config = config_of(make_config, write_files(folder, LINES))
    directory = folder.parent / "data"
    if is_finished:
        prepare_in_process(config)
    else:
        interrupted(config, after=3)
    for path in [*directory.glob("*.sources"), *directory.glob(reuse.STATE)]:
        path.unlink()
    kept = {path.name: path.stat().st_mtime_ns for path in directory.glob("*.arrow")}
    told: list[str] = []
    prepare_in_process(config, say=told.append)
    assert [sentence for sentence in told if "prepared by an earlier version" in sentence] == told
    assert len(told) == 1
    assert {name: (directory / name).stat().st_mtime_ns for name in kept} == kept


def test_a_corpus_outlives_its_text(make_config: MakeConfig, folder: Path) -> None:
    (folder / "tokens.json").write_bytes(
        (
            Path(prepare_in_process(config_of(make_config, write_text(folder, LINES))).directory) / "tokenizer.json"
        ).read_bytes()
    )
    config = make_config(
        {"corpus.train": ["a.txt"], "corpus.valid": ["b.txt"], "tokenizer.path": "tokens.json", "tokenizer.kind": "bpe",
         "data.directory": str(folder.parent / "there")}
    )  # fmt: skip
    (folder / "b.txt").write_text("a text to validate with")
    expected = prepare_in_process(config)
    counts = count_tokens(config)
    for name in ("b.txt", "tokens.json", "a.txt"):
        (folder / name).unlink()
        told: list[str] = []
        assert prepare_in_process(config, say=told.append).fingerprint == expected.fingerprint
        assert "there is used as it was prepared, because its text cannot be checked: corpus." in told[-1]
        assert count_tokens(config).tokens == counts.tokens
    assert verify_texts(expected).gone == 2
    other = configuration.with_values(config, {"corpus.normalize": "NFC"})
    with pytest.raises(OtherCorpusError, match=r"corpus\.normalize was None, is 'NFC'"):
        prepare_in_process(other)
    write_text(folder, EDITED)  # a change of a text that is there is still seen
    with pytest.raises(OtherCorpusError, match=r"\(a\.txt has changed since\)"):
        prepare_in_process(config)


def test_a_finished_run_outlives_its_text(make_config: MakeConfig, folder: Path) -> None:
    config = config_of(make_config, write_text(folder, LINES), **{"train.max_steps": 3})
    result = launch.train(config, launch.in_process)
    (folder / "a.txt").unlink()
    told: list[str] = []
    assert launch.train(config, launch.in_process, say=told.append) == result
    assert "its text cannot be checked" in told[0]
    assert "holds this run, finished" in told[1]


def test_machines_with_other_times_are_all_remembered(
    make_config: MakeConfig, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extracts, "COARSE_NANOSECONDS", 0)
    config = config_of(make_config, write_text(folder, LINES))
    prepare_in_process(config)
    found = reuse.split_corpus
    read: list[str] = []
    monkeypatch.setattr(Extract, "is_same", lambda extract, reader: read.append(extract.name) or True)
    for machine in (1, 2, 0, 1, 2):

        def there(settings: Any, machine: int = machine) -> Any:
            splits = found(settings)
            for slices in splits.values():
                for item in slices:
                    object.__setattr__(item.reader, "changed", item.reader.changed + machine)
            return splits

        with monkeypatch.context() as patch:
            patch.setattr(reuse, "split_corpus", there)
            prepare_in_process(config)
    num_shards = len(list((folder.parent / "data").glob("*.arrow")))
    assert len(read) == 2 * num_shards  # once on each of the two other machines


def test_digests_do_not_depend_on_blocks(
    make_config: MakeConfig, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for form in ("text", "compressed", "Parquet"):
        write, changes = FORMS[form]
        found = []
        for block_bytes in (100, 1 << 22):
            monkeypatch.setattr(text_reader, "BLOCK_BYTES", block_bytes)
            directory = folder.parent / f"{form}-{block_bytes}"
            config = config_of(make_config, write(folder, LINES), **changes, **{"data.directory": str(directory)})
            prepare_in_process(config)
            names = [path.name.removesuffix(extracts.SUFFIX) for path in sorted(directory.glob("*.sources"))]
            parts = reuse.extracts_of(str(directory), dict.fromkeys(names), [])
            found.append([extract._replace(changed=0) for extract in parts])
        assert found[0] == found[1]


def test_damage_to_the_digests_of_texts_is_named_or_without_effect(make_config: MakeConfig, folder: Path) -> None:
    config = config_of(make_config, write_text(folder, LINES))
    corpus = prepare_in_process(config)
    directory = folder.parent / "data"
    source = random.Random(1)
    for path in [directory / reuse.STATE, sorted(directory.glob("*.sources"))[1]]:
        intact = path.read_bytes()
        for _ in range(60):
            damaged = bytearray(intact)
            damaged[source.randrange(len(damaged))] ^= 1 << source.randrange(8)
            path.write_bytes(damaged)
            refused = ""
            try:
                found = prepare_in_process(config)
                assert verify_texts(found).same == 1
            except UserError as error:
                refused = str(error)
            else:
                assert found.fingerprint == corpus.fingerprint
            assert not refused or (f"{path}: altered since it was written" in refused and path.name != reuse.STATE)
        path.write_bytes(intact)
    (directory / MANIFEST).unlink()
    (directory / "train-00001.sources").write_bytes(b"{")  # it is made again, as a damaged shard is
    expected = {path.name: path.read_bytes() for path in directory.glob("*.arrow")}
    assert prepare_in_process(config).fingerprint == corpus.fingerprint
    assert {path.name: path.read_bytes() for path in directory.glob("*.arrow")} == expected
    verify_texts(corpus)

"""A text that changed since its corpus was prepared is named and refused, whatever its size and time say."""

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline import config as configuration
from pipeline.data import extracts
from pipeline.data.counting import count_tokens
from pipeline.data.directory import OtherCorpusError
from pipeline.data.prepare import in_process, prepare, prepare_in_process
from pipeline.data.shards import MANIFEST
from pipeline.data.verify import verify_texts
from pipeline.errors import UserError
from tests.data.changing import (
    EDITED,
    FORMS,
    LINE_BY_LINE,
    LINES,
    MakeConfig,
    config_of,
    files_of,
    folder,
    interrupted,
    write_files,
    write_text,
)

__all__ = ["folder"]


@pytest.mark.parametrize("form", FORMS)
def test_an_edited_text_of_the_same_size_is_refused(make_config: MakeConfig, folder: Path, form: str) -> None:
    write, changes = FORMS[form]
    config = config_of(make_config, write(folder, LINES), **changes)
    whole = configuration.with_values(config, {"data.directory": str(folder.parent / "whole")})
    corpus = prepare_in_process(whole)
    assert verify_texts(corpus).gone == 0
    sizes = {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    num_shards = sum(len(split.entries) for split in corpus.splits.values())
    interrupted(config, after=num_shards - 1)
    write(folder, EDITED)
    assert {path: path.stat().st_size for path in sizes} == sizes
    for each in (whole, config):
        with pytest.raises(OtherCorpusError, match=r"^data\.directory: .* changed since\); remove it or") as error:
            prepare_in_process(each)
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"every byte is as it was written, but .* has changed since"):
        verify_texts(corpus)
    write(folder, LINES)  # the earlier text, with another time
    told: list[str] = []
    assert prepare_in_process(config, say=told.append).fingerprint == corpus.fingerprint
    assert [sentence.partition(" ")[0] for sentence in told] == ["reading"]
    assert prepare_in_process(whole).fingerprint == corpus.fingerprint


@pytest.mark.parametrize(
    ("changes", "edited", "fresh"),
    [
        ({"corpus.deduplicate": True}, "2.txt", b"text 1 again"),  # no longer equal to another
        ({"corpus.encoding_errors": "skip"}, "3.txt", b"caf\xc3\xa9..."),  # what was wrong with it is mended
        ({"corpus.train": ["a.txt", "."], "corpus.weights": [0.5, 1]}, "a.txt", b"line\n" * 300 + b"else\n" * 100),
    ],
    ids=["a duplicate", "not UTF-8", "a weight"],
)
def test_an_edit_of_what_is_in_no_shard_is_refused(
    make_config: MakeConfig, folder: Path, changes: dict[str, Any], edited: str, fresh: bytes
) -> None:
    texts = {"1.txt": b"text 1 is it", "2.txt": b"text 1 is it", "3.txt": b"caf\xe9....", "a.txt": b"line\n" * 400}
    texts["3.txt"] = texts["3.txt"] if "corpus.encoding_errors" in changes else b"cafe...."
    for name, text in texts.items():
        Path(name).write_bytes(text)
    config = config_of(make_config, ".", **{"corpus.valid_fraction": 0, **changes})
    corpus = prepare_in_process(config)
    assert verify_texts(corpus).same == 4
    Path(edited).write_bytes(fresh)
    assert len(fresh) == len(texts[edited])
    with pytest.raises(OtherCorpusError, match=rf"\({edited} has changed since\); remove it or"):
        prepare_in_process(config)
    with pytest.raises(UserError, match=r"every byte is as it was written, but .* has changed since"):
        verify_texts(corpus)
    Path(edited).write_bytes(texts[edited])
    assert prepare_in_process(config).fingerprint == corpus.fingerprint
    # another preparation there, after one that was not finished, replaces its record
    (folder.parent / "data" / MANIFEST).unlink()
    Path(edited).write_bytes(fresh)
    assert verify_texts(prepare_in_process(config)).same == 4


def test_an_edit_is_found_although_the_time_was_set_back(make_config: MakeConfig, folder: Path) -> None:
    config = config_of(make_config, write_text(folder, LINES))
    prepare_in_process(config)
    times = (folder / "a.txt").stat()
    write_text(folder, EDITED)
    os.utime(folder / "a.txt", ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(OtherCorpusError, match=r"\(a\.txt has changed since\)"):
        prepare_in_process(config)


def test_texts_are_read_again_in_many_tasks(
    make_config: MakeConfig, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extracts, "COMPARED_BYTES", 1000)
    config = config_of(make_config, write_files(folder, LINES))
    prepare_in_process(config)
    (folder / "150.txt").write_text("\n".join(EDITED[150:160]))
    asked: list[int] = []

    def map_tasks(tasks: Sequence[Any]) -> Iterator[dict[str, Any]]:
        asked.append(len(tasks))
        return in_process(tasks)

    with pytest.raises(OtherCorpusError, match=r"\(150\.txt has changed since\)"):
        prepare(config, map_tasks=map_tasks, on_shard=lambda entry, total: None)
    assert len(asked) == 1
    assert asked[0] > 3


def test_the_refusal_names_the_text_that_is_new_grown_or_gone(make_config: MakeConfig, folder: Path) -> None:
    config = config_of(make_config, write_files(folder, LINES))
    prepare_in_process(config)
    (folder / "999.txt").write_text("new")
    with pytest.raises(OtherCorpusError, match=r"\(the texts are not the same any more: 999\.txt is new\); remove"):
        prepare_in_process(config)
    (folder / "999.txt").unlink()
    content = (folder / "050.txt").read_text()
    (folder / "050.txt").write_text("grown" + content)
    size = len(content)
    with pytest.raises(OtherCorpusError, match=rf"any more: 050\.txt had {size} bytes and has {size + 5}\); remove"):
        prepare_in_process(config)
    (folder / "050.txt").unlink()
    with pytest.raises(OtherCorpusError, match=r"any more: 050\.txt is gone\); remove"):
        prepare_in_process(config)


def test_a_dry_run_does_not_count_an_old_text(make_config: MakeConfig, folder: Path) -> None:
    config = config_of(make_config, write_text(folder, LINES), **{"tokenizer.kind": "word"})
    prepare_in_process(config)
    before = files_of(folder.parent / "data")
    counts = count_tokens(config)
    write_text(folder, [line.replace(" of a ", "xofxax") for line in LINES])
    assert count_tokens(config).tokens["train"] < counts.tokens["train"]
    assert files_of(folder.parent / "data") == before


@pytest.mark.parametrize("what", ["time", "text"])
def test_a_text_that_is_written_while_it_is_prepared(make_config: MakeConfig, folder: Path, what: str) -> None:
    config = config_of(make_config, write_text(folder, LINES), **{"corpus.deduplicate": True, **LINE_BY_LINE})
    whole = configuration.with_values(config, {"data.directory": str(folder.parent / "whole")})
    expected = prepare_in_process(whole).fingerprint
    done: list[str] = []

    def on_shard(entry: dict[str, Any], total: int) -> None:
        done.append(entry["name"])
        if len(done) == 3:
            write_text(folder, LINES if what == "time" else EDITED)

    told: list[str] = []
    if what == "time":
        corpus = prepare_in_process(config, on_shard=on_shard, say=told.append)
        assert corpus.fingerprint == expected
        assert "a.txt was written while it was prepared" in told[0]
        assert len(done) == len(set(done))
        return
    with pytest.raises(OtherCorpusError, match=r"\(a\.txt has changed since\)"):
        prepare_in_process(config, on_shard=on_shard, say=told.append)
    assert not (folder.parent / "data" / MANIFEST).exists()
    write_text(folder, LINES)  # half of the shards come from one text, half from the other
    with pytest.raises(OtherCorpusError, match=r"\(a\.txt has changed since\); remove it"):
        prepare_in_process(config)
    shutil.rmtree(folder.parent / "data")
    assert prepare_in_process(config).fingerprint == expected


def test_a_text_that_is_rewritten_all_the_time_is_refused(make_config: MakeConfig, folder: Path) -> None:
    config = config_of(make_config, write_text(folder, LINES))

    def restless(tasks: Sequence[Any]) -> Iterator[dict[str, Any]]:
        yield from in_process(tasks)
        write_text(folder, LINES)

    with pytest.raises(UserError, match=r"^a\.txt is written again and again while it is prepared"):
        prepare(config, map_tasks=restless, on_shard=lambda entry, total: None)
    prepare_in_process(config)

"""One process at a time prepares a corpus, and a dead one blocks nobody."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline import files
from pipeline.config import Config
from pipeline.data import directory
from pipeline.data.prepare import prepare, prepare_in_process
from pipeline.errors import UserError
from pipeline.files import hold

MakeConfig = Callable[..., Config]


def test_a_second_preparation_is_refused(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config({"data.shard_tokens": 2048})
    refusals: list[str] = []

    def second(entry: dict[str, Any], total: int) -> None:
        before = sorted((tmp_path / "data").iterdir())
        with pytest.raises(UserError, match=r"^data\.directory: \S+/data is being prepared by another") as error:
            prepare_in_process(config)
        refusals.append(str(error.value))
        assert sorted((tmp_path / "data").iterdir()) == before

    corpus = prepare_in_process(config, on_shard=second)
    assert len(refusals) == sum(len(sequence.entries) for sequence in corpus.splits.values()) > 2
    assert not (tmp_path / "data" / directory.LOCK).exists()
    assert prepare_in_process(config).fingerprint == corpus.fingerprint


@pytest.mark.parametrize("pattern", [".", "../texts", "**", "**/*.json", "data/*.arrow", "*/*"])
def test_a_directory_among_the_texts_is_refused(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    (tmp_path / "texts" / "deep").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "texts")
    for name in ("a.txt", "b.json", "deep/c.txt"):
        Path(name).write_text('{"text": "a line of text"}\n' * 50)
    with pytest.raises(
        UserError, match=r"^data\.directory: what is written to data would be among the texts of corpus\."
    ):
        prepare_in_process(make_config({"corpus.train": ["a.txt", pattern], "data.directory": "data"}))
    assert not Path("data").exists()
    for apart in ("**/*.txt", "deep", "[ab].*"):
        values = {"corpus.train": [apart], "data.directory": "data"}
        assert (
            prepare_in_process(make_config(values)).fingerprint == prepare_in_process(make_config(values)).fingerprint
        )
        shutil.rmtree("data")
    hidden = {"corpus.train": ["."], "data.directory": ".data"}
    assert prepare_in_process(make_config(hidden)).fingerprint == prepare_in_process(make_config(hidden)).fingerprint


def test_what_another_process_prepares_is_kept(tmp_path: Path) -> None:
    """Both find no folder, this process makes it, and the other one locks it first."""
    corpus = tmp_path / "data"
    shard = corpus / "train-00000.arrow"

    def come_second() -> None:
        with directory.new_directory(str(corpus)):
            locks.append(hold(corpus / directory.LOCK))
            shard.touch()
            with directory.locked(str(corpus), print):
                shard.unlink()

    locks: list[int] = []
    with pytest.raises(directory.BeingPreparedError):
        come_second()
    os.close(*locks)
    assert shard.exists()


def test_a_killed_preparation_holds_no_lock(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config()
    (tmp_path / "data").mkdir()
    lock = tmp_path / "data" / directory.LOCK
    script = "import sys, time; from pathlib import Path; from pipeline.files import hold; "
    script += "hold(Path(sys.argv[1])); print(1, flush=True); time.sleep(99)"
    with subprocess.Popen([sys.executable, "-c", script, str(lock)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(UserError, match="is being prepared by another process"):
            prepare_in_process(config)
        process.send_signal(signal.SIGKILL)
        process.wait()
    prepare_in_process(config)
    assert not lock.exists()


def test_a_lock_file_that_is_removed_while_it_is_opened_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lock"
    waiting = [hold(path)]

    def flock(descriptor: int, operation: int) -> None:
        if waiting:  # the holder leaves after the file is opened and before it is locked
            path.unlink()
            os.close(waiting.pop())
        lock(descriptor, operation)

    lock = fcntl.flock
    monkeypatch.setattr(files.fcntl, "flock", flock)
    descriptor = hold(path)
    assert os.path.samestat(os.fstat(descriptor), path.stat())
    with pytest.raises(BlockingIOError):
        hold(path)
    os.close(descriptor)


def test_a_file_system_without_locks_is_reported(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(path: Path) -> int:
        raise OSError(38, os.strerror(38))

    monkeypatch.setattr(directory, "hold", no_locks)
    told: list[str] = []
    prepare_in_process(make_config(), say=told.append)
    assert len(told) == 1
    assert "cannot be locked (Function not implemented)" in told[0]


def test_an_interruption_before_the_first_shard_leaves_nothing(make_config: MakeConfig, tmp_path: Path) -> None:
    def stopped(tasks: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(make_config(), map_tasks=stopped, on_shard=lambda entry, total: None)
    assert list(tmp_path.iterdir()) == []

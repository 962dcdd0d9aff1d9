"""A file or a folder appears whole or not at all, and the former one under its name is not lost."""

import errno
import os
import shutil
import stat
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from pipeline import files
from pipeline.errors import UserError
from pipeline.files import UnwritableError, check_writable, new_file, new_folder, write_file


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A function after whose call nothing can be flushed to the disk, as on a full network disk."""

    def fill() -> None:
        def no_space(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", no_space)

    return fill


@pytest.mark.parametrize("former", [None, "what was there"])
def test_a_file_that_cannot_be_written_stays_as_it_was(
    tmp_path: Path, full_disk: Callable[[], None], former: str | None
) -> None:
    path = tmp_path / "texts.jsonl"
    if former is not None:
        write_file(path, former)
    full_disk()
    with pytest.raises(UnwritableError, match=r"^output: .*texts\.jsonl cannot be written: No space left on device$"):
        write_file(path, "new", argument="output")
    assert names_in(tmp_path) == ([] if former is None else ["texts.jsonl"])
    assert former is None or path.read_text() == former


def test_a_reader_sees_the_former_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "best.yaml"
    write_file(path, "old")
    with new_file(path) as temporary:
        temporary.write_text("half")
        assert path.read_text() == "old"
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert names_in(tmp_path) == ["best.yaml"]


def test_content_is_flushed_before_the_name_appears_and_the_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flush, flushed = os.fsync, []

    def note(descriptor: int) -> None:
        flushed.append((os.fstat(descriptor).st_ino, names_in(tmp_path)))
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    write_file(tmp_path / "file", "content")
    (of_file, before), (of_folder, after) = flushed
    assert (of_file, of_folder) == ((tmp_path / "file").stat().st_ino, tmp_path.stat().st_ino)
    assert "file" not in before
    assert after == ["file"]
    flushed.clear()
    with new_folder(tmp_path / "folder") as folder:
        (folder / "a").touch()
        (folder / "b").touch()
    *contents, (of_folder, after) = flushed
    assert {number for number, _ in contents} == {path.stat().st_ino for path in (tmp_path / "folder").iterdir()}
    assert not any("folder" in names for _, names in contents)
    assert (of_folder, after) == (tmp_path.stat().st_ino, ["file", "folder"])


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_write_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    def interrupted(writing: AbstractContextManager[Path], part: str) -> None:
        with writing as temporary:
            (temporary / part).write_text("half")
            raise error

    write_file(tmp_path / "a", "old")
    with pytest.raises(error):
        interrupted(new_file(tmp_path / "a"), "")
    with pytest.raises(error):
        interrupted(new_folder(tmp_path / "b"), "part")
    assert names_in(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_rights_are_those_of_the_umask_or_of_the_former_file(tmp_path: Path) -> None:
    def rights(path: Path) -> int:
        return stat.S_IMODE(path.stat().st_mode)

    former = os.umask(0o027)
    try:
        write_file(tmp_path / "new", "")
        write_file(tmp_path / "private", "")
        (tmp_path / "private").chmod(0o600)
        write_file(tmp_path / "private", "again")
        with new_folder(tmp_path / "folder") as folder:
            (folder / "weights").touch(mode=0o600)  # as safetensors creates its files
    finally:
        os.umask(former)
    assert [rights(tmp_path / name) for name in ("new", "private", "folder/weights")] == [0o640, 0o600, 0o640]


def test_links_devices_and_long_names(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    write_file(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"
    write_file("/dev/null", "gone")
    assert Path("/dev/null").is_char_device()
    name = "ü" * 127  # 254 of the 255 bytes that a name can have
    write_file(tmp_path / name, "long")
    assert names_in(tmp_path) == ["link", "real", name]


def test_a_folder_replaces_the_former_one_only_as_a_whole(tmp_path: Path, full_disk: Callable[[], None]) -> None:
    path = tmp_path / "float32"
    for content in ("first", "second"):
        with new_folder(path) as folder:
            (folder / content).write_text(content)
        assert names_in(tmp_path) == ["float32"]
        assert names_in(path) == [content]
    full_disk()
    with (
        pytest.raises(UserError, match=r"^output: .*float32 cannot be written: No space left"),
        new_folder(path, argument="output") as folder,
    ):
        (folder / "third").write_text("third")
    assert names_in(tmp_path) == ["float32"]
    assert names_in(path) == ["second"]


def test_a_folder_is_restored_if_its_writer_was_killed_between_two_renames(tmp_path: Path) -> None:
    (tmp_path / ".former-a").mkdir()
    (tmp_path / ".former-a" / "kept").touch()
    (tmp_path / ".writing-a").mkdir()
    with pytest.raises(UnwritableError), new_folder(tmp_path / "a"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert names_in(tmp_path) == ["a"]
    assert names_in(tmp_path / "a") == ["kept"]


def test_a_broken_pipe_is_not_reported_as_an_unwritable_file(tmp_path: Path) -> None:
    with pytest.raises(BrokenPipeError), files.new_file(tmp_path / "a"):
        raise BrokenPipeError


def test_an_unwritable_path_is_found_before_the_work(tmp_path: Path) -> None:
    write_file(tmp_path / "there", "old")
    for name in ("there", "new", "/dev/null"):
        check_writable(tmp_path / name, argument="output")
    assert names_in(tmp_path) == ["there"]
    assert (tmp_path / "there").read_text() == "old"
    for path, why in (
        (tmp_path, "Is a directory"),
        (tmp_path / "no" / "file", "No such file or directory"),
        (tmp_path / "there" / "file", "Not a directory"),
        (tmp_path / ("x" * 300), "File name too long"),
    ):
        with pytest.raises(UnwritableError, match=rf"^output: {path} cannot be written: {why}$"):
            check_writable(path, argument="output")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "a/file"),
        OSError("[Errno 28] No space left on device: 'a/file'"),
        OSError("[Errno 28] Error writing bytes to file. Detail: [errno 28] No space left on device"),
        OSError("Error while serializing: I/O error: No space left on device (os error 28)"),
        shutil.Error([("a", "b", "[Errno 28] No space left on device: 'b'"), ("c", "d", "…")]),
    ],
)
def test_the_reason_is_the_same_for_the_errors_of_all_libraries(error: OSError) -> None:
    assert files.reason(error) == "No space left on device"

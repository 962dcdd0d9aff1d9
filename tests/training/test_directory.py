"""Who may write to a run directory."""

import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.training.directory import LostOwnershipError, RunDirectory


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_second_run_is_refused_and_the_lock_ends_with_its_holder(tmp_path: Path) -> None:
    with RunDirectory(tmp_path / "run").locked() as held:
        held.config.write_text("x")
        with (
            pytest.raises(ValueError, match=r"run\.directory: .* is in use by another run"),
            RunDirectory(tmp_path / "run").locked(),
        ):
            pass
    with RunDirectory(tmp_path / "run").locked():
        pass


def test_nothing_is_left_of_a_run_that_never_started(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a mistake"), RunDirectory(tmp_path / "run").locked():
        raise ValueError("a mistake")
    assert not (tmp_path / "run").exists()


def test_workers_of_an_earlier_driver_may_not_write(tmp_path: Path) -> None:
    first, second = RunDirectory(tmp_path / "run"), RunDirectory(tmp_path / "run")
    with first.locked():
        first.config.write_text("x")
        first.check_owner()
    with second.locked():
        second.check_owner()
        with pytest.raises(LostOwnershipError):
            first.check_owner()


def test_setting_aside_takes_the_next_free_name(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    with directory.locked():
        for number in (1, 2):
            directory.config.write_text(f"{number}")
            aside = tmp_path / f"run.old-{number}"
            assert directory.set_aside() == aside
            assert [path.name for path in aside.iterdir()] == ["config.yaml"]
        assert directory.set_aside() is None
        (directory.path / "data" / "corpus").mkdir(parents=True)
        assert directory.set_aside(but=directory.path / "data" / "corpus") is None
        directory.check_owner()


def test_setting_aside_keeps_a_corpus_inside_that_is_named_by_another_path(tmp_path: Path) -> None:
    (tmp_path / "real" / "data").mkdir(parents=True)
    (tmp_path / "run").symlink_to(tmp_path / "real")
    directory = RunDirectory(tmp_path / "run")
    with directory.locked():
        directory.config.write_text("x")
        with pytest.raises(
            UserError, match=r"data\.directory: .*real is run\.directory itself, which starting over sets aside"
        ):
            directory.set_aside(but=tmp_path / "real")
        assert directory.set_aside(but=tmp_path / "real" / "data") == tmp_path / "run.old-1"
    assert names_in(tmp_path / "run.old-1") == ["config.yaml"]
    assert "data" in names_in(tmp_path / "run")


@pytest.fixture(params=["pretended", "real"])
def on_another_file_system(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A directory on a different file system from ``tmp_path``."""
    if request.param == "pretended":
        rename = os.rename
        other = tmp_path / "other"
        other.mkdir()

        def across(source: Path, target: Path) -> None:
            if Path(source).resolve().is_relative_to(other) != Path(target).parent.resolve().is_relative_to(other):
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
            rename(source, target)

        monkeypatch.setattr(os, "rename", across)
        yield other
        return
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK) or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system here that may be written to")
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


def test_setting_aside_on_another_file_system_stays_on_it(tmp_path: Path, on_another_file_system: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    directory.path.symlink_to(on_another_file_system)
    with directory.locked():
        for number in (1, 2):
            directory.checkpoints.mkdir()
            directory.config.write_text(f"{number}")
            aside = directory.path / f"old-{number}"
            assert directory.set_aside() == aside
            assert names_in(aside) == ["checkpoints", "config.yaml"]
            assert (aside / "config.yaml").read_text() == f"{number}"
        assert directory.set_aside() is None
    assert not (tmp_path / "run.old-1").exists()


def test_if_setting_aside_fails_everything_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = RunDirectory(tmp_path / "run")
    with directory.locked():
        directory.config.write_text("kept")
        directory.checkpoints.mkdir()
        rename = os.rename

        def busy(source: Path, target: Path) -> None:
            if Path(source) == directory.checkpoints:  # as if something were mounted there
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
            rename(source, target)

        monkeypatch.setattr(os, "rename", busy)
        with pytest.raises(UserError, match=r"run\.directory: what .*run holds cannot be set aside as .*resource busy"):
            directory.set_aside()
        assert names_in(directory.path) == ["checkpoints", "config.yaml", "lock", "owner"]
    assert names_in(tmp_path) == ["run"]


def test_a_run_whose_owner_file_was_changed_or_removed_is_lost(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    with directory.locked():
        (directory.path / "owner").write_bytes(b"\xff")
        with pytest.raises(LostOwnershipError, match="another process has taken over"):
            directory.check_owner()
        (directory.path / "owner").unlink()
        with pytest.raises(LostOwnershipError, match=r"run no longer exists, or .*owner does not"):
            directory.check_owner()

"""Who may write to a run directory."""

from pathlib import Path

import pytest

from pipeline.training.directory import LostOwnershipError, RunDirectory


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

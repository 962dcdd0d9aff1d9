"""A run whose settings change keeps the teacher that it began with."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline import launch, run
from pipeline.config import Config
from tests.training.test_resume import assert_bitwise_equal, end_state

SMALL = {"model.num_layers": 1, "train.max_steps": 20, "run.sample_tokens": 0}


def test_a_teacher_goes_on_when_settings_change_whatever_its_path_means_by_then(
    make_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = tmp_path / "teacher"
    launch.train(make_config({**SMALL, "run.directory": str(teacher)}), launch.in_process)
    shutil.copytree(teacher, tmp_path / "movable")
    student = {**SMALL, "train.changes": [{"tokens": 600, "settings": {"optimizer.lr": 0.005}}]}
    still = make_config({**student, "train.teacher": str(teacher)})
    launch.train(still, launch.in_process)
    changed = run.changed

    def moving(*arguments: Any, **named: Any) -> Any:
        (tmp_path / "movable").rename(tmp_path / "moved")
        return changed(*arguments, **named)

    monkeypatch.setattr(run, "changed", moving)
    values = {"train.teacher": str(tmp_path / "movable"), "run.directory": str(tmp_path / "other")}
    other = make_config({**student, **values})
    launch.train(other, launch.in_process)
    assert (tmp_path / "moved").exists()
    assert_bitwise_equal(end_state(still), end_state(other))

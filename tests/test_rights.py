"""Every written file and folder has the rights that the umask gives, so a group on shared storage can read it."""

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobs import compress, evaluate, export, generate, gradients
from pipeline import launch
from pipeline.config import Config


@pytest.fixture
def for_the_group() -> Iterator[None]:
    """Set a umask as for storage that a group shares: all rights for owner and group, none for others."""
    former = os.umask(0o007)
    yield
    os.umask(former)


@pytest.mark.usefixtures("for_the_group")
def test_all_that_is_written_has_the_rights_of_the_umask(
    make_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "NUM_TEXTS", 10)
    config = make_config({"train.max_steps": 4, "run.sample_tokens": 2, "train.profile_steps": 1})
    launch.train(config, launch.in_process)
    run = str(config.run.directory)
    compress.main(["--run", run, "--tokens", "2", "--prune", "0.5"])
    export.main(["--run", run, "--to", str(tmp_path / "exported"), "--format", "hf"])
    generate.main(["--run", run, "--tokens", "2", "--output", str(tmp_path / "texts.jsonl")])
    evaluate.main(["--run", run, "--surprisal", str(tmp_path / "surprisal.parquet")])
    gradients.main(["--run", run, "--length", "2", "--figure", str(tmp_path / "flow.png"), "--tensorboard"])
    written = sorted(tmp_path.rglob("*"))
    assert {"weights.safetensors", "state.pt", "lock", "owner", "metrics.jsonl", "flow.png", "train-00000.arrow"} <= {
        path.name for path in written
    }
    wrong = {
        str(path.relative_to(tmp_path)): oct(mode)
        for path in written
        if (mode := stat.S_IMODE(path.stat().st_mode)) != (0o770 if path.is_dir() else 0o660)
    }
    assert wrong == {}

"""Several seeds on Ray train side by side, each just as it does alone."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs import train
from jobs.shared.cli import run_job
from pipeline import config as configuration
from pipeline import launch
from pipeline.cluster.train import OnRay
from pipeline.config import Config
from pipeline.paths import of_seed
from tests.test_repeats import SHORT
from tests.training.test_resume import assert_bitwise_equal, curve, end_state


@pytest.mark.ray
def test_two_seeds_side_by_side(
    make_config: Callable[..., Config], tmp_path: Path, ray_cluster: None, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    several = {"cluster.backend": "ray", "cluster.num_workers": 1, "run.directory": str(tmp_path / "several")}
    config = make_config({**SHORT, **several})
    (tmp_path / "mine.yaml").write_text(configuration.to_yaml(config))
    both_there, train_one = threading.Barrier(2), OnRay.train

    def train_beside_the_other(self: OnRay, *arguments: Any, **how: Any) -> str:
        both_there.wait(timeout=60)
        return train_one(self, *arguments, **how)

    monkeypatch.setattr(OnRay, "train", train_beside_the_other)
    run_job(train.main, ["--config", str(tmp_path / "mine.yaml"), "--seeds", "2"])
    assert "95 % CI" in capsys.readouterr().out
    for seed in (1, 2):
        ours = of_seed(config, seed)
        own = {"cluster.backend": "local", "run.directory": str(tmp_path / f"alone-{seed}")}
        alone = configuration.with_values(ours, own)
        launch.train(alone, launch.in_process)
        assert curve(ours) == curve(alone)
        assert_bitwise_equal(end_state(ours), end_state(alone))

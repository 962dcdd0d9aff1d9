"""Ray Train runs the very same loop: with one worker bitwise the local run, with two the same run up to rounding."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray
import torch

from pipeline import config as configuration
from pipeline import launch
from pipeline.cluster.room import check_capacity
from pipeline.cluster.train import on_ray
from pipeline.config import Config
from pipeline.errors import Notice
from pipeline.training import checkpoint
from pipeline.training.monitor import Record, read

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def curve(config: Config) -> list[float]:
    return [r["loss"] for r in read(Path(str(config.run.directory)) / "metrics.jsonl") if r["kind"] == "train"]


def test_one_ray_worker_is_bitwise_the_local_run(make_config: Callable[..., Config], tmp_path: Path) -> None:
    local = make_config({"model.dropout": 0.2, "train.max_steps": 40})
    on_cluster = configuration.with_values(
        local,
        {
            "cluster.backend": "ray",
            "run.directory": str(tmp_path / "ray"),
            "data.directory": str(tmp_path / "ray-data"),
        },
    )
    records: list[Record] = []
    result = launch.train(on_cluster, on_ray, on_record=records.append)
    expected = launch.train(local, launch.in_process)
    assert (tmp_path / "ray-data" / "manifest.json").read_bytes() == (tmp_path / "data" / "manifest.json").read_bytes()
    assert curve(on_cluster) == curve(local)
    assert result["perplexity"] == expected["perplexity"]
    ours, theirs = (checkpoint.load_model(found["checkpoint"]).model for found in (result, expected))
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    # the driver saw every record that rank 0 wrote
    assert [r["kind"] for r in records] == [r["kind"] for r in read(tmp_path / "ray" / "metrics.jsonl")]


def test_two_ray_workers_go_on_where_one_stopped(make_config: Callable[..., Config]) -> None:
    config = make_config({"train.precision": "float64", "train.max_steps": 60, "train.checkpoint_every_steps": 20})
    half = configuration.with_values(config, {"train.max_steps": 30, "optimizer.schedule": "constant"})
    whole = configuration.with_values(half, {"train.max_steps": 60})
    launch.train(half, launch.in_process)
    two = configuration.with_values(whole, {"cluster.backend": "ray", "cluster.num_workers": 2})
    result = launch.train(two, on_ray)
    assert result["steps"] == 60
    one = configuration.with_values(whole, {"run.directory": f"{config.run.directory}-one"})
    launch.train(one, launch.in_process)
    assert curve(two) == pytest.approx(curve(one), rel=1e-10)


def test_a_mistake_that_a_rank_finds_is_raised_with_its_sentence(make_config: Callable[..., Config]) -> None:
    config = make_config({"cluster.backend": "ray", "corpus.train": [__file__ + ".missing"]})
    with pytest.raises(ValueError, match=r"no file matches .*\.missing"):
        launch.train(config, on_ray)


def test_more_workers_than_the_cluster_can_hold() -> None:
    with pytest.raises(ValueError, match="3 workers of 1 CPU each were asked for, but the cluster has room for 2"):
        check_capacity(3, {"CPU": 1})
    with pytest.raises(ValueError, match="the cluster has no GPU"):
        check_capacity(1, {"CPU": 1, "GPU": 1})
    check_capacity(2, {"CPU": 1})


def test_workers_that_other_work_keeps_waiting_are_reported_at_the_start(holder: Any) -> None:
    sentence = r"^cluster\.num_workers: 2 workers of 1 CPU each wait for room on the cluster \(free: 1 of 2 CPUs\)$"
    with pytest.warns(Notice, match=sentence):
        check_capacity(2, {"CPU": 1})
    check_capacity(1, {"CPU": 1})
    ray.kill(holder)
    check_capacity(2, {"CPU": 1})  # it waits for CPUs that were just given back


@pytest.mark.slow  # Ray Train looks for room for a minute
def test_workers_that_find_no_room_are_reported(make_config: Callable[..., Config], holder: Any) -> None:
    config = make_config({"cluster.backend": "ray", "cluster.num_workers": 2, "train.max_steps": 3})
    launch.train(configuration.with_values(config, {"train.max_steps": 1}), launch.in_process)
    told: list[str] = []

    def listen(record: Record) -> None:
        if record["kind"] == "warning":
            told.append(record["text"])
            ray.kill(holder)

    with pytest.warns(Notice, match="wait for room"):
        result = launch.train(config, on_ray, on_record=listen)
    assert result["steps"] == 3
    assert told == [
        "2 workers of 1 CPU each wait for room on the cluster (free: 1 of 2 CPUs); the last checkpoint is of step 1"
    ]


def test_relative_paths_mean_the_driver_s_folder(
    make_config: Callable[..., Config], tmp_path: Path, tiny_text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.txt").write_bytes(tiny_text.read_bytes())
    config = make_config({"corpus.train": ["here.txt"], "data.directory": "shards", "cluster.backend": "ray"})
    with on_ray(config) as ranks:
        corpus = ranks.prepare(config, on_shard=lambda entry, total: None, say=print)
    assert corpus.splits["train"].num_bytes + corpus.splits["valid"].num_bytes == tiny_text.stat().st_size
    assert (tmp_path / "shards" / "manifest.json").exists()

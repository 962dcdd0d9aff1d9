"""A run on a Ray cluster of several nodes, each of one CPU, that are killed, come back, or are about to go."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ray.cluster_utils import Cluster

from pipeline import config as configuration
from pipeline import launch
from pipeline.config import Config
from pipeline.training import checkpoint
from pipeline.training.monitor import Record, read

pytestmark = [pytest.mark.ray, pytest.mark.slow]
PATIENCE_SECONDS = 300


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A head without CPUs; this process does not join it."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    quiet = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": 100 << 20}
    cluster = Cluster(initialize_head=True, head_node_args=quiet)
    yield cluster
    cluster.shutdown()


def add_node(cluster: Cluster) -> Any:
    return cluster.add_node(num_cpus=1, object_store_memory=100 << 20)


class Command:
    """``jobs.train`` in a process of its own, and what it has written."""

    def __init__(self, config: Config, folder: Path) -> None:
        file = folder / "config.yaml"
        file.write_text(configuration.to_yaml(config), encoding="utf-8")
        self.metrics = Path(str(config.run.directory)) / "metrics.jsonl"
        self.log = folder / "log.txt"
        command = [sys.executable, "-m", "jobs.train", "--config", str(file)]
        with self.log.open("w") as log:
            root = Path(__file__).parents[2]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=root, env=dict(os.environ))

    def wait_for(self, what: Callable[[Record], bool]) -> Record:
        """The first record like that, waited for while the command runs."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            ended = self.process.poll() is not None
            for record in read(self.metrics):
                if what(record):
                    return record
            assert not ended, self.log.read_text()
            time.sleep(0.1)
        raise AssertionError(f"waited in vain; the log:\n{self.log.read_text()}")

    def finish(self) -> str:
        """Wait for its end; returns its log."""
        code = self.process.wait(timeout=PATIENCE_SECONDS)
        assert code == 0, self.log.read_text()
        return self.log.read_text()


@pytest.fixture
def two_worker_config(make_config: Callable[..., Config], nodes: Cluster) -> Config:
    """About half a minute of training in float64 on the cluster."""
    return make_config(
        {
            "model.hidden_size": 96,
            "train.bptt": 20,
            "train.epochs": 20,
            "train.max_steps": 1500,
            "train.precision": "float64",
            "train.checkpoint_every_steps": 50,
            "train.evaluate_every_steps": 1000,
            "optimizer.lr": 0.001,
            "cluster.backend": "ray",
            "cluster.address": nodes.address,
            "cluster.num_workers": 2,
        }
    )


def curve(config: Config) -> list[tuple[int, float]]:
    found = read(Path(str(config.run.directory)) / "metrics.jsonl")
    return [(record["step"], record["loss"]) for record in found if record["kind"] == "train"]


def assert_as_undisturbed(config: Config) -> None:
    """The record is that of one worker in one process which nothing happened to."""
    changes = {"cluster.backend": "local", "cluster.num_workers": 1, "cluster.min_workers": None}
    whole = configuration.with_values(config, {**changes, "run.directory": f"{config.run.directory}-whole"})
    launch.train(whole, launch.in_process)
    ours, theirs = curve(config), curve(whole)
    assert [step for step, _ in ours] == [step for step, _ in theirs]
    assert [loss for _, loss in ours[:40]] == pytest.approx([loss for _, loss in theirs[:40]], rel=1e-10)
    assert [loss for _, loss in ours] == pytest.approx([loss for _, loss in theirs], rel=1e-6)  # 1,500 steps drift


def test_a_killed_node_is_replaced_and_nothing_is_lost(
    nodes: Cluster, two_worker_config: Config, tmp_path: Path
) -> None:
    add_node(nodes)
    lost = add_node(nodes)
    command = Command(two_worker_config, tmp_path)
    command.wait_for(lambda record: record["kind"] == "train" and record["step"] >= 120)
    nodes.remove_node(lost, allow_graceful=False)
    killed = time.time()
    add_node(nodes)
    again = command.wait_for(lambda record: record["kind"] == "running" and record["time"] > killed)
    print(f"{again['time'] - killed:.1f} s from the kill of a node to the next step")
    log = command.finish()
    assert re.search(r"worker . (died|lost its connection to another worker); the last checkpoint is of step", log)
    assert again["step"] > 100
    assert_as_undisturbed(two_worker_config)


def test_workers_follow_the_nodes_that_are_there(nodes: Cluster, two_worker_config: Config, tmp_path: Path) -> None:
    config = configuration.with_values(two_worker_config, {"cluster.min_workers": 1, "train.max_steps": 4000})
    add_node(nodes)
    lost = add_node(nodes)
    command = Command(config, tmp_path)
    command.wait_for(lambda record: record["kind"] == "train" and record["step"] >= 120)
    nodes.remove_node(lost, allow_graceful=False)
    killed = time.time()
    alone = command.wait_for(lambda record: record["kind"] == "start" and record["num_workers"] == 1)
    add_node(nodes)
    back = time.time()
    both = command.wait_for(
        lambda record: record["kind"] == "start" and record["num_workers"] == 2 and record["time"] > back
    )
    print(f"{alone['time'] - killed:.1f} s to go on with one worker, {both['time'] - back:.1f} s to two again")
    command.finish()
    assert_as_undisturbed(config)


def test_a_node_about_to_be_taken_away_makes_the_run_save(
    nodes: Cluster, two_worker_config: Config, tmp_path: Path
) -> None:
    config = configuration.with_values(two_worker_config, {"train.checkpoint_every_steps": None})
    add_node(nodes)
    leaving = add_node(nodes)
    command = Command(config, tmp_path)
    command.wait_for(lambda record: record["kind"] == "train" and record["step"] >= 60)
    drain = ["drain-node", "--address", nodes.address, "--node-id", leaving.node_id, "--reason"]
    reason = ["DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot", "--deadline-remaining-seconds", "20"]
    ray = str(Path(sys.executable).with_name("ray"))
    subprocess.run([ray, *drain, *reason], check=True, timeout=60)
    notice = command.wait_for(lambda record: record["kind"] == "warning")
    assert "about to be taken away" in notice["text"]
    deadline = time.monotonic() + 20
    saved: list[int] = []
    while notice["step"] not in saved and time.monotonic() < deadline:
        saved = [manifest["step"] for _, manifest in checkpoint.manifests(str(config.run.directory))]
        time.sleep(0.2)
    assert notice["step"] in saved
    add_node(nodes)
    command.finish()
    assert_as_undisturbed(config)

"""A run on a Ray cluster of several nodes, each of one CPU, that are killed, come back, or are about to go."""

import itertools
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from ray.cluster_utils import Cluster

from pipeline import config as configuration
from pipeline import resources, run
from pipeline.config import Config
from pipeline.training import checkpoint
from pipeline.training.monitor import read
from tests.cluster.job_process import Command

pytestmark = pytest.mark.ray


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A head without CPUs; this process does not join it."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    # by default Ray checks five times, three seconds apart, before a node counts as dead: most of a recovery's time
    monkeypatch.setenv("RAY_health_check_period_ms", "500")
    monkeypatch.setenv("RAY_health_check_failure_threshold", "3")
    quiet = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": 100 << 20}
    cluster = Cluster(initialize_head=True, head_node_args=quiet)
    yield cluster
    cluster.shutdown()


def add_node(cluster: Cluster) -> Any:
    return cluster.add_node(num_cpus=1, object_store_memory=100 << 20)


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


def undisturbed(config: Config) -> Config:
    """Train ``config`` with one worker in this process, up to the last checkpoint of its run; return its settings."""
    changes = {"cluster.backend": "local", "cluster.num_workers": 1, "cluster.min_workers": None}
    whole = configuration.with_values(config, {**changes, "run.directory": f"{config.run.directory}-whole"})
    steps = itertools.count(1)
    last = checkpoint.manifests(str(config.run.directory))[-1][1]["step"]
    run.train(whole, resources.local_worker(whole), stop_requested=lambda: next(steps) == last)
    return whole


def assert_as_undisturbed(config: Config) -> None:
    """As far as it goes, the run's record equals that of an undisturbed run with one worker in one process."""
    ours, theirs = curve(config), curve(undisturbed(config))
    assert [step for step, _ in ours] == [step for step, _ in theirs]
    assert [loss for _, loss in ours[:40]] == pytest.approx([loss for _, loss in theirs[:40]], rel=1e-10)
    assert [loss for _, loss in ours] == pytest.approx(
        [loss for _, loss in theirs], rel=1e-6
    )  # 1,500 steps drift apart


@pytest.mark.slow
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


@pytest.mark.slow
def test_workers_follow_the_nodes_that_are_there(nodes: Cluster, two_worker_config: Config, tmp_path: Path) -> None:
    # far longer than Ray takes to look for nodes that have come back
    longer = {"cluster.min_workers": 1, "train.epochs": 500, "train.max_steps": None}
    config = configuration.with_values(two_worker_config, longer)
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
    command.wait_for(lambda record: record["kind"] == "train" and record["step"] >= both["step"] + 100)
    command.interrupt()
    assert_as_undisturbed(config)


@pytest.mark.slow
def test_a_node_about_to_be_taken_away_makes_the_run_save(
    nodes: Cluster, two_worker_config: Config, tmp_path: Path
) -> None:
    config = configuration.with_values(two_worker_config, {"train.checkpoint_every_steps": None})
    add_node(nodes)
    leaving = add_node(nodes)
    command = Command(config, tmp_path)
    command.wait_for(lambda record: record["kind"] == "train" and record["step"] >= 60)
    assert_saved_at_notice(command, nodes, leaving)
    add_node(nodes)
    command.finish()
    assert_as_undisturbed(config)


@pytest.mark.slow
def test_a_node_about_to_be_taken_away_makes_a_trial_save(
    nodes: Cluster, two_worker_config: Config, tmp_path: Path
) -> None:
    values = {
        "train.checkpoint_every_steps": None,
        "cluster.num_workers": 1,
        "search.space": {"optimizer.lr": [0.001]},
        "search.num_trials": 1,
        "search.scheduler": "none",
    }
    leaving = add_node(nodes)
    config = configuration.with_values(two_worker_config, values)
    command = Command(config, tmp_path, job="search", run="trials/001-lr=0.001")
    command.wait_for(lambda record: record["kind"] == "train" and record["step"] >= 60)
    assert_saved_at_notice(command, nodes, leaving)
    add_node(nodes)
    command.finish()


def assert_saved_at_notice(command: Command, nodes: Cluster, leaving: Any) -> None:
    """Tell Ray that a node is about to be taken away, and wait until the run on it has saved."""
    drain = ["drain-node", "--address", nodes.address, "--node-id", leaving.node_id, "--reason"]
    reason = ["DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot", "--deadline-remaining-seconds", "20"]
    ray = str(Path(sys.executable).with_name("ray"))
    subprocess.run([ray, *drain, *reason], check=True, timeout=60)
    notice = command.wait_for(lambda record: record["kind"] == "warning" and "about to be taken away" in record["text"])
    deadline = time.monotonic() + 20
    saved: list[int] = []
    while notice["step"] not in saved and time.monotonic() < deadline:
        saved = [manifest["step"] for _, manifest in checkpoint.manifests(str(command.run))]
        time.sleep(0.2)
    assert notice["step"] in saved


def workers_on(node: Any) -> list[int]:
    """The process ids of a node's training workers."""
    raylet = node.all_processes["raylet"][0].process.pid
    listed = subprocess.run(["ps", "-eo", "pid,ppid,args"], check=True, capture_output=True, text=True).stdout
    fields = [line.split(None, 2) for line in listed.splitlines()[1:]]
    return [int(pid) for pid, parent, name in fields if int(parent) == raylet and "RayTrainWorker" in name]


def train_through(config: Config, nodes: Cluster, faults: list[tuple[str, int]], folder: Path) -> tuple[Command, str]:
    """Train with one node per worker, killing a ``worker``, a ``node`` or the ``driver`` at each step of ``faults``.

    Returns the command, which is still running after the last fault, and the logs of those before it.
    """
    chosen, logs = random.Random(6), ""
    there = [add_node(nodes) for _ in range(int(config.cluster.num_workers))]
    command = Command(config, folder)
    since = 0.0
    for kind, step in faults:
        command.wait_for(lambda record: record["kind"] == "running" and record["time"] > since)  # noqa: B023
        command.wait_for(lambda record: record["kind"] == "train" and record["step"] >= step)  # noqa: B023
        struck = chosen.choice(there)
        since = time.time()
        if kind == "worker":
            for pid in workers_on(struck):
                os.kill(pid, signal.SIGKILL)
        elif kind == "node":
            there.remove(struck)
            nodes.remove_node(struck, allow_graceful=False)
            there.append(add_node(nodes))
        else:
            command.process.kill()
            command.process.wait()
            logs += command.log.read_text()
            command = Command(config, folder)
    return command, logs


def last_weights(config: Config) -> dict[str, torch.Tensor]:
    path = checkpoint.find(str(config.run.directory), "last")
    return dict(checkpoint.load_model(path).model.state_dict())


def assert_same_end(ours: Config, theirs: Config) -> None:
    """Two runs have the same record and, bit for bit, the same weights."""
    assert curve(ours) == curve(theirs)
    expected = last_weights(theirs)
    for name, weight in last_weights(ours).items():
        assert torch.equal(weight, expected[name]), name


def test_a_worker_a_node_and_the_driver_are_killed(
    make_config: Callable[..., Config], nodes: Cluster, tmp_path: Path
) -> None:
    config = make_config(
        {
            "model.hidden_size": 24,
            "model.dropout": 0.1,
            "train.epochs": 1000,  # far longer than the whole test takes
            "train.checkpoint_every_steps": 40,
            "cluster.backend": "ray",
            "cluster.address": nodes.address,
            "cluster.num_workers": 1,
        }
    )
    command, log = train_through(config, nodes, [("worker", 100), ("node", 250), ("driver", 400)], tmp_path)
    command.wait_for(lambda record: record["kind"] == "running" and record["time"] > command.began)
    log += command.interrupt()
    assert log.count("; the last checkpoint is of step") == 2, log
    assert_same_end(config, undisturbed(config))


@pytest.mark.slow
def test_twenty_kills_at_random_points(two_worker_config: Config, nodes: Cluster, tmp_path: Path) -> None:
    changes = {"train.precision": "float32", "model.dropout": 0.1, "cluster.max_failures": 100}
    config = configuration.with_values(two_worker_config, changes)
    chosen = random.Random(20)
    steps = sorted(chosen.sample(range(1, 1450), 20))
    faults = [(chosen.choice(["worker", "worker", "node", "driver"]), step) for step in steps]
    assert {kind for kind, _ in faults} == {"worker", "node", "driver"}
    started = time.time()
    train_through(config, nodes, faults, tmp_path)[0].finish()
    print(f"{time.time() - started:.0f} s for a run with {faults}")
    whole = configuration.with_values(config, {"run.directory": str(tmp_path / "whole")})
    Command(whole, tmp_path).finish()
    assert_same_end(config, whole)

"""Searches whose trials have several workers each: they pause and continue, and a lost node does not stop a search."""

import csv
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray._private.state import available_resources_per_node

from pipeline import config as configuration
from pipeline import resources, run
from pipeline.cluster.search import search
from pipeline.config import Config
from pipeline.search.journal import read_journal
from pipeline.search.standing import Standing
from pipeline.training.monitor import read

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SEARCH = {
    "cluster.backend": "ray", "cluster.device": "cpu", "cluster.num_workers": 2, "cluster.cpus_per_worker": 1,
    "search.space": {"optimizer.lr": {"uniform": [0.005, 0.02]}}, "search.num_trials": 3, "search.reduction_factor": 2,
    "search.grace_tokens": 1200, "search.max_tokens": 4800, "train.evaluate_every_steps": 1000, "model.num_layers": 1,
}  # fmt: skip


def check_ended_well(config: Config, *, num_done: int) -> None:
    """``num_done`` of three trials were trained to their end, the others pause; each has the figures of a run alone."""
    directory = Path(str(config.run.directory))
    with (directory / "leaderboard.csv").open() as stream:
        table = list(csv.DictReader(stream))
    assert sorted(line["status"] for line in table) == ["done"] * num_done + ["paused"] * (3 - num_done)
    for line in table:
        trial = configuration.load(directory / "trials" / line["trial"] / "config.yaml")
        alone = {"run.directory": str(directory / "alone" / line["trial"]), "cluster.backend": "local",
                 "cluster.num_workers": 1}  # fmt: skip
        found = validations(directory / "trials" / line["trial"])
        worker = resources.Worker(resources.resolve_device("cpu"), num_threads=1)
        run.train(configuration.with_values(trial, alone), worker, evaluate_at_tokens=list(found))
        expected = validations(directory / "alone" / line["trial"])
        assert found == pytest.approx({tokens: expected[tokens] for tokens in found}, rel=1e-3)


def validations(folder: Path) -> dict[int, float]:
    return {r["tokens"]: r["perplexity"] for r in read(folder / "metrics.jsonl") if r["kind"] == "valid"}


def test_trials_of_two_workers_pause_and_are_promoted(make_config: Callable[..., Config], ray_cluster: None) -> None:
    config = make_config(SEARCH)
    search(config)
    check_ended_well(config, num_done=1)
    records = read_journal(Path(str(config.run.directory)))
    assert {"pause", "promote", "end"} <= {record["kind"] for record in records}
    # one after the other, as there is room for two workers only
    running: set[str] = set()
    for record in records:
        if record["kind"] == "start":
            running.add(record["trial"])
        elif record["kind"] in ("pause", "end"):
            running.remove(record["trial"])
        assert len(running) <= 1
    time.sleep(1)
    assert ray.available_resources().get("CPU") == ray.cluster_resources()["CPU"]


@pytest.fixture
def three_nodes() -> Iterator[Any]:
    """A cluster of a head without CPUs and three nodes of one CPU each."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(3)]
    before = os.environ.get("RAY_ADDRESS")
    os.environ["RAY_ADDRESS"] = cluster.address
    cluster.nodes_to_lose = nodes  # type: ignore[attr-defined]
    yield cluster
    ray.shutdown()
    cluster.shutdown()
    os.environ.pop("RAY_ADDRESS")
    if before is not None:
        os.environ["RAY_ADDRESS"] = before


def test_a_search_survives_the_loss_of_a_node(make_config: Callable[..., Config], three_nodes: Any) -> None:
    longer = {"search.grace_tokens": 24_000, "search.max_tokens": 48_000}  # seconds, to be lost in the middle
    config = make_config({**SEARCH, **longer, "cluster.max_failures": 4, "train.checkpoint_every_steps": 10})
    directory = Path(str(config.run.directory))
    lost: list[str] = []

    def lose_a_node() -> None:
        while not list(directory.glob("trials/002-*/checkpoints/step-*/manifest.json")):
            time.sleep(0.02)
        while not lost:
            left = available_resources_per_node()
            for node in three_nodes.nodes_to_lose:
                if not left.get(node.node_id, {}).get("CPU"):  # a worker runs there
                    three_nodes.remove_node(node, allow_graceful=False)
                    lost.append(node.node_id)
                    return
            time.sleep(0.05)

    thread = threading.Thread(target=lose_a_node, daemon=True)
    thread.start()
    search(config)
    assert lost
    check_ended_well(config, num_done=3)  # each is better at its rung than those before it
    failures = [line for path in directory.glob("trials/*/failures.jsonl") for line in path.read_text().splitlines()]
    assert failures or any(record["kind"] == "failure" for record in read_journal(directory))
    assert not Standing.of(read_journal(directory)).in_state("running")

"""A run and a search on a cluster that grows: an autoscaler starts nodes on this machine, as on a cloud."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml

from pipeline import config as configuration
from pipeline.cluster.search import search
from pipeline.config import Config
from pipeline.data.prepare import prepare_in_process
from pipeline.search.journal import Journal

PROJECT = Path(__file__).parents[2]
PORT = 6379  # the one at which nodes of Ray's imitation of a cloud join the head


@pytest.fixture
def imitated_cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An autoscaling cluster on this machine: a head node without CPUs, and up to two nodes of two CPUs each."""
    if not is_free(PORT):
        pytest.skip(f"something listens at port {PORT}, where Ray's imitation of a cloud has its head node")
    lists = ["rsync_exclude", "rsync_filter", "initialization_commands", "setup_commands", "head_setup_commands"]
    lists += ["worker_setup_commands", "head_start_ray_commands", "worker_start_ray_commands", "cluster_synced_files"]
    head = "f" * 51 + "00000"
    provider = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
    cloud = {"type": "fake_multinode", "module": provider, "head_node_id": head, "use_node_id_as_ip": True}
    types = {
        "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        "worker": {"resources": {"CPU": 2}, "node_config": {}, "min_workers": 0, "max_workers": 2},
    }
    settings = {name: [] for name in lists} | {
        "cluster_name": "imitated",
        "max_workers": 2,
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": 5,
        "provider": {**cloud, "disable_node_updaters": True, "disable_launch_config_check": True},
        "auth": {"ssh_user": "nobody"},
        "docker": {},
        "file_mounts": {},
        "file_mounts_sync_continuously": False,
        "available_node_types": types,
        "head_node_type": "ray.head.default",
    }
    (tmp_path / "cloud.yaml").write_text(yaml.safe_dump(settings))
    folder = Path("/tmp") / f"ray-cloud-{os.getpid()}"  # Ray's sockets need a short path
    for name, value in {
        "RAY_FAKE_CLUSTER": "1",
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": head,
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_TMPDIR": str(folder),
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONPATH": str(PROJECT),
    }.items():
        monkeypatch.setenv(name, value)
    folder.mkdir()
    command = [
        str(Path(sys.executable).with_name("ray")),
        "start",
        "--head",
        f"--port={PORT}",
        "--num-cpus=0",
        "--block",
    ]
    command += ["--include-dashboard=false", f"--autoscaling-config={tmp_path / 'cloud.yaml'}"]
    with (tmp_path / "ray.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while is_free(PORT) and time.monotonic() < deadline:
            time.sleep(0.5)
        yield folder
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        end_processes_of(folder)
        shutil.rmtree(folder)


def is_free(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) != 0


def end_processes_of(folder: Path) -> None:
    """End the nodes that the imitated cloud has left: their commands name their folder."""
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if f"{folder}/".encode() in place.read_bytes():
                os.kill(int(place.parent.name), signal.SIGKILL)


@pytest.mark.slow
def test_a_run_begins_on_a_cluster_that_has_no_node_for_it_yet(
    make_config: Callable[..., Config], imitated_cloud: Path
) -> None:
    wanted = {"cluster.address": f"127.0.0.1:{PORT}", "cluster.num_workers": 4, "train.max_steps": 2}
    config = make_config({"cluster.backend": "ray", **wanted})
    refused = train(config, "cluster.num_workers=5")
    assert refused.returncode == 2
    assert "5 workers of 1 CPU each were asked for, but the cluster has room for 4 (4 CPUs" in refused.stderr
    done = train(config)
    assert done.returncode == 0, done.stderr
    assert "4 workers on cpu, 1 thread each" in done.stdout + done.stderr


def train(config: Config, *settings: str) -> subprocess.CompletedProcess[str]:
    file = Path(str(config.run.directory)).with_suffix(".yaml")
    file.write_text(configuration.to_yaml(config), encoding="utf-8")
    command = [sys.executable, "-m", "jobs.train", "--config", str(file), *settings]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=PROJECT, check=False)


@pytest.mark.slow
@pytest.mark.ray
def test_a_search_asks_for_all_its_nodes_at_once(
    make_config: Callable[..., Config], imitated_cloud: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(
        {"cluster.backend": "ray", "cluster.address": f"127.0.0.1:{PORT}", "cluster.cpus_per_worker": 2,
         "search.space": {"optimizer.lr": {"uniform": [0.01, 0.02]}}, "search.num_trials": 3, "search.max_tokens": 1200,
         "search.scheduler": "none"}
    )  # fmt: skip
    prepare_in_process(config)  # else this asks for the first node
    append, cpus = Journal.append, list[float]()

    def append_and_look(journal: Journal, *records: Mapping[str, Any]) -> None:
        append(journal, *records)
        if any(record["kind"] == "start" for record in records):
            cpus.append(ray.cluster_resources().get("CPU", 0))

    monkeypatch.setattr(Journal, "append", append_and_look)
    assert len(search(config)) == 3
    assert cpus[:2] == [0, 0]  # both trials asked for a node before there was one

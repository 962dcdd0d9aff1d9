"""The nodes that an autoscaling cluster may still add, and what is planned and refused for them."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config

from pipeline import config as configuration
from pipeline.cluster import growth, room, store
from pipeline.cluster.growth import HEAD, UNLIMITED, Limits, NodeType, limits_in, to_come
from pipeline.cluster.rules import Rules
from pipeline.cluster.train import Plan, plan_workers
from pipeline.config import ClusterConfig, Config
from pipeline.errors import Notice
from pipeline.search.space import Space

PROJECT = Path(__file__).parents[2]
SMALL, LARGE, GPU = {"CPU": 2.0}, {"CPU": 8.0}, {"CPU": 8.0, "GPU": 1.0}
PORT = 6379  # the one at which nodes of Ray's imitation of a cloud join the head


@pytest.mark.parametrize(
    ("types", "most", "there", "expected"),
    [
        ([NodeType({}, 1), NodeType(SMALL, 3)], 5, [{HEAD: 1.0}], [SMALL] * 3),
        # a node that is there is no longer to come
        ([NodeType({}, 1), NodeType(SMALL, 3)], 5, [{**SMALL, "memory": 9.0}, {HEAD: 1.0}], [SMALL] * 2),
        # a head node like the others takes the place of its own type
        ([NodeType(SMALL, 1), NodeType(SMALL, 2)], 5, [SMALL, {**SMALL, HEAD: 1.0}], [SMALL]),
        # nodes of no type leave no less room for those of a type, but for what all types share
        ([NodeType({}, 1), NodeType(SMALL, 3)], 3, [{HEAD: 1.0}, LARGE], [SMALL] * 2),
        # types that share the limit are each counted up to it
        ([NodeType({}, 1), NodeType(SMALL, 9), NodeType(GPU, 2)], 2, [{HEAD: 1.0}], [SMALL] * 2 + [GPU] * 2),
        ([NodeType({}, 1), NodeType(SMALL, 1)], 1, [{HEAD: 1.0}, SMALL], []),
    ],
)
def test_the_nodes_to_come(
    types: list[NodeType], most: int, there: list[dict[str, float]], expected: list[dict[str, float]]
) -> None:
    assert to_come(Limits(types, most), there) == expected


def connect(
    monkeypatch: pytest.MonkeyPatch, *, status: Any, version_2: bytes | None = b"0", groups: Any = None
) -> None:
    """Pretend to be connected to a cluster of a head node without CPUs."""
    import ray._private.state as state

    config = None if groups is None else SimpleNamespace(node_group_configs=groups)
    values = {growth.STATUS: status, growth.VERSION_2: version_2}
    monkeypatch.setattr(state.state, "get_cluster_config", lambda: config)
    monkeypatch.setattr(store, "is_there", lambda: True)
    monkeypatch.setattr(store, "get", lambda key, namespace=None: values[key])
    head = {"Alive": True, "NodeID": "head", "Resources": {HEAD: 1.0}}
    monkeypatch.setattr(growth.ray, "nodes", lambda: [head, {"Alive": False, "NodeID": "lost", "Resources": GPU}])
    monkeypatch.setattr(growth.ray, "available_resources", dict)
    monkeypatch.setattr(growth.ray, "cluster_resources", dict)


def status_of(*types: str) -> dict[str, Any]:
    return {"autoscaler_report": {"active_nodes": dict.fromkeys(types, 1)}}


def test_the_project_s_own_cluster_grows_to_four_gpu_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = prepare_config(yaml.safe_load((PROJECT / "cluster.yaml").read_text()))
    connect(monkeypatch, status=status_of("head"))
    monkeypatch.setattr(growth, "settings_of_autoscaler", lambda head: settings)
    assert growth.growth() == [GPU] * 4
    assert plan_workers(ClusterConfig()) == Plan(1, 8, True)
    assert plan_workers(ClusterConfig(num_workers=4)) == Plan(4, 8, True)
    room.check_capacity(4, {"CPU": 8, "GPU": 1})
    with pytest.raises(ValueError, match=r"5 workers of 8 CPU.* room for 4 \(32 CPUs and 4 GPUs in all\)"):
        room.check_capacity(5, {"CPU": 8, "GPU": 1})
    with pytest.raises(ValueError, match="a worker of 9 CPUs was asked for, but the cluster has room for 0"):
        room.check_capacity(1, {"CPU": 9})


@pytest.mark.parametrize("status", [None, {}, status_of("node_abc", "node_def")])
def test_a_cluster_without_an_autoscaler_does_not_grow(monkeypatch: pytest.MonkeyPatch, status: Any) -> None:
    connect(monkeypatch, status=status)
    monkeypatch.setattr(growth, "settings_of_autoscaler", lambda head: pytest.fail("nobody to ask"))
    assert growth.growth() == []
    assert not growth.has_unknown_limits()
    with pytest.raises(ValueError, match="a worker of 1 CPU was asked for, but the cluster has room for 0"):
        room.check_capacity(1, {"CPU": 1})


def test_a_process_without_access_to_ray_s_store_sees_no_autoscaler(monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, status=status_of("head", "workers"))
    monkeypatch.setattr(store, "is_there", lambda: False)
    assert growth.growth() == []
    assert not growth.has_unknown_limits()


@pytest.mark.parametrize(("status", "version_2"), [(status_of("head", "workers"), 0), (None, 1)])
def test_nothing_is_refused_where_the_limits_are_unknown(
    monkeypatch: pytest.MonkeyPatch, status: Any, version_2: int
) -> None:
    connect(monkeypatch, status=status, version_2=version_2)
    monkeypatch.setattr(growth, "settings_of_autoscaler", lambda head: None)
    assert growth.growth() == []
    with pytest.warns(Notice, match=r"a worker of 1 CPU and 1 GPU waits for room .*free: 0 of 0 CPUs and 0 of 0 GPUs"):
        room.check_capacity(1, {"CPU": 1, "GPU": 1})


@pytest.mark.parametrize(("max_concurrent", "expected"), [(3, 3), (None, 1)])
def test_a_search_may_ask_for_nodes_where_the_limits_are_unknown(
    monkeypatch: pytest.MonkeyPatch, make_config: Callable[..., Config], max_concurrent: int | None, expected: int
) -> None:
    """Trials that wait are all that an autoscaler sees of a search."""
    connect(monkeypatch, status=None, version_2=1)
    monkeypatch.setattr(growth, "settings_of_autoscaler", lambda head: None)
    config = make_config({"search.max_concurrent": max_concurrent})
    assert Rules(config, Space({}), 0, [], Plan(1, 2, False)).most_at_once() == expected


def test_limits_that_are_reported_to_ray_count(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = [SimpleNamespace(resources=SMALL, max_count=2), SimpleNamespace(resources=GPU, max_count=-1)]
    connect(monkeypatch, status=None, groups=groups)
    assert growth.growth() == [SMALL] * 2 + [GPU] * UNLIMITED


def test_the_file_that_an_autoscaler_was_started_with_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth.ray, "get_runtime_context", lambda: SimpleNamespace(gcs_address="here:1"))
    (tmp_path / "one.yaml").write_text("max_workers: 7\n")
    (tmp_path / "other.yaml").write_text("max_workers: 8\n")
    waits = [sys.executable, "-c", "print(flush=True); input()"]
    processes = [
        subprocess.Popen([*waits, *options], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for options in (
            ["--gcs-address=there:1", f"--autoscaling-config={tmp_path}/other.yaml"],  # of another cluster
            ["--gcs-address=here:1", "--autoscaling-config=one.yaml"],
        )
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()  # it has begun
        assert growth.file_of_autoscaler() == {"max_workers": 7}
        processes[1].communicate()
        assert growth.file_of_autoscaler() is None
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_the_head_node_counts_once_whatever_its_own_limit_says() -> None:
    types = {"workers": {"resources": SMALL, "max_workers": 3}, "head": {"resources": SMALL, "max_workers": 0}}
    limits = limits_in({"head_node_type": "head", "available_node_types": types, "max_workers": 5})
    assert limits == Limits([NodeType(SMALL, 1), NodeType(SMALL, 3)], 5)


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

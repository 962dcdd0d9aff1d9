"""Which cluster is used, and what is refused before anything waits for it."""

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.exceptions import AuthenticationError

from jobs.shared import early
from pipeline import launch, storage
from pipeline.cluster import train as ray_train
from pipeline.cluster.address import address_of, check_answers
from pipeline.cluster.session import local_cpus, ray_session, refused
from pipeline.cluster.train import Plan, _even_share, plan_workers
from pipeline.config import ClusterConfig, Config, load
from pipeline.paths import absolute, refuse_relative


def test_the_setting_comes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert address_of(ClusterConfig()) is None
    monkeypatch.setenv("RAY_ADDRESS", "one:1")
    assert address_of(ClusterConfig()) == "one:1"
    assert address_of(ClusterConfig(address="two:2")) == "two:2"


def test_no_cluster_at_the_address_is_said_at_once() -> None:
    started = time.monotonic()
    with pytest.raises(ValueError, match=r"cluster\.address: no Ray cluster answers at 127\.0\.0\.1:1"):
        check_answers("127.0.0.1:1")
    assert time.monotonic() - started < 30


@pytest.mark.parametrize("address", ["nonsense", "http://127.0.0.1:8265", "h:0", "h:70000", f"h:{10**20}", "a..b:1"])
def test_what_is_not_an_address_of_a_cluster_is_said(address: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT") as caught:
        check_answers(address)
    assert str(caught.value) == f"cluster.address: {address} is not HOST:PORT, such as head:6379 or ray://head:10001"


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_a_cluster_that_listens_is_found_by_ipv4_and_ipv6(host: str) -> None:
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    try:
        listening = socket.create_server((host.strip("[]"), 0), family=family)
    except OSError:
        pytest.skip(f"this machine does not listen at {host}")
    with listening:
        port = listening.getsockname()[1]
        check_answers(f"{host}:{port}")
        check_answers(f"ray://{host}:{port}")


def test_a_cluster_that_the_environment_names_is_blamed_on_it(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    for values, origin in (({}, "RAY_ADDRESS"), ({"cluster.address": "127.0.0.1:2"}, "cluster.address")):
        config = make_config({"cluster.backend": "ray", **values})
        with pytest.raises(ValueError, match=rf"^{origin}: no Ray cluster answers at 127\.0\.0\.1:"):
            early.check(config)
        with (
            pytest.raises(ValueError, match=rf"^{origin}: no Ray cluster answers at 127\.0\.0\.1:"),
            ray_session(config.cluster),
        ):
            pass


def test_paths_that_would_vanish_with_a_job_are_refused() -> None:
    with pytest.raises(ValueError, match="relative") as caught:
        refuse_relative(load(None, ["corpus.train=[texts/*.txt, /mnt/a.txt, builtin:python-docs]"]))
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in lines] == ["run.directory", "data.directory", "corpus.train"]
    assert "texts/*.txt is relative, but a submitted job runs in a folder that vanishes" in lines[2]
    refuse_relative(load(None, ["run.directory=/mnt/run", "data.directory=s3://bucket/data"]))


def test_a_submitted_job_is_refused_before_its_relative_paths_become_absolute(monkeypatch: pytest.MonkeyPatch) -> None:
    config = load(None, ["run.directory=here", "data.directory=/mnt/data"])
    assert absolute(config).run.directory == str(Path("here").absolute())
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    with pytest.raises(ValueError, match=r"^run\.directory: here is relative"):
        launch.train(config, launch.in_process)


def test_a_tilde_is_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.txt").write_text("a")
    config = absolute(load(None, ["run.directory=~/run", "data.directory=~/data"]))
    assert (config.run.directory, config.data.directory) == (f"{tmp_path}/run", f"{tmp_path}/data")
    changed = (tmp_path / "a.txt").stat().st_ctime_ns
    assert storage.find("~/a.txt") == storage.find("~/*.txt") == [(str(tmp_path / "a.txt"), 1, changed)]


def test_a_private_cluster_is_as_large_as_the_settings_ask() -> None:
    assert local_cpus(ClusterConfig(num_workers=50, cpus_per_worker=2)) == 100


@pytest.mark.parametrize(
    ("node_cpus", "num_workers", "share"),
    [([8], 1, 8), ([8], 3, 2), ([8, 8], 2, 8), ([8, 4], 3, 4), ([1], 4, 1), ([], 1, 1)],
)
def test_the_most_cpus_that_each_worker_can_have(node_cpus: list[int], num_workers: int, share: int) -> None:
    assert _even_share(node_cpus, num_workers, [num_workers] * len(node_cpus)) == share


HEAD, GPU_NODE = {"memory": 1e9}, {"CPU": 8.0, "GPU": 1.0}


@pytest.mark.parametrize(
    ("there", "to_come", "settings", "plan"),
    [
        # cluster.yaml before any job
        ([HEAD], [GPU_NODE] * 4, {}, Plan(1, 8, True)),
        ([HEAD], [GPU_NODE] * 4, {"device": "cuda", "num_workers": 4}, Plan(4, 8, True)),
        ([HEAD], [GPU_NODE] * 4, {"device": "cpu"}, Plan(1, 8, False)),
        ([HEAD, GPU_NODE, GPU_NODE], [GPU_NODE] * 2, {}, Plan(2, 8, True)),
        # only the CPUs of nodes with GPUs count
        ([{"CPU": 64.0}, {"CPU": 8.0, "GPU": 2.0}], [], {}, Plan(2, 4, True)),
        ([{"CPU": 64.0}, {"CPU": 8.0, "GPU": 2.0}], [], {"num_workers": 1}, Plan(1, 8, True)),
        ([{"CPU": 16.0}], [], {}, Plan(1, 16, False)),
        # a worker of several GPUs, or of a part of one
        ([{"CPU": 8.0, "GPU": 4.0}] * 2, [], {"gpus_per_worker": 2}, Plan(4, 4, True, gpus_per_worker=2)),
        ([HEAD], [{"CPU": 8.0, "GPU": 4.0}] * 2, {"gpus_per_worker": 4}, Plan(1, 8, True, gpus_per_worker=4)),
        ([{"CPU": 8.0, "GPU": 2.0}], [], {"gpus_per_worker": 0.5}, Plan(1, 2, True, gpus_per_worker=0.5)),
        (
            [{"CPU": 9.0, "GPU": 1.0}],
            [],
            {"gpus_per_worker": 0.3, "num_workers": 1},
            Plan(1, 3, True, gpus_per_worker=0.3),
        ),
        (
            [{"CPU": 8.0, "GPU": 2.0}],
            [],
            {"gpus_per_worker": 0.5, "num_workers": 2, "device": "cpu"},
            Plan(2, 4, False, gpus_per_worker=0.5),
        ),
    ],
)
def test_workers_are_planned_for_existing_nodes_and_those_that_may_join(
    monkeypatch: pytest.MonkeyPatch, there: list[Any], to_come: list[Any], settings: dict[str, Any], plan: Plan
) -> None:
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": node} for node in there])
    monkeypatch.setattr(ray_train, "growth", lambda: to_come)
    assert plan_workers(ClusterConfig(**settings)) == plan


def test_workers_of_one_run_that_would_share_a_gpu_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    node = {"Alive": True, "Resources": {"CPU": 8.0, "GPU": 2.0}}
    monkeypatch.setattr(ray, "nodes", lambda: [node])
    monkeypatch.setattr(ray_train, "growth", list)
    with pytest.raises(ValueError, match=r"cluster\.gpus_per_worker: must be at least 1 for 2 workers .* not 0\.5"):
        plan_workers(ClusterConfig(num_workers=2, gpus_per_worker=0.5))


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("", "Failed to connect (if it wants a token, none was sent without RAY_AUTH_MODE=token)"),
        ("token", "Failed to connect (if it wants a token, the one in RAY_AUTH_TOKEN was sent)"),
    ],
)
def test_a_cluster_that_cannot_be_joined_may_want_a_token(
    monkeypatch: pytest.MonkeyPatch, mode: str, said: str
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", mode)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "abc")
    told = str(refused("h:1", ConnectionError("Failed to connect\nmore")))
    assert told == f"cluster.address: cannot join the Ray cluster at h:1: {said}"
    if mode == "token":
        missing = str(refused("h:1", AuthenticationError("no token found")))
        assert missing.startswith(
            "cluster.address: the cluster at h:1 wants a token, and none can be read from RAY_AUTH_TOKEN:"
        )

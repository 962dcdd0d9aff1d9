"""The nodes that an autoscaling cluster may still add, and what is planned and refused for them."""

import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config

from pipeline.cluster import growth, room, store
from pipeline.cluster.growth import HEAD, UNLIMITED, Limits, NodeType, limits_in, to_come
from pipeline.cluster.rules import Rules
from pipeline.cluster.train import Plan, plan_workers
from pipeline.config import ClusterConfig, Config
from pipeline.errors import Notice
from pipeline.search.space import Space

PROJECT = Path(__file__).parents[2]
SMALL, LARGE, GPU = {"CPU": 2.0}, {"CPU": 8.0}, {"CPU": 8.0, "GPU": 1.0}


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


@pytest.mark.parametrize(("cpus", "places"), [(1.0, 16), (4.0, 4), (8.0, 2), (9.0, 0)])
def test_types_that_share_a_limit_have_room_for_no_more_than_may_come(
    monkeypatch: pytest.MonkeyPatch, cpus: float, places: int
) -> None:
    """Of two nodes in all, both may be large ones."""
    groups = {"small": {"resources": SMALL, "max_workers": 9}, "large": {"resources": LARGE, "max_workers": 9}}
    types = {"head": {"resources": {}, "max_workers": 0}, **groups}
    connect(monkeypatch, status=status_of("head"))
    settings = {"head_node_type": "head", "available_node_types": types, "max_workers": 2}
    monkeypatch.setattr(growth, "settings_of_autoscaler", lambda head: settings)
    assert room.most_places({"CPU": cpus}) == places
    with pytest.raises(ValueError, match=f"the cluster has room for {places} "):
        room.check_capacity(places + 1, {"CPU": cpus})


def test_as_many_trials_wait_as_the_nodes_to_come_have_room_for(
    monkeypatch: pytest.MonkeyPatch, make_config: Callable[..., Config]
) -> None:
    groups = [SimpleNamespace(resources=SMALL, max_count=3)]
    connect(monkeypatch, status=None, groups=groups)
    one, two = (Rules(make_config(), Space({}), 0, [], Plan(workers, 1, False)) for workers in (1, 2))
    assert (one.most_waiting(), two.most_waiting()) == (6, 3)
    there = [{"Alive": True, "NodeID": str(number), "Resources": SMALL} for number in range(3)]
    monkeypatch.setattr(growth.ray, "nodes", lambda: there)
    assert (one.most_waiting(), two.most_waiting()) == (1, 1)


@pytest.mark.parametrize(("max_concurrent", "expected"), [(3, 3), (None, 1)])
def test_a_search_may_ask_for_nodes_where_the_limits_are_unknown(
    monkeypatch: pytest.MonkeyPatch, make_config: Callable[..., Config], max_concurrent: int | None, expected: int
) -> None:
    """Trials that wait are all that an autoscaler sees of a search."""
    connect(monkeypatch, status=None, version_2=1)
    monkeypatch.setattr(growth, "settings_of_autoscaler", lambda head: None)
    config = make_config({"search.max_concurrent": max_concurrent})
    rules = Rules(config, Space({}), 0, [], Plan(1, 2, False))
    assert (rules.most_at_once(), rules.most_waiting()) == (expected, expected)


def name_of_session(*, seconds_ago: float) -> SimpleNamespace:
    began = datetime.now() - timedelta(seconds=seconds_ago)
    name = began.strftime("session_%Y-%m-%d_%H-%M-%S_%f_123")
    return SimpleNamespace(get_session_name=lambda: name)


def test_a_cluster_that_has_just_begun_is_asked_until_it_says_that_it_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first status that Ray writes may have no report of its autoscaler yet."""
    connect(monkeypatch, status=None)
    answers: list[Any] = [None, {"time": 1.0}, status_of("head", "workers")]
    monkeypatch.setattr(store, "get", lambda key, namespace=None: answers[0] if key == growth.STATUS else None)
    monkeypatch.setattr(growth.time, "sleep", lambda seconds: answers.pop(0))
    monkeypatch.setattr(growth.ray, "get_runtime_context", lambda: name_of_session(seconds_ago=2))
    assert not growth.has_autoscaler()
    growth.await_report()
    assert growth.has_autoscaler()
    assert len(answers) == 1


@pytest.mark.parametrize("seconds_ago", [40, -3600])
def test_an_old_cluster_whose_nodes_nobody_reports_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, seconds_ago: float
) -> None:
    connect(monkeypatch, status=None)
    monkeypatch.setattr(growth.time, "sleep", lambda seconds: pytest.fail("there is nothing to wait for"))
    monkeypatch.setattr(growth.ray, "get_runtime_context", lambda: name_of_session(seconds_ago=seconds_ago))
    growth.await_report()
    monkeypatch.setattr(growth.ray, "get_runtime_context", lambda: SimpleNamespace(get_session_name=lambda: "mine"))
    growth.await_report()


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

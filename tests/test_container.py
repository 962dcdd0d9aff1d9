"""The limits of a container, as given by both versions of Linux control groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch

from pipeline import container, resources
from pipeline.config import ClusterConfig, Config
from pipeline.container import cpu_limit, memory_limit
from pipeline.training.memory import machine_bytes

GIGABYTE = 1 << 30
Machine = Callable[[str, Mapping[str, str]], None]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A function that pretends that this process has the given groups, and these the given files."""

    def make(membership: str, files: Mapping[str, str]) -> None:
        (tmp_path / "membership").write_text(membership)
        for name, text in files.items():
            path = tmp_path / "groups" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    monkeypatch.setattr(container, "MEMBERSHIP", tmp_path / "membership")
    monkeypatch.setattr(container, "MOUNT", tmp_path / "groups")
    return make


def test_a_container_of_version_2_sees_itself_at_the_top(machine: Machine) -> None:
    machine("0::/\n", {"cpu.max": "150000 100000\n", "memory.max": f"{GIGABYTE}\n"})
    assert (cpu_limit(), memory_limit()) == (1.5, GIGABYTE)


def test_the_limits_of_enclosing_groups_count_too(machine: Machine) -> None:
    files = {
        "pods/cpu.max": "400000 100000",
        "pods/one/cpu.max": "max 100000",
        "pods/one/inside/cpu.max": "300000 50000",
        "pods/memory.max": str(3 * GIGABYTE),
        "pods/one/memory.max": "max",
        "beside/cpu.max": "1000 100000",
    }
    machine("0::/pods/one/inside\n", files)
    assert (cpu_limit(), memory_limit()) == (4.0, 3 * GIGABYTE)


def test_version_1_has_a_tree_for_each_controller(machine: Machine) -> None:
    membership = "5:memory:/box\n3:cpu,cpuacct:/box\n2:cpuset:/other\n0::/unified\n"
    files = {
        "cpu/box/cpu.cfs_quota_us": "250000",
        "cpu/box/cpu.cfs_period_us": "100000",
        "cpu/cpu.cfs_quota_us": "-1",
        "cpu/cpu.cfs_period_us": "100000",
        "memory/box/memory.limit_in_bytes": str(2 * GIGABYTE),
        "memory/memory.limit_in_bytes": "9223372036854771712",
    }
    machine(membership, files)
    assert (cpu_limit(), memory_limit()) == (2.5, 2 * GIGABYTE)


def test_a_container_of_version_1_finds_its_limits_at_the_top(machine: Machine) -> None:
    files = {"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}
    machine("4:cpu,cpuacct:/docker/0a1b\n", files)
    assert (cpu_limit(), memory_limit()) == (0.5, None)


@pytest.mark.parametrize("membership", ["0::/\n", "0::/../elsewhere\n", ""])
def test_without_a_limit_there_is_none(machine: Machine, membership: str) -> None:
    machine(membership, {"memory.max": "max\n", "cpu.max": "max 100000\n"})
    assert (cpu_limit(), memory_limit()) == (None, None)


def test_without_control_groups_there_is_no_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(container, "MEMBERSHIP", tmp_path / "none")
    assert (cpu_limit(), memory_limit()) == (None, None)


@pytest.mark.parametrize(("quota", "cpus"), [("max", 64), ("6400000", 64), ("250000", 2), ("100000", 1), ("30000", 1)])
def test_the_number_of_cpus_is_the_limit_rounded_down_but_at_least_one(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, quota: str, cpus: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)), raising=False)
    machine("0::/\n", {"cpu.max": f"{quota} 100000"})
    assert resources.available_cpus() == cpus


def test_the_memory_of_the_machine_is_at_most_the_limit_of_the_container(machine: Machine) -> None:
    machine("0::/\n", {"memory.max": str(GIGABYTE)})
    assert machine_bytes() == GIGABYTE


@pytest.mark.parametrize(("given", "threads"), [("1", 1), ("3", 3), (" 2,1", 2), ("0", 4), ("many", 4), (None, 4)])
def test_a_local_run_has_the_threads_of_omp_num_threads_or_one_per_cpu(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, given: str | None, threads: int
) -> None:
    machine("0::/\n", {"cpu.max": "400000 100000"})
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert resources.local_worker(Config()).num_threads == threads
    chosen = Config().model_copy(update={"cluster": ClusterConfig(cpus_per_worker=5)})
    assert resources.local_worker(chosen).num_threads == 5


def test_a_command_uses_no_more_threads_than_cpus(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine("0::/\n", {"cpu.max": "100000 100000"})
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
        resources.limit_threads()
        assert torch.get_num_threads() == 3
        monkeypatch.delenv("OMP_NUM_THREADS")
        resources.limit_threads()
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)

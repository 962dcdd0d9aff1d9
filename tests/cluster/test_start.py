"""A private Ray starts without processes that have nothing to do, and has those that it needs when it needs them."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from pipeline.cluster import late_agent, start, trainer
from pipeline.cluster.controller import Controller, FixedSize, TrainController, WorkerGroup
from pipeline.cluster.session import is_private
from tests.test_layers import loaded_by

NODE = ["raylet", "--node_id=ab", "--node_ip_address=127.0.0.1", "--session_dir=/tmp/a session", "--head"]


def soon(is_so: Callable[[], bool]) -> bool:
    give_up = time.monotonic() + 30
    while not is_so() and time.monotonic() < give_up:
        time.sleep(0.02)
    return is_so()


def commands_below(pid: int) -> list[str]:
    """The command lines of all processes that ``pid`` has started, directly or not."""
    listed = subprocess.run(
        ["ps", "-e", "-ww", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    ).stdout
    processes = [line.split(maxsplit=2) for line in listed.splitlines()]

    def below(pid: int) -> Iterator[str]:
        for own, parent, what in processes:
            if int(parent) == pid:
                yield what
                yield from below(int(own))

    return list(below(pid))


def test_a_node_gets_agents_that_start_when_they_are_asked() -> None:
    command = start.late_agents([*NODE, "--runtime_env_agent_command=python agent.py --port=0", "--other=1"])
    assert command[:5] == NODE
    assert command[6] == "--other=1"
    ours = f'{sys.executable} -S -E {late_agent.__file__} environments "/tmp/a session" ab 127.0.0.1'
    assert command[5] == f"--runtime_env_agent_command={ours} python agent.py --port=0"
    for other in (["gcs_server", "--node-id=ab"], ["python", "a.py", "--dashboard_agent_command=x"]):
        assert start.late_agents(other) == other


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A stand-in for an agent that, when it starts, writes its arguments to a file."""
    program = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text(sys.argv[2])"
    command = [sys.executable, "-c", program, str(tmp_path / "told"), "--runtime-env-agent-port=0"]
    with subprocess.Popen(
        [sys.executable, "-S", "-E", late_agent.__file__, "environments", str(tmp_path), "ab", "127.0.0.1", *command]
    ) as process:
        yield process
        process.kill()


def test_an_agent_begins_when_it_is_first_asked(tmp_path: Path, asked: subprocess.Popen[bytes]) -> None:
    place = tmp_path / "runtime_env_agent_port_ab"
    assert soon(place.exists)
    port = int(place.read_text())
    assert not (tmp_path / "told").exists()
    with socket.create_connection(("127.0.0.1", port)):
        asked.wait(30)
    assert (tmp_path / "told").read_text() == f"--runtime-env-agent-port={port}"


def test_a_stand_in_says_that_it_has_no_port_and_ends_with_its_node(tmp_path: Path) -> None:
    agent = [sys.executable, "-S", "-E", late_agent.__file__, "dashboard", str(tmp_path), "ab", "127.0.0.1", "unused"]
    node = f"import subprocess, sys; print(subprocess.Popen({agent!r}).pid, flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", node], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        places = [tmp_path / f"{name}_ab" for name in late_agent.PORTS["dashboard"]]
        assert soon(lambda: all(place.exists() for place in places))
        parent.kill()
    assert [place.read_text() for place in places] == ["-1"] * 3
    assert soon(lambda: not Path(f"/proc/{pid}").exists())


def test_the_controller_loads_no_torch() -> None:
    modules = loaded_by("import pipeline.cluster.controller, pipeline.cluster.callbacks, pipeline.cluster.backend")
    assert "ray.train" in modules
    assert "torch" not in modules


def test_a_run_of_a_fixed_size_asks_no_autoscaler() -> None:
    policy = FixedSize(ray.train.ScalingConfig(num_workers=2))
    policy.after_controller_start(None)
    assert policy.make_decision_for_non_running_worker_group().num_workers == 2
    policy.before_controller_abort()


def test_a_ray_with_other_names_starts_training_in_its_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    assert trainer.private_controller() is not None
    monkeypatch.delattr(WorkerGroup, "_get_worker_runtime_env")
    monkeypatch.setattr("pipeline.cluster.controller.Workers", WorkerGroup)
    assert trainer.private_controller() is None
    monkeypatch.setattr(start.ray, "__version__", "2.61.0")
    usual = ray._private.services.start_ray_process
    with start.lean():
        assert ray._private.services.start_ray_process is usual


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_private_ray_has_few_processes_but_runtime_environments_on_request() -> None:
    assert is_private()
    commands = commands_below(os.getpid())
    assert any("raylet" in command for command in commands)
    left_out = ("monitor.py", "log_monitor.py", "dashboard.py", "DashboardAgent")
    assert not any(name in command for command in commands for name in left_out)
    greet = ray.remote(lambda: os.environ.get("GREETING"))
    assert ray.get(greet.options(runtime_env={"env_vars": {"GREETING": "hello"}}).remote()) == "hello"
    assert ray.get(greet.remote()) is None


def test_a_controller_looks_less_often_at_workers_that_run_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every 0.2 s in the first 20 s, then after each hundredth of the run's time so far, from 100 s on every second."""
    clock = iter([50.0, 55.0, 70.0, 90.0, 150.0, 1e6])
    monkeypatch.setattr("pipeline.cluster.controller.monotonic", lambda: next(clock))
    intervals: list[float] = []

    async def look(controller: Any) -> None:
        intervals.append(controller._health_check_interval_s)

    monkeypatch.setattr(TrainController, "_poll_workers", look)
    controller: Any = Controller.__new__(Controller)
    controller._health_check_interval_s = 0.2
    for _ in range(6):
        asyncio.run(controller._poll_workers())
    assert intervals == pytest.approx([0.2, 0.2, 0.2, 0.4, 1.0, 1.0])

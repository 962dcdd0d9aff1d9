"""Clusters only for these tests, on ports of their own: started, waited for, and ended without touching any other."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

RAY = str(Path(sys.executable).parent / "ray")
HEAD = ("start", "--head", "--dashboard-host=127.0.0.1")
NICENESS = "RAY_worker_niceness"
START_SECONDS, END_SECONDS = 120, 20


@dataclass(frozen=True)
class Head:
    """A cluster: where its jobs are submitted, where nodes and drivers join it (host:port), and where clients do."""

    job_api: str
    gcs: str
    client: str = "ray://HEAD:10001"


def clean_environment(home: Path, **more: str) -> dict[str, str]:
    """This process's environment without Ray's variables, with ``home`` and with the ``python`` that runs the tests.

    The priority of Ray's workers (see ``conftest``) stays.
    """
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("RAY_") or key == NICENESS}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**inherited, "PATH": path, "HOME": str(home), **more}


@contextmanager
def private_head(environment: Mapping[str, str], command: Sequence[str] = HEAD) -> Iterator[Head]:
    """The cluster that ``ray`` with this ``command`` starts, with two CPUs."""
    port, gcs, client = free_port(), free_port(), free_port()
    # sockets lie below it, and their paths can have only 107 characters: pytest's own folders are too deep
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    ports = [f"--port={gcs}", f"--dashboard-port={port}", f"--ray-client-server-port={client}"]
    try:
        with _started([*command, *ports, "--num-cpus=2", f"--temp-dir={folder}"], environment):
            _wait_for(f"http://127.0.0.1:{port}")
            yield Head(f"http://127.0.0.1:{port}", f"127.0.0.1:{gcs}", f"ray://127.0.0.1:{client}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def private_node(environment: Mapping[str, str], command: Sequence[str]) -> Iterator[None]:
    """Another node of one CPU, which joins the cluster that ``command`` names."""
    with _started([*command, "--num-cpus=1"], environment):
        yield


@contextmanager
def _started(command: Sequence[str], environment: Mapping[str, str]) -> Iterator[None]:
    """Run ``ray start``. (With --block it would end everything if its client server were slow.)"""
    private = [
        *("--object-store-memory=100000000", "--disable-usage-stats", "--min-worker-port=0", "--max-worker-port=0"),
        f"--dashboard-agent-listen-port={free_port()}",
    ]
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            [RAY, *command, *private], stdout=output, stderr=output, env=environment, start_new_session=True
        )
        try:
            if process.wait(timeout=START_SECONDS) != 0:
                output.seek(0)
                raise AssertionError(f"ray {shlex.join(command)}:\n{output.read()}")
            yield
        finally:
            _end_group(process.pid)


def _end_group(group: int) -> None:
    """Send SIGTERM to the processes of a group, then SIGKILL to those that are still there."""
    for signum in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + END_SECONDS
        try:
            os.killpg(group, signum)
            while time.monotonic() < deadline:
                os.killpg(group, 0)
                time.sleep(0.1)
        except ProcessLookupError:
            return


def _wait_for(address: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            urllib.request.urlopen(f"{address}/api/version", timeout=20).close()
            return
        except urllib.error.HTTPError:  # it answers, if only that it wants a token
            return
        except OSError:
            assert time.monotonic() < deadline, "the cluster's job API does not answer"
            time.sleep(0.2)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

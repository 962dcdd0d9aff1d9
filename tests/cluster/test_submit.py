"""Jobs submitted to a real cluster on this machine, followed, and their exit codes returned."""

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.cluster import submit as submission
from pipeline.training import checkpoint
from pipeline.training.monitor import read

PROJECT = Path(__file__).parents[2]
# of this process and its jobs alone, with a token of their own
ENVIRONMENT = {
    **{key: value for key, value in os.environ.items() if not key.startswith("RAY_")},
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def job_api() -> Iterator[str]:
    """The address of a cluster that this test starts and, alone of all that run here, stops again."""
    port = free_port()
    # sockets lie below it, whose paths may have 107 characters only: pytest's own folders are too deep
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    command = [
        str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", f"--port={free_port()}", "--num-cpus=2",
        "--dashboard-host=127.0.0.1", f"--dashboard-port={port}", "--object-store-memory=100000000",
        f"--temp-dir={folder}", "--ray-client-server-port", str(free_port()), "--disable-usage-stats",
        "--min-worker-port=0", "--max-worker-port=0", f"--dashboard-agent-listen-port={free_port()}",
    ]  # fmt: skip
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT, start_new_session=True
    )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 90
        while True:
            try:
                urllib.request.urlopen(f"{address}/api/version", timeout=2).close()
                break
            except urllib.error.HTTPError:  # it answers, though not without the token
                break
            except OSError:
                assert process.poll() is None, "the cluster did not start"
                assert time.monotonic() < deadline, "the cluster's job API does not answer"
                time.sleep(0.5)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


def submit(address: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jobs.submit", *arguments, "--address", address]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=PROJECT, timeout=240, env=ENVIRONMENT, check=False
    )


@pytest.mark.ray
@pytest.mark.slow
def test_jobs_are_followed_and_their_exit_codes_returned(job_api: str, tiny_text: Path, tmp_path: Path) -> None:
    settings = [
        f"corpus.train={tiny_text}", "tokenizer.kind=char", f"data.directory={tmp_path / 'data'}",
        f"run.directory={tmp_path / 'run'}", "model.hidden_size=8", "model.num_layers=1", "train.max_steps=20",
        "train.batch_size=4", "train.bptt=16", "cluster.cpus_per_worker=1",
    ]  # fmt: skip
    prepared = submit(job_api, "prepare", *settings, "--json")
    assert prepared.returncode == 0, prepared.stdout + prepared.stderr
    assert json.loads(prepared.stdout.splitlines()[-1])["vocab_size"] > 20
    trained = submit(job_api, "train", *settings, "--json")
    assert trained.returncode == 0, trained.stdout + trained.stderr
    assert json.loads(trained.stdout.splitlines()[-1])["steps"] == 20
    # the same command again finds the finished run
    assert "holds this run, finished" in submit(job_api, "train", *settings).stdout
    search = [*settings, f"run.directory={tmp_path / 'search'}", "search.num_trials=2", "train.max_steps=10"]
    space = "search.space={optimizer.lr: [0.001, 0.01]}"
    searched = submit(job_api, "search", *search, space, "--json")
    assert searched.returncode == 0, searched.stdout + searched.stderr
    assert json.loads(searched.stdout.splitlines()[-1])["trials"] == 2
    # one that fails on the cluster: its sentence and its exit code come back
    failed = submit(job_api, "train", *settings, "model.hidden_size=9")
    assert failed.returncode == 2
    assert "model.hidden_size: this run was started with 8 and cannot go on with 9" in failed.stdout


@pytest.mark.ray
@pytest.mark.slow
def test_a_job_that_is_stopped_saves_however_long_its_step_takes(job_api: str, tiny_text: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    settings = [
        f"corpus.train={tiny_text}", "tokenizer.kind=char", f"data.directory={tmp_path / 'data'}",
        f"run.directory={run}", "model.hidden_size=512", "model.num_layers=1", "train.epochs=500",
        "train.batch_size=64", "train.bptt=200",
        "train.log_every_steps=1", "train.checkpoint_every_steps=1000", "train.evaluate_every_steps=1000",
        "cluster.num_workers=2", "cluster.cpus_per_worker=1",
    ]  # fmt: skip
    name = re.findall(r"^submitted (\S+)", submit(job_api, "train", *settings, "--no-wait").stderr, re.MULTILINE)[0]
    metrics, deadline = run / "metrics.jsonl", time.monotonic() + 200
    while not any(record["step"] == 5 for record in read(metrics)):  # workers agree to stop at every fourth step
        assert time.monotonic() < deadline
        time.sleep(0.1)
    ray = [str(Path(sys.executable).parent / "ray"), "job"]
    subprocess.run([*ray, "stop", "--address", job_api, name], check=True, env=ENVIRONMENT, capture_output=True)
    command = [*ray, "logs", "--address", job_api, name]
    log = subprocess.run(command, check=True, env=ENVIRONMENT, capture_output=True, text=True).stdout
    manifest = checkpoint.verify(checkpoint.find(run, "last"))
    assert f"stopped after step {manifest['step']}; its state is saved; to continue:" in log
    assert manifest["step"] % 4 == 0


@pytest.mark.parametrize(("asked", "given"), [(None, "120"), ("9", "9")])
def test_ray_is_asked_to_wait_for_a_job_that_is_stopped(
    monkeypatch: pytest.MonkeyPatch, asked: str | None, given: str
) -> None:
    monkeypatch.delenv("RAY_JOB_STOP_WAIT_TIME_S", raising=False)
    if asked is not None:
        monkeypatch.setenv("RAY_JOB_STOP_WAIT_TIME_S", asked)
    sent: dict[str, Any] = {}
    client = SimpleNamespace(submit_job=lambda **values: sent.update(values) or "raysubmit_1")
    assert submission.submit(client, "generate", [], config=None) == "raysubmit_1"  # type: ignore[arg-type]
    assert sent["runtime_env"]["env_vars"] == {"RAY_JOB_STOP_WAIT_TIME_S": given}
    monkeypatch.setenv("RAY_JOB_STOP_WAIT_TIME_S", "2.5")
    with pytest.raises(ValueError, match=r"^RAY_JOB_STOP_WAIT_TIME_S: '2\.5' is not a whole number of seconds"):
        submission.submit(client, "generate", [], config=None)  # type: ignore[arg-type]


@pytest.mark.ray
def test_what_is_wrong_is_said_before_anything_is_submitted() -> None:
    relative = submit("http://127.0.0.1:1", "train", "corpus.train=text.txt")
    assert relative.returncode == 2
    assert "corpus.train: text.txt is relative, but a submitted job runs in a folder that vanishes" in relative.stderr
    absolute = ["run.directory=/mnt/run", "data.directory=/mnt/data"]
    nowhere = submit("http://127.0.0.1:1", "train", *absolute)
    assert nowhere.returncode == 2
    assert "no Ray cluster answers at http://127.0.0.1:1" in nowhere.stderr
    assert "Traceback" not in nowhere.stderr
    unknown = submit("http://127.0.0.1:1", "train", *absolute, "model.hiden_size=3")
    assert "did you mean hidden_size?" in unknown.stderr

"""Submit a job of this project to a Ray cluster, follow its log, and end with its exit code.

config → checked here → a small folder with our packages and the configuration → Ray's job API → log → exit code

The folder is the job's working directory on every node, so that is how the packages reach the workers.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ray.job_submission import JobStatus, JobSubmissionClient

import pipeline
from pipeline import config as configuration
from pipeline.config import Config
from pipeline.errors import UserError
from pipeline.files import telling_of_writes

PROJECT = Path(pipeline.__file__).resolve().parent.parent
PACKAGES = ("pipeline", "jobs")
CONFIG_FILE = "job.yaml"
# right after its start a cluster has no agent to run a job for some seconds
AGENT_PATIENCE_SECONDS = 30.0
STATUS_POLL_SECONDS = 0.3
# how long Ray lets a job that is stopped go on after SIGTERM before it kills it: 3 s unless the job says more, too few
# for a step, a checkpoint and good-bye. What a run does not save by then, it does again.
STOP_WAIT, STOP_WAIT_SECONDS = "RAY_JOB_STOP_WAIT_TIME_S", "120"


def connect(address: str | None) -> JobSubmissionClient:
    """A client of the cluster's job API, http://host:8265; Ray's own default without an address.

    Raises:
        UserError: nothing answers there.
    """
    for name in ("ray", "ray.dashboard.modules"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        return JobSubmissionClient(address)
    except (ConnectionError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"--address: no Ray cluster answers at {address or 'the default address'}: {reason}") from None


def submit(
    client: JobSubmissionClient, job: str, arguments: Sequence[str], *, config: Config | None, pip: str | None = None
) -> str:
    """Start ``python -m jobs.<job>`` on the cluster; returns the submission's id.

    Args:
        config: sent along as the job's --config, so that the file itself need not be in the project.
        pip: a requirements file that Ray installs for the job on every node.

    Raises:
        UserError: the cluster refuses the job, its folder cannot be put together, or as ``stop_wait_seconds``.
    """
    command = ["python", "-m", f"jobs.{job}", *arguments]
    with tempfile.TemporaryDirectory() as folder:
        with telling_of_writes(folder):
            for package in PACKAGES:
                shutil.copytree(PROJECT / package, Path(folder) / package, ignore=shutil.ignore_patterns("__pycache__"))
            if config is not None:
                (Path(folder) / CONFIG_FILE).write_text(configuration.to_yaml(config), encoding="utf-8")
                command += ["--config", CONFIG_FILE]
        environment: dict[str, Any] = {"working_dir": folder, "env_vars": {STOP_WAIT: stop_wait_seconds()}}
        if pip is not None:
            environment["pip"] = pip
        return _retrying(lambda: client.submit_job(entrypoint=shlex.join(command), runtime_env=environment))


def stop_wait_seconds() -> str:
    """As this command's environment says. Raises ``UserError`` for what Ray would not understand."""
    seconds = os.environ.get(STOP_WAIT, STOP_WAIT_SECONDS)
    if not seconds.isdecimal():
        raise UserError(f"{STOP_WAIT}: {seconds!r} is not a whole number of seconds")
    return seconds


def _retrying(start: Callable[[], str]) -> str:
    deadline = time.monotonic() + AGENT_PATIENCE_SECONDS
    while True:
        try:
            return start()
        except RuntimeError as error:
            if "No available agent" not in str(error) or time.monotonic() > deadline:
                reason = " ".join(str(error).split())[:300]
                raise UserError(f"the cluster refuses the job: {reason}") from None
        time.sleep(1.0)


def follow(client: JobSubmissionClient, submission: str, write: Callable[[str], None]) -> int:
    """Pass the job's output to ``write`` until it ends; returns its exit code, 1 where it has none."""

    async def tail() -> None:
        async for lines in client.tail_job_logs(submission):
            write(lines)

    asyncio.run(tail())
    while not (status := client.get_job_status(submission)).is_terminal():
        time.sleep(STATUS_POLL_SECONDS)
    code = client.get_job_info(submission).driver_exit_code
    if code is not None:
        return int(code)
    return 0 if status == JobStatus.SUCCEEDED else 1

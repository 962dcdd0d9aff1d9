"""Submit a job of this project to a Ray cluster, follow its log, and exit with its exit code.

config → checked here → a small folder with our packages and the configuration → Ray's job API → log → exit code

The folder is the job's working directory on every node, which is how the packages reach the workers.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

import pipeline
from pipeline import config as configuration
from pipeline.cluster.entry import PYTHON
from pipeline.cluster.job_api import (
    ADDRESS_VARIABLES,
    MODE,
    TOKEN,
    TOKEN_PATH,
    ClusterFailedError,
    JobApi,
    LostJobError,
    reason,
    token_mode,
    token_place,
)
from pipeline.config import Config
from pipeline.errors import UserError, without_keys
from pipeline.files import telling_of_writes

PROJECT = Path(pipeline.__file__).resolve().parent.parent
PACKAGES = ("pipeline", "jobs")
CONFIG_FILE = "job.yaml"
# for some seconds after its start, a cluster has no agent to run a job
AGENT_PATIENCE_SECONDS = 30.0
STATUS_POLL_SECONDS = 0.3
# how long Ray lets a stopped job continue after SIGTERM before killing it: 3 s unless the job asks for more, too few
# for a step, a checkpoint and the last lines. What a run has not saved by then, it computes again.
STOP_WAIT, STOP_WAIT_SECONDS = "RAY_JOB_STOP_WAIT_TIME_S", "120"
# What Ray calls at the start of each of a job's processes. Its documented field, `worker_process_setup_hook`, reaches
# only the workers, not the supervisor, which starts the entry point; the variable that Ray turns the field into reaches
# both. A Ray that does not know it starts the entry point with the first `python` on the head's PATH.
SETUP_HOOK = {"__RAY_WORKER_PROCESS_SETUP_HOOK_ENV_VAR": "pipeline.cluster.entry.remember_python"}
# how Ray's client and requests report an answer that they do not accept
STATUS = r"(?s)(?:status code )?(?P<status>[45]\d\d)(?:: | \w+ Error: )(?P<answer>.*)"
UNANSWERED = (AuthenticationError, requests.RequestException, aiohttp.ClientError, OSError, RuntimeError)


@contextmanager
def telling_of_answers(api: JobApi) -> Iterator[None]:
    """Say in one sentence why Ray's client did not get an answer that it can use.

    Raises:
        UserError: nothing is there, or something else, or it does not let us in.
        ClusterFailedError: it says that it failed.
    """
    try:
        yield
    except AuthenticationError as error:
        raise api.refusal(403 if "Authentication failed" in str(error) else 401, str(error)) from None
    except (requests.exceptions.InvalidHeader, UnicodeEncodeError):
        raise UserError(f"{token_place()}: holds no token, but characters that no token has") from None
    except (requests.JSONDecodeError, KeyError, TypeError):
        raise UserError(api.stranger()) from None
    except (requests.HTTPError, RuntimeError) as error:
        if found := re.search(STATUS, str(error)):
            raise api.refusal(int(found["status"]), found["answer"]) from None
        raise UserError(api.silence(error)) from None
    except (ConnectionError, requests.RequestException) as error:
        raise UserError(api.silence(error)) from None
    except ValueError as error:
        raise UserError(f"{api.origin}: {api.name} cannot be used: {reason(error)}") from None


def connect(api: JobApi) -> JobSubmissionClient:
    """Return a client of the job API. Raises what ``telling_of_answers`` raises."""
    for name in ("ray", "ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if api.address is not None:
        os.environ[ADDRESS_VARIABLES[0]] = api.address  # else RAY_ADDRESS would win over the address that is asked for
    with telling_of_answers(api):
        return JobSubmissionClient(api.address)


def submit(
    client: JobSubmissionClient,
    api: JobApi,
    job: str,
    arguments: Sequence[str],
    *,
    config: Config | None,
    pip: str | None = None,
) -> str:
    """Start the job on the cluster, with the Python of the cluster's Ray; returns the submission's id.

    Args:
        config: sent along as the job's --config, so that the file itself need not be in the project.
        pip: a requirements file that Ray installs for the job on every node.

    Raises:
        UserError: the cluster refuses the job, its folder cannot be put together, or what ``stop_wait_seconds`` raises.
        ClusterFailedError: the cluster failed.
    """
    command = [job, *arguments]
    with tempfile.TemporaryDirectory() as folder:
        with telling_of_writes(folder):
            for package in PACKAGES:
                shutil.copytree(PROJECT / package, Path(folder) / package, ignore=shutil.ignore_patterns("__pycache__"))
            if config is not None:
                (Path(folder) / CONFIG_FILE).write_text(configuration.to_yaml(config), encoding="utf-8")
                command += ["--config", CONFIG_FILE]
        environment: dict[str, Any] = {
            "working_dir": folder,
            "env_vars": {STOP_WAIT: stop_wait_seconds(), **SETUP_HOOK},
        }
        if pip is not None:
            environment["pip"] = pip
        entry_point = f'"${{{PYTHON}:-python}}" -m pipeline.cluster.entry {shlex.join(command)}'
        with telling_of_answers(api):
            return _retrying(lambda: client.submit_job(entrypoint=entry_point, runtime_env=environment))


def stop_wait_seconds() -> str:
    """The seconds that the environment asks for, or ours. Raises ``UserError`` for what Ray would not understand."""
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
                raise
        time.sleep(1.0)


def follow(client: JobSubmissionClient, submission: str, write: Callable[[str], None]) -> int:
    """Pass the job's output to ``write`` until it ends; returns its exit code, as a shell reports it.

    Raises:
        LostJobError: the connection to the cluster is lost.
        ClusterFailedError: the job ended without an exit code.
    """

    async def tail() -> None:
        output = aiter(client.tail_job_logs(submission))
        while True:
            with telling_of_loss(submission):
                try:
                    lines = await anext(output)
                except StopAsyncIteration:
                    return
            write(lines)

    asyncio.run(tail())
    with telling_of_loss(submission):
        while not (job := client.get_job_info(submission)).status.is_terminal():
            time.sleep(STATUS_POLL_SECONDS)
    if job.driver_exit_code is not None:
        code = int(job.driver_exit_code)
        return code if code >= 0 else 128 - code
    if job.status == JobStatus.SUCCEEDED:
        return 0
    if job.status == JobStatus.STOPPED:
        raise ClusterFailedError(f"{submission} was stopped")
    raise ClusterFailedError(f"{submission} could not be run: {' '.join(str(job.message).split())[-1000:]}")


@contextmanager
def telling_of_loss(submission: str) -> Iterator[None]:
    """Raise ``LostJobError`` if Ray's client does not get an answer while a job is followed."""
    try:
        yield
    except UNANSWERED as error:
        why = f"it answers {error.status}" if isinstance(error, aiohttp.ClientResponseError) else reason(error)
        raise LostJobError(
            f"{submission} can no longer be followed ({why}); it continues if its cluster does"
        ) from None


def what_next(client: JobSubmissionClient, api: JobApi, submission: str) -> str:
    """The commands that follow and stop a job, to be pasted; they name a token's place, never the token."""
    address = shlex.quote(without_keys(client.get_address()))
    settings, option = ([f"{ADDRESS_VARIABLES[0]}={address}"], "") if api.has_rival else ([], f" --address {address}")
    if token_mode():
        settings.append(f"{MODE}=token")
        if token_place() == os.environ.get(TOKEN_PATH):
            settings.append(f"{TOKEN_PATH}={shlex.quote(os.path.abspath(token_place()))}")
    ray = "ray" if shutil.which("ray") else shlex.quote(str(Path(sys.executable).parent / "ray"))
    command = " ".join([*settings, ray])
    lines = [
        f"  follow: {command} job logs --follow{option} {submission}",
        f"  stop:   {command} job stop{option} {submission}",
    ]
    if token_mode() and token_place() == TOKEN:
        lines.append(f"  (with {TOKEN} set as it is here)")
    return "\n".join(lines)

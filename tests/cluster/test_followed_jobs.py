"""How a submitted job is followed and stopped, what is said about its end, and how it starts on the cluster."""

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from ray.job_submission import JobStatus

from pipeline.cluster import submit as submission
from pipeline.cluster.job_api import ClusterFailedError, JobApi, LostJobError
from tests.cluster.fake_heads import Answer, fake_head
from tests.cluster.submitting import HEAD, SUBMITTED, submitted, without_variables

PROJECT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _no_variables_of_ray(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    without_variables(monkeypatch, tmp_path)


def test_a_job_that_is_not_followed_says_how_to_follow_and_to_stop_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with fake_head(**HEAD, answers={"POST /api/jobs/": SUBMITTED}) as head, fake_head(**HEAD) as other:
        monkeypatch.setattr(submission.shutil, "which", lambda name: f"/somewhere/{name}")
        left, said = submitted(capsys, "--address", head.address + "/", "--no-wait")
        assert (left, said) == (
            0,
            "submitted raysubmit_1\n"
            f"  follow: ray job logs --follow --address {head.address} raysubmit_1\n"
            f"  stop:   ray job stop --address {head.address} raysubmit_1\n",
        )
        # Ray prefers its variables to a given address: here and in the printed commands the option wins
        monkeypatch.delenv("RAY_API_SERVER_ADDRESS")
        monkeypatch.setenv("RAY_ADDRESS", other.address)
        left, said = submitted(capsys, "--address", head.address, "--no-wait")
        assert f"  stop:   RAY_API_SERVER_ADDRESS={head.address} ray job stop raysubmit_1\n" in said
        assert not other.requests


@pytest.mark.parametrize(
    ("settings", "stop"),
    [
        ({"RAY_AUTH_TOKEN": "abc"}, " ray job stop --address http://h:1 x\n  (with RAY_AUTH_TOKEN set as it is here)"),
        ({"RAY_AUTH_TOKEN_PATH": "/a b"}, " RAY_AUTH_TOKEN_PATH='/a b' ray job stop --address http://h:1 x"),
        ({}, " ray job stop --address http://h:1 x"),
    ],
)
def test_the_commands_have_the_settings_of_the_token(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], stop: str
) -> None:
    monkeypatch.setattr(submission.shutil, "which", lambda name: f"/somewhere/{name}")
    for name, value in {"RAY_AUTH_MODE": "token", **settings}.items():
        monkeypatch.setenv(name, value)
    client: Any = SimpleNamespace(get_address=lambda: "http://h:1")
    assert submission.what_next(client, JobApi("http://h:1", "--address"), "x").endswith(
        f"  stop:   RAY_AUTH_MODE=token{stop}"
    )


def test_a_job_whose_head_is_lost_is_said_to_go_on_if_its_cluster_does(capsys: pytest.CaptureFixture[str]) -> None:
    with fake_head(**HEAD, answers={"POST /api/jobs/": SUBMITTED, "GET /api/jobs/": Answer(500)}) as head:
        left, said = submitted(capsys, "--address", head.address)
    assert left == 1
    assert (
        "error: raysubmit_1 can no longer be followed (it answers 500); it continues if its cluster does\n  follow: "
        in said
    )
    assert f"job stop --address {head.address} raysubmit_1\n" in said


def client_of(*output: str, error: BaseException | None = None, **ending: Any) -> Any:
    """A client of a job that writes ``output`` and ends with ``ending``, or whose log breaks off with ``error``."""

    async def tail_job_logs(name: str) -> AsyncIterator[str]:
        for lines in output:
            yield lines
        if error is not None:
            raise error

    ended = {"status": JobStatus.FAILED, "driver_exit_code": None, "message": None, **ending}
    return SimpleNamespace(tail_job_logs=tail_job_logs, get_job_info=lambda name: SimpleNamespace(**ended))


@pytest.mark.parametrize(("code", "given"), [(0, 0), (2, 2), (137, 137), (-9, 137), (-15, 143)])
def test_following_a_job_shows_its_output_and_returns_its_exit_code(code: int, given: int) -> None:
    written: list[str] = []
    assert submission.follow(client_of("a\n", "b\n", driver_exit_code=code), "x", written.append) == given
    assert written == ["a\n", "b\n"]


def test_a_job_without_an_exit_code_says_why() -> None:
    with pytest.raises(ClusterFailedError, match=r"^x could not be run: pip failed$"):
        submission.follow(client_of(message="pip\nfailed"), "x", print)
    with pytest.raises(ClusterFailedError, match=r"^x was stopped$"):
        submission.follow(client_of(status=JobStatus.STOPPED), "x", print)
    with pytest.raises(LostJobError, match=r"^x can no longer be followed \(gone\); it continues if its cluster does$"):
        submission.follow(client_of("a", error=requests.ConnectionError("gone")), "x", print)


def test_an_interrupted_follower_says_that_the_job_goes_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(submission, "follow", interrupted)
    with fake_head(**HEAD, answers={"POST /api/jobs/": SUBMITTED}) as head:
        left, said = submitted(capsys, "--address", head.address)
    assert left == 130
    assert "no longer following; the job continues.\n  follow: " in said
    assert f"job stop --address {head.address} raysubmit_1\n" in said


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python of this version with only its standard library."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    return folder / "bin" / "python"


def test_a_python_that_lacks_what_the_project_needs_says_so(bare_python: Path) -> None:
    command = [bare_python, "-m", "pipeline.cluster.entry", "prepare", "--config", "job.yaml"]
    ended = subprocess.run(command, cwd=PROJECT, env={}, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"error: {bare_python}, the Python that this cluster runs jobs with, has no module ")
    assert ended.stderr.count("\n") == 1


def test_the_entry_point_runs_a_job_as_python_m_does() -> None:
    command = [sys.executable, "-m", "pipeline.cluster.entry", "evaluate", "--run", "/nowhere", "--streams", "x"]
    ended = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (2, "error: --streams: 'x' is not a whole number\n")

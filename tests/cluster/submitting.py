"""``jobs.submit`` in this process, and what the head of a cluster that takes the job answers."""

import json
from pathlib import Path

import pytest

from jobs.shared.cli import run_job
from jobs.submit import main
from tests.cluster.fake_heads import VERSION, Answer

SUBMITTED = Answer(200, json.dumps({"job_id": "raysubmit_1", "submission_id": "raysubmit_1"}))
HEAD = {"version": Answer(200, VERSION), "others": Answer(200)}


def without_variables(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """Let no variable of Ray be set, and no token lie in the home folder."""
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, "")  # so that what the command itself sets is undone, too
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))


def submitted(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Exit code of ``jobs.submit generate …`` in this process, and what it says."""
    try:
        run_job(main, ["generate", "--run", "/mnt/run", *arguments])
        code = 0
    except SystemExit as left:
        code = int(left.code or 0)
    return code, capsys.readouterr().err

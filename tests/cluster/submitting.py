"""``jobs.submit`` in this process, and the answers of a head that accepts the job."""

import json
from pathlib import Path

import pytest

from jobs.shared.cli import run_job
from jobs.submit import main
from tests.cluster.fake_heads import VERSION, Answer

SUBMITTED = Answer(200, json.dumps({"job_id": "raysubmit_1", "submission_id": "raysubmit_1"}))
HEAD = {"version": Answer(200, VERSION), "others": Answer(200)}


def without_variables(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """Unset all of Ray's variables, and take a home folder without a token."""
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, "")  # so that what the command itself sets is undone too
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

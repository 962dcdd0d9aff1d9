"""Any mistake in any command: exit code 2, one to six lines, no traceback, nothing written, and at once.

Each command has one to three mistakes, drawn from its own number, which a failure names. The slow test tries thousands.
"""

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.shared.cli import run_job
from pipeline import config as configuration
from pipeline import launch
from tests.documents import PROJECT
from tests.mistakes import JOBS, WHOLE, Drawn


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, tiny_text: Path) -> Iterator[Path]:
    """The folder in which every command is run, with a text, a run, and files that are neither."""
    folder = tmp_path_factory.mktemp("here")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        (folder / "text.txt").write_text(tiny_text.read_text())
        (folder / "prompts.txt").write_text("the cat\n")
        sizes = ["model.hidden_size=8", "model.num_layers=1", "train.batch_size=4", "train.bptt=8", "train.max_steps=2"]
        small = ["run.directory=run", "data.directory=data", "run.sample_tokens=0", *sizes]
        config = configuration.load(None, [*WHOLE["train"], *small])
        launch.train(config, launch.in_process)
        for name in ("folder/inner", "broken/checkpoints/step-00000001", "deep"):
            (folder / name).mkdir(parents=True)
        (folder / "empty.txt").touch()
        (folder / "binary").write_bytes(random.Random(1).randbytes(999))
        (folder / "broken/checkpoints/step-00000001/manifest.json").write_text('{"kind": "checkpoint"}')
        (folder / "deep/manifest.json").write_text("[" * 3000 + "]" * 3000)
        for name in ("deep.jsonl", "deep.json"):
            (folder / name).write_text('{"text": "a", "tree": ' + "[" * 3000 + "]" * 3000 + "}\n")
        yield folder


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file below ``folder``."""
    found = {}
    for place, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            facts = os.lstat(os.path.join(place, name))
            found[os.path.join(place, name)] = (facts.st_size if name in files else 0, facts.st_mtime_ns)
    return found


def check(code: object, error: str) -> None:
    assert code == 2, (code, error)
    lines = error.rstrip("\n").split("\n")
    assert error.count("error: ") >= 1, error
    assert "Traceback" not in error, error
    assert 1 <= len(lines) <= 6, error
    assert all(line.isprintable() and len(line) <= 1000 for line in lines), lines


def many(usual: int, slow: int) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("number", [usual, pytest.param(slow, marks=pytest.mark.slow)])


@many(30, 1500)
@pytest.mark.parametrize("job", JOBS)
def test_commands_with_mistakes(
    job: str, number: int, here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(here)
    for index in range(number):
        drawn = Drawn(job, random.Random(f"{job} {index}"))
        (here / "drawn").write_bytes(drawn.content)
        before, started = contents(here), time.process_time()
        told = f"number {index}: python -m jobs.{job} {drawn.argv}, drawn: {drawn.content[:80]!r}"
        try:
            run_job(JOBS[job].main, drawn.argv)
            pytest.fail(f"taken, {told}")
        except SystemExit as left:
            code: object = left.code
        except Exception as error:
            raise AssertionError(told) from error
        seconds = time.process_time() - started  # of this process only, because others may keep the machine busy
        try:
            check(code, capfd.readouterr().err)
        except AssertionError as error:
            raise AssertionError(told) from error
        assert contents(here) == before, told
        assert seconds < 10, told


@pytest.mark.parametrize(
    "argv",
    [
        ["train", "--lr", "0.1"],
        ["search", "search.metric=loss", "run.seed=1"],
        ["prepare", "--config", "drawn"],
        ["generate", "--run", "run", "--temperature", "nan"],
        ["evaluate", "--run", "none"],
        ["generate", "--run", "run", "--prompt", "Ж"],
    ],
)
def test_processes_with_mistakes(argv: list[str], here: Path) -> None:
    (here / "drawn").write_text("[" * 20_000)
    before = contents(here)
    job, *options = argv
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-m", f"jobs.{job}", *options]
    ran = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, check=False)
    check(ran.returncode, ran.stderr)
    assert ran.stdout == ""
    assert contents(here) == before

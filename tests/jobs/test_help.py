"""The command ``recurray``, and help: a screen for each command, every setting in words."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs import settings
from jobs.__main__ import COMMANDS, overview
from jobs.settings import settings_text
from jobs.shared.cli import run_job
from pipeline.config import Config, section_fields

# 80 columns; a terminal shows 40 lines or scrolls by a few
COLUMNS, LINES = 80, 42


def shown_by(command: list[str]) -> str:
    return subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=True).stdout


def test_recurray_lists_every_command() -> None:
    no_commands = {"__init__", "__main__", "__pycache__", "shared", "terminal"}
    assert {path.stem for path in Path("jobs").iterdir()} - no_commands == set(COMMANDS)
    lines = overview().splitlines()
    for command in COMMANDS:
        (line,) = (line for line in lines if line.startswith(f"  {command} "))
        assert len(line) <= COLUMNS
        assert line.endswith(".")


def test_recurray_does_the_same_as_the_module() -> None:
    argv = ["model.cell", "train.bptt", "--json"]  # for a command that starts quickly
    ours, module = shown_by(["jobs", "settings", *argv]), shown_by(["jobs.settings", *argv])
    assert ours == module
    assert list(json.loads(ours.splitlines()[-1])) == argv[:2]


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["tarin"], "tarin: no such command; did you mean train? (see recurray --help)"),
        (["train", "--nonsense"], "recurray train: unrecognized arguments: --nonsense (see --help)"),
        (["settings", "hidden_size"], "hidden_size: no such section or setting; did you mean model.hidden_size?"),
    ],
)
def test_mistakes(argv: list[str], sentence: str) -> None:
    left = subprocess.run([sys.executable, "-m", "jobs", *argv], capture_output=True, text=True)
    assert (left.returncode, left.stdout, left.stderr) == (2, "", f"error: {sentence}\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_a_screen(command: str) -> None:
    lines = shown_by([f"jobs.{command}", "--help"]).splitlines()
    assert lines[0].startswith(f"usage: python -m jobs.{command} ")
    assert len(lines) <= LINES
    assert max(map(len, lines)) <= COLUMNS


def test_every_setting_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    run_job(settings.main, ["--json"])
    *lines, result = capsys.readouterr().out.splitlines()
    assert (
        lines == settings_text().splitlines() == shown_by(["jobs.train", "--help", "all"]).splitlines()[-len(lines) :]
    )
    described = json.loads(result)
    text = " ".join(" ".join(lines).split())
    for section in Config.model_fields:
        for name, field in section_fields(section).items():
            assert f"{section}.{name}: " in text
            assert " ".join(field.description.split()) in text
            assert described[f"{section}.{name}"]["default"] == field.get_default(call_default_factory=True)
    # neither pydantic's objects nor Python's names of types
    words = {word for each in described.values() for word in re.findall(r"\w+", each["type"] + " " + each["range"])}
    assert not words & {
        "FieldInfo",
        "NoneType",
        "metadata",
        "annotation",
        "Literal",
        "Annotated",
        "str",
        "int",
        "float",
    }


@pytest.mark.parametrize(
    ("name", "words", "bounds"),
    [
        ("model.cell", "rnn | lstm | gru | gru_reset_before | mingru | minlstm | qrnn | slstm | transformer", ""),
        ("model.dropout", "number", "at least 0, below 1"),
        ("model.hidden_size", "whole number or list of whole numbers", "from 1 to 100,000"),
        ("corpus.weights", "list of numbers, each above 0, at most 10,000 or null", ""),
        ("corpus.train", "list of texts", "not empty"),
        ("cluster.num_workers", "whole number or auto", "at least 1"),
        ("model.num_layers", "whole number", "at least 1, at most 1,000"),
        ("train.tf32", "true or false", ""),
    ],
)
def test_types_and_ranges_in_words(name: str, words: str, bounds: str) -> None:
    described: dict[str, Any] = settings.main([name])
    assert list(described) == [name]
    assert (described[name]["type"], described[name]["range"]) == (words, bounds)


def test_help_for_one_section() -> None:
    text = shown_by(["jobs.train", "--help", "ddp"])
    assert "ddp.communication: " in text
    assert "train.bptt: " not in text

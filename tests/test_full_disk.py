"""A full disk under each command: a sentence, exit code 2, and existing files stay as they were."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from jobs import compress, evaluate, generate, gradients, prepare, train
from jobs.shared.cli import run_job
from pipeline import config as configuration
from pipeline import launch
from pipeline.config import Config

ROOM = 1000  # bytes per file; each of the files below needs more


def contents(folder: Path) -> dict[str, bytes]:
    """The contents of all files below ``folder``, including hidden ones."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("job", "options", "output"),
    [
        (generate, ["--tokens", "40", "--samples", "20", "--output"], "texts.jsonl"),
        (evaluate, ["--surprisal"], "rows.parquet"),
        (gradients, ["--windows", "1", "--figure"], "flow.png"),
        (compress, ["--tokens", "5", "--prune", "0.5", "--output"], "small"),
    ],
)
def test_a_result_without_room_leaves_the_former_one(
    make_config: Callable[..., Config],
    tmp_path: Path,
    file_size_limit: Callable[[int], None],
    capsys: pytest.CaptureFixture[str],
    job: ModuleType,
    options: list[str],
    output: str,
) -> None:
    config = make_config({"train.max_steps": 5, "model.hidden_size": 32})
    launch.train(config, launch.in_process)
    results = tmp_path / "results"
    results.mkdir()
    arguments = ["--run", str(config.run.directory), *options, str(results / output)]
    run_job(job.main, arguments)
    before = contents(results)
    file_size_limit(ROOM)
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        run_job(job.main, arguments)
    file_size_limit(-1)
    assert left.value.code == 2
    said = capsys.readouterr().err
    option = options[-1]
    sentence = rf"error: {option}: {re.escape(str(results))}/{output}\S* cannot be written: File too large$"
    assert re.match(sentence, said.rstrip()), said
    assert said.count("\n") == 1
    assert contents(results) == before
    assert not any(path.name.startswith(".") for path in results.rglob("*"))
    run_job(job.main, arguments)  # there is room again
    assert contents(results).keys() == before.keys()


def settings_of(config: Config) -> list[str]:
    """The command-line overrides that give ``config``."""
    return [
        f"{section}.{name}={json.dumps(value)}"
        for section, values in configuration.dump(config).items()
        for name, value in values.items()
    ]


@pytest.mark.parametrize("job", [prepare, train])
@pytest.mark.parametrize("room", [0, 3000])
def test_a_start_without_room_is_refused_in_a_sentence_and_succeeds_later(
    make_config: Callable[..., Config],
    tmp_path: Path,
    file_size_limit: Callable[[int], None],
    capsys: pytest.CaptureFixture[str],
    job: ModuleType,
    room: int,
) -> None:
    config = make_config({"train.max_steps": 4})
    argv = settings_of(config)
    file_size_limit(room)
    with pytest.raises(SystemExit) as left:
        run_job(job.main, argv)
    file_size_limit(-1)
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert re.fullmatch(r"error: (run\.directory: )?\S+ cannot (be written|write).*: File too large.*\n", said), said
    run_job(job.main, argv)
    assert "error" not in capsys.readouterr().err
    before = contents(tmp_path)
    file_size_limit(0)
    if job is train:  # the run is finished, but its owner cannot be written down
        with pytest.raises(SystemExit):
            run_job(job.main, argv)
        assert re.fullmatch(r"error: run\.directory: cannot write to \S+: File too large\n", capsys.readouterr().err)
    else:
        run_job(job.main, argv)
    file_size_limit(-1)
    after = contents(tmp_path)
    assert {name for name in before if before[name] != after.get(name)} <= {"run/owner"}
    assert after.keys() == before.keys()

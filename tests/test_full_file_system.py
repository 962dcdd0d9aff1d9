"""A real file system of two megabytes is full under each command; then it has room, and the same command continues.

Needs the right to mount one; without it the tests are skipped and say so.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from pipeline import config as configuration
from pipeline.config import Config
from pipeline.training import checkpoint
from pipeline.training.monitor import read

pytestmark = pytest.mark.slow
BLOCK = 4096


class Disk:
    """A file system that can be filled to its last block."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.filling = path / "filling"

    def fill(self, *, leave: int = 0) -> None:
        """Leave room for ``leave`` blocks."""
        with self.filling.open("wb", buffering=0) as stream:
            with suppress(OSError):  # no space left
                while stream.write(bytes(BLOCK)):
                    pass
            stream.truncate(max(0, stream.tell() - leave * BLOCK))

    def empty(self) -> None:
        self.filling.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    path = tmp_path / "disk"
    path.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(path)], capture_output=True, text=True
    )
    if mount.returncode:
        pytest.skip(f"no small file system can be mounted here: {mount.stderr.strip()}")
    yield Disk(path)
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def command(job: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"jobs.{job}", *arguments]


def ran(job: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the job to its end on one core."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command(job, *arguments), capture_output=True, text=True, env=environment)


def settings_of(config: Config) -> list[str]:
    """The command-line overrides that give ``config``."""
    return [
        f"{section}.{name}={json.dumps(value)}"
        for section, values in configuration.dump(config).items()
        for name, value in values.items()
    ]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_prepare(make_config: Callable[..., Config], disk: Disk, tmp_path: Path) -> None:
    config = make_config({"data.directory": str(disk.path / "data"), "data.shard_tokens": 2000})
    disk.fill(leave=4)
    failed = ran("prepare", *settings_of(config))
    assert failed.returncode == 2
    assert re.search(r"^error: \S+: cannot be written: No space left on device; .* continues\n$", failed.stderr, re.M)
    assert not [name for name in contents(disk.path / "data") if name.startswith(".")]
    disk.empty()
    assert ran("prepare", *settings_of(config)).returncode == 0
    elsewhere = configuration.with_values(config, {"data.directory": str(tmp_path / "elsewhere")})
    assert ran("prepare", *settings_of(elsewhere)).returncode == 0
    assert contents(disk.path / "data") == contents(tmp_path / "elsewhere")


def long_run(make_config: Callable[..., Config], directory: Path, backend: str) -> Config:
    """A run of several seconds, with a checkpoint of about 100 KB every second."""
    return make_config(
        {"run.directory": str(directory), "cluster.backend": backend, "cluster.cpus_per_worker": 1, "train.epochs": 400,
         "train.max_steps": 1500, "model.hidden_size": 24, "train.checkpoint_every_steps": 100,
         "train.evaluate_every_steps": 5000, "run.sample_tokens": 0}
    )  # fmt: skip


def weights(config: Config) -> list[torch.Tensor]:
    return [*checkpoint.load_model(checkpoint.find(str(config.run.directory), "last")).model.parameters()]


@pytest.mark.ray
@pytest.mark.parametrize("backend", ["local", "ray"])
@pytest.mark.parametrize("for_seconds", [2.0, None])
def test_train(
    make_config: Callable[..., Config], disk: Disk, tmp_path: Path, backend: str, for_seconds: float | None
) -> None:
    config = long_run(make_config, disk.path / "run", backend)
    whole = long_run(make_config, tmp_path / "whole", "local")
    assert ran("train", *settings_of(whole)).returncode == 0
    running = subprocess.Popen(command("train", *settings_of(config)), stderr=subprocess.PIPE, text=True)
    while not list(disk.path.glob("run/checkpoints/step-00000200")):
        assert running.poll() is None
        time.sleep(0.01)
    disk.fill()
    if for_seconds is not None:
        time.sleep(for_seconds)
        disk.empty()
    _, said = running.communicate()
    assert "cannot be written (No space left on device); its lines are kept in memory meanwhile" in said
    assert "Traceback" not in said
    if for_seconds is None:
        assert running.returncode == 1
        assert re.search(r"training stopped: a checkpoint could not be written \(.*No space left on device\)", said)
        assert re.search(
            r"the last good checkpoint is \S+step-\d+\); to continue from the last checkpoint:\n  python", said
        )
        refused = ran("train", *settings_of(config))
        assert refused.returncode == 2
        assert re.fullmatch(r"error: run\.directory: .*: No space left on device\n", refused.stderr), refused.stderr
        disk.empty()
        assert ran("train", *settings_of(config)).returncode == 0
    else:
        assert running.returncode == 0
        assert "no line is missing" in said
    steps = [record["step"] for record in read(disk.path / "run" / "metrics.jsonl") if record["kind"] == "train"]
    assert steps == list(range(5, 1501, 5))
    assert all(torch.equal(a, b) for a, b in zip(weights(config), weights(whole), strict=True))


@pytest.mark.ray
def test_search(make_config: Callable[..., Config], disk: Disk, tmp_path: Path) -> None:
    changes = {"cluster.backend": "ray", "search.num_trials": 2, "search.scheduler": "none",
               "search.max_tokens": 40_000, "search.space": {"optimizer.lr": {"uniform": [0.01, 0.02]}},
               "train.epochs": 10}  # fmt: skip
    config = make_config({**changes, "run.directory": str(disk.path / "search")})
    whole = make_config({**changes, "run.directory": str(tmp_path / "whole")})
    assert ran("search", *settings_of(whole)).returncode == 0
    running = subprocess.Popen(command("search", *settings_of(config)), stderr=subprocess.PIPE, text=True)
    journal = disk.path / "search" / "search.jsonl"
    while not journal.exists() or b'"report"' not in journal.read_bytes():
        assert running.poll() is None
        time.sleep(0.01)
    disk.fill()
    _, said = running.communicate()
    assert running.returncode == 2, said
    told = rf"^error: ({journal} could not be written when trials ended|search: none of 2 trials ended well)"
    assert re.search(told, said, re.M), said  # some of its lines may still fit into the last block
    assert "Traceback" not in said
    assert not (disk.path / "search" / "best.yaml").exists()
    refused = ran("search", *settings_of(config))
    assert refused.returncode == 2
    assert re.search(r"^error: .*: No space left on device|" + told, refused.stderr, re.M), refused.stderr
    disk.empty()
    assert ran("search", *settings_of(config)).returncode == 0
    rows = [re.sub(r",\d+\.\d,done,", ",done,", (folder / "leaderboard.csv").read_text())
            for folder in (disk.path / "search", tmp_path / "whole")]  # fmt: skip
    assert rows[0] == rows[1]


@pytest.mark.parametrize(
    ("job", "options", "output"),
    [
        ("generate", ["--tokens", "30", "--samples", "50", "--output"], "texts.jsonl"),
        ("evaluate", ["--surprisal"], "rows.parquet"),
        ("gradients", ["--windows", "1", "--figure"], "flow.png"),
        ("compress", ["--tokens", "5", "--prune", "0.5", "--output"], "small"),
    ],
)
def test_results(make_config: Callable[..., Config], disk: Disk, job: str, options: list[str], output: str) -> None:
    config = make_config({"train.max_steps": 5})
    assert ran("train", *settings_of(config)).returncode == 0
    results = disk.path / "results"
    results.mkdir()
    arguments = ["--run", str(config.run.directory), *options, str(results / output)]
    assert ran(job, *arguments).returncode == 0
    before = contents(results)
    disk.fill()
    failed = ran(job, *arguments)
    assert failed.returncode == 2
    where = rf"(cannot write to )?{results}/{output}\S*( cannot be written)?"
    assert re.fullmatch(rf"error: {options[-1]}: {where}: No space left on device\n", failed.stderr), failed.stderr
    assert contents(results) == before
    disk.empty()
    assert ran(job, *arguments).returncode == 0
    assert contents(results).keys() == before.keys()

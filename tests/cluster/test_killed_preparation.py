"""A preparation killed in the middle continues there, and ends with the same bytes as an undisturbed one."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.slow]

WAIT_SECONDS = 180


def start(texts: Path, directory: Path, cpus: set[int]) -> subprocess.Popen[bytes]:
    """``jobs.prepare`` on these CPUs, with a private Ray of its own."""
    settings = [
        f"corpus.train={texts}", "tokenizer.kind=bpe", "tokenizer.vocab_size=1000", "tokenizer.sample_bytes=500000",
        "data.shard_tokens=65536", f"data.directory={directory}", "cluster.backend=ray",
    ]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return subprocess.Popen(
        [sys.executable, "-m", "jobs.prepare", *settings],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, cpus),
    )  # fmt: skip


def files_of(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir()) if not path.name.startswith(".")}


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs CPU affinity")
def test_killed_with_sigkill_on_one_cpu_and_on_two(tmp_path: Path) -> None:
    source = random.Random(1)
    words = ["".join(source.choices("abcdefghij", k=source.randint(1, 9))) for _ in range(5000)]
    texts = tmp_path / "texts"
    texts.mkdir()
    for number in range(24):
        (texts / f"{number:02d}.txt").write_text("\n".join(" ".join(source.choices(words, k=12)) for _ in range(7000)))
    available = sorted(os.sched_getaffinity(0))
    assert start(texts, tmp_path / "whole", set(available[:2])).wait(WAIT_SECONDS) == 0
    expected = files_of(tmp_path / "whole")
    assert len(expected) > 60
    for cpus in (set(available[:1]), set(available[:2])):
        directory = tmp_path / f"killed on {len(cpus)} of {available}"
        process = start(texts, directory, cpus)
        deadline = time.monotonic() + WAIT_SECONDS
        while len(list(directory.glob("*.index"))) < 6 and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (directory / "manifest.json").exists()
        first = {path.name: path.stat().st_mtime_ns for path in directory.glob("train-*.index")}
        assert 2 < len(first) < len(expected) // 2 - 2
        assert start(texts, directory, cpus).wait(WAIT_SECONDS) == 0
        assert files_of(directory) == expected
        assert all((directory / name).stat().st_mtime_ns == written for name, written in first.items())

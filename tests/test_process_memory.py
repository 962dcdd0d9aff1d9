"""The memory of a process: only its own, whichever process started it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pipeline import process_memory
from pipeline.process_memory import peak_bytes

MEGABYTE = 2**20
HELD = 300 * MEGABYTE
ASK = "from pipeline.process_memory import peak_bytes; print(peak_bytes())"


def test_freed_memory_counts_in_the_peak() -> None:
    held = bytearray(b"1" * HELD)
    del held
    assert peak_bytes() > HELD


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone counts the parent's memory")
def test_the_memory_of_the_starting_process_does_not_count_in_the_peak() -> None:
    held = bytearray(b"1" * HELD)  # all of it is written, so it is resident
    answer = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, check=True)
    assert len(held) == HELD
    assert MEGABYTE < int(answer.stdout) < HELD / 2


def test_without_the_system_s_file_the_peak_comes_from_the_c_library(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setattr(process_memory, "STATUS", process_memory.Path(f"{tmp_path}/none"))
    assert peak_bytes() > MEGABYTE

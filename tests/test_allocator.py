"""Freed memory stays with the process, as few page faults on allocating it again show."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource
import torch
from pipeline.allocator import keep_freed_memory

{call}
faults = []
for _ in range(12):  # the heap has its final shape after a few
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [torch.ones(megabytes * 2**18) for megabytes in (40, 8, 48)]  # 24,576 pages
    del blocks
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(faults[-1])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep freed memory")
def test_large_blocks_cause_page_faults_only_the_first_time() -> None:
    faults = {}
    for call in ("", "assert keep_freed_memory()"):
        command = [sys.executable, "-c", SCRIPT.format(call=call)]
        faults[call] = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert faults["assert keep_freed_memory()"] < 100 < faults[""]

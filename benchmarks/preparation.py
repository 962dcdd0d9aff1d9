"""Time and memory of the command that prepares lines as words, characters or bytes, in turns with another commit's.

    python benchmarks/preparation.py word char byte --before CHECKOUT --folder DIR
    python benchmarks/preparation.py word char byte --before CHECKOUT --folder DIR --on-ray

The text is made once, ``--megabytes`` of this machine's Python sources with ``--types`` different words, a document a
line. Each round is a new process, ``jobs.prepare`` with ``cluster.backend=local``, from its start to its end. The table
has the medians of CPU seconds, of elapsed seconds and of peak memory (RSS), how many times as fast as the other commit
this one is (CPU seconds), and its share of the other's memory. The shards of both are compared. Before the first round
each side prepares a few lines, which do not count.

``--on-ray`` runs it on a private cluster of two CPUs. Memory is then the peak of all processes of the command together,
shared pages counted once (PSS); the CPU seconds are those of the driver alone.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from data import SAMPLE_SECONDS, tree_bytes
from data_variants import texts

NOW, BEFORE = "now", "before"
# Runs a command and prints what it cost. It is a small process, because a process inherits the peak memory of the one
# that starts it
MEASURE = """
import os, sys, time
start = time.perf_counter()
nowhere = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_WRONLY, 0) for number in (1, 2)]
process = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=nowhere)
_, status, usage = os.wait4(process, 0)
print(usage.ru_utime + usage.ru_stime, time.perf_counter() - start, usage.ru_maxrss / 1e3)
sys.exit(status != 0)
"""


class Cost(NamedTuple):
    """CPU seconds, elapsed seconds and megabytes of memory of one command."""

    processor: float
    clock: float
    memory: float


def write_text(path: Path, *, num_bytes: int, num_types: int) -> None:
    """Write the first lines of Python sources that have ``num_types`` different words, again and again."""
    types: set[bytes] = set()
    lines: list[bytes] = []
    for text in texts():
        for line in text.split(b"\n"):
            types.update(line.split())
            lines.append(line)
            if len(types) >= num_types:
                break
        if len(types) >= num_types:
            break
    part = b"\n".join(lines) + b"\n"
    whole = (part * (1 + num_bytes // len(part)))[:num_bytes]
    path.write_bytes(whole[: whole.rfind(b"\n") + 1])


def prepare(kind: str, text: Path, out: Path, checkout: Path, *, on_ray: bool) -> Cost:
    """What the command of ``checkout`` costs."""
    shutil.rmtree(out, ignore_errors=True)
    settings = {"corpus.train": text, "corpus.document": "line", "corpus.valid_fraction": 0, "tokenizer.kind": kind,
                "data.directory": out, "cluster.backend": "local"}  # fmt: skip
    if on_ray:
        settings |= {"cluster.backend": "ray", "cluster.num_workers": 2, "cluster.cpus_per_worker": 1}
    command = [sys.executable, "-m", "jobs.prepare", *(f"{name}={value}" for name, value in settings.items())]
    measuring = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", MEASURE, *command], cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout), "RAY_worker_niceness": "0"},
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    peak = 0
    while on_ray and measuring.poll() is None:
        peak = max(peak, tree_bytes(measuring.pid))
        time.sleep(SAMPLE_SECONDS)
    measured, _ = measuring.communicate()
    if measuring.returncode:
        raise SystemExit(f"{' '.join(command)} failed in {checkout}")
    cost = Cost(*map(float, measured.split()))
    return cost._replace(memory=peak / 1e6) if on_ray else cost


def digest_of(out: Path) -> str:
    """The digest of all shards and the tokenizer."""
    digest = hashlib.sha256()
    for path in sorted(out.iterdir()):
        if path.suffix in (".arrow", ".index") or path.name == "tokenizer.json":
            digest.update(path.read_bytes())
    return digest.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="+", choices=["word", "char", "byte"])
    parser.add_argument("--before", required=True, type=Path, help="a checkout of another commit")
    parser.add_argument("--folder", required=True, type=Path, help="for the text and the corpora; about 500 MB")
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--types", type=int, default=366_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--on-ray", action="store_true", help="with two workers of a private cluster")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    text = arguments.folder.resolve() / f"lines-{arguments.megabytes}-{arguments.types}.txt"
    if not text.exists():
        write_text(text, num_bytes=arguments.megabytes * 1_000_000, num_types=arguments.types)
    few = arguments.folder.resolve() / "few-lines.txt"
    few.write_bytes(b"a line of a text\n" * 100)
    checkouts = {NOW: Path(__file__).resolve().parents[1], BEFORE: arguments.before.resolve()}
    print("| | processor, s: now, before | clock, s | memory, MB | times as fast | of the memory |")
    print("|---|---|---|---|---|---|")
    for kind in arguments.kinds:
        costs: dict[str, list[Cost]] = {name: [] for name in checkouts}
        for checkout in checkouts.values():  # a checkout's modules are compiled the first time that it loads them
            prepare(kind, few, arguments.folder.resolve() / "few", checkout, on_ray=False)
        text.read_bytes()  # so that no command is the first to read it from the disk
        for _ in range(arguments.rounds):
            for name, checkout in checkouts.items():
                out = arguments.folder.resolve() / name
                costs[name].append(prepare(kind, text, out, checkout, on_ray=arguments.on_ray))
        if len({digest_of(arguments.folder / name) for name in checkouts}) > 1:
            raise SystemExit(f"{kind}: not the same shards")
        now, before = (Cost(*map(statistics.median, zip(*costs[name], strict=True))) for name in (NOW, BEFORE))
        print(f"| {kind} | {now.processor:.2f}, {before.processor:.2f} | {now.clock:.1f}, {before.clock:.1f} | "
              f"{now.memory:.0f}, {before.memory:.0f} | {before.processor / now.processor:.2f} | "
              f"{now.memory / before.memory:.2f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()

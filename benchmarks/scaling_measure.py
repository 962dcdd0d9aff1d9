"""Times a step of several models on one and two workers on this machine: ``python benchmarks/scaling_measure.py``.

Writes benchmarks/scaling.json, or the file of ``--to``; ``scaling.py`` fits its formulas to it. Every worker is one
thread and has the same number of streams; workers communicate through gloo.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from communication import build
from scaling_model import Measured

from pipeline.training.utilization import flops_per_token

MEASURED = Path(__file__).with_name("scaling.json")
# (hidden size, types) of two-layer LSTMs, untied: one or the other is large
SHAPES = [(200, 10_000), (400, 10_000), (650, 5_000), (200, 50_000)]
STREAMS, BPTT, WARM_UP, WINDOWS = 10, 35, 3, 12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=MEASURED, metavar="FILE")
    arguments = parser.parse_args()
    found = []
    for hidden_size, vocab_size in SHAPES:
        timed = [time_on(workers, hidden_size, vocab_size) for workers in (1, 2)]
        entry = Measured(
            num_parameters=timed[0]["parameters"],
            flops=timed[0]["flops"],
            seconds_on_1=timed[0]["seconds"],
            seconds_on_2=timed[1]["seconds"],
        )
        print(f"LSTM 2x{hidden_size}, V {vocab_size:,}: {entry.seconds_on_1:.3f} s, on two {entry.seconds_on_2:.3f} s")
        found.append({"hidden_size": hidden_size, "vocab_size": vocab_size, **asdict(entry)})
    arguments.to.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def time_on(workers: int, hidden_size: int, vocab_size: int) -> dict[str, float]:
    """Median seconds of a step on ``workers``, the model's parameters, and the FLOPs of one worker."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.NamedTemporaryFile() as result:
        mp.spawn(time_steps, (workers, port, hidden_size, vocab_size, result.name), nprocs=workers)
        return json.loads(Path(result.name).read_text())


def time_steps(rank: int, workers: int, port: int, hidden_size: int, vocab_size: int, result: str) -> None:
    """Run one of ``workers`` with STREAMS streams each; rank 0 writes the median time of a step to ``result``."""
    torch.set_num_threads(1)
    if workers > 1:
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        dist.init_process_group("gloo", rank=rank, world_size=workers)
    shape = argparse.Namespace(
        hidden_size=hidden_size, vocab_size=vocab_size, workers=workers, batch_size=STREAMS * workers
    )
    timed = build(shape, "full", rank)
    for index in range(WARM_UP + WINDOWS):
        tokens = torch.randint(vocab_size, (BPTT + 1, STREAMS))
        if workers > 1:
            dist.barrier()
        began = time.perf_counter()
        _, _, timed.state = timed.step(
            tokens[:-1], tokens[1:], timed.state, num_targets=BPTT * STREAMS * workers, lr=0.5, index=index
        )
        timed.seconds.append(time.perf_counter() - began)
    if rank == 0:
        model = timed.step.model
        figures = {
            "seconds": statistics.median(timed.seconds[WARM_UP:]),
            "parameters": model.num_parameters,
            "flops": flops_per_token(model) * BPTT * STREAMS,
        }
        Path(result).write_text(json.dumps(figures))
    if workers > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()

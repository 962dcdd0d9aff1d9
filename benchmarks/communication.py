"""Ways to average gradients, side by side on local gloo workers: ``python benchmarks/communication.py``.

Every variant is its own training step, from the same weights on the same tokens; they take turns window by window in
the same processes. ``waiting`` is communication that the backward pass does not hide. The loopback of one machine is a
fast network: on a slower one the bytes count for more. Letters: T time, B streams, V vocabulary, W workers.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from pipeline.config import DdpConfig, ModelConfig, OptimizerConfig
from pipeline.model.language_model import LanguageModel
from pipeline.training.clipping import Clipping
from pipeline.training.optimizers import build_optimizer
from pipeline.training.step import TrainingStep

WARM_UP = 3

VARIANTS: dict[str, tuple[dict[str, Any], bool]] = {
    "full": ({}, False),
    "ordered": ({"communication": "ordered"}, False),
    "bf16": ({"communication": "bf16"}, False),
    "PowerSGD, rank 4": ({"communication": "powersgd", "powersgd_after_steps": 0}, False),
    "full, embedding as rows": ({}, True),
}


@dataclass
class Timed:
    """A variant on this rank, with the times it took."""

    step: TrainingStep
    state: Any
    seconds: list[float]
    waiting: list[float]


def build(arguments: argparse.Namespace, name: str, rank: int) -> Timed:
    settings, rows = VARIANTS[name]
    torch.manual_seed(0)
    model = LanguageModel(
        ModelConfig(cell="lstm", hidden_size=arguments.hidden_size, num_layers=2), arguments.vocab_size
    )
    step = TrainingStep(
        model,
        build_optimizer(OptimizerConfig(name="sgd", lr=1.0), model),
        clipping=Clipping(norm=0.25),
        precision="float32",
        seed=1,
        batch_size=arguments.batch_size,
        embedding_rows=rows,
        ddp=DdpConfig(**settings) if arguments.workers > 1 else None,
        rank=rank,
        world_size=arguments.workers,
    )
    if step.exchange is not None:
        step.exchange.settled(0)
    return Timed(step, model.initial_state(arguments.batch_size // arguments.workers), [], [])


def work(rank: int, port: int, arguments: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    if arguments.workers > 1:
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        dist.init_process_group("gloo", rank=rank, world_size=arguments.workers)
    alone = ("full", "full, embedding as rows")  # the variants that differ on a single worker
    names = VARIANTS if arguments.workers > 1 else alone
    variants = {name: build(arguments, name, rank) for name in names}
    generator = torch.Generator().manual_seed(rank)
    zipf = 1 / torch.arange(1, arguments.vocab_size + 1, dtype=torch.float64)
    shape = (arguments.bptt + 1, arguments.batch_size // arguments.workers)
    for index in range(WARM_UP + arguments.windows):
        tokens = torch.multinomial(zipf, shape[0] * shape[1], replacement=True, generator=generator).view(shape)
        for timed in variants.values():
            if arguments.workers > 1:
                dist.barrier()
            began = time.perf_counter()
            timed.step.times.start()
            _, _, timed.state = timed.step(
                tokens[:-1], tokens[1:], timed.state, num_targets=arguments.bptt * arguments.batch_size, lr=0.5,
                index=index,
            )  # fmt: skip
            timed.seconds.append(time.perf_counter() - began)
            timed.waiting.append(timed.step.times.take()["communication_ms"])
    if rank == 0:
        report(arguments, variants)
    if arguments.workers > 1:
        dist.destroy_process_group()


def report(arguments: argparse.Namespace, variants: dict[str, Timed]) -> None:
    print(f"LSTM 2x{arguments.hidden_size}, B {arguments.batch_size}, T {arguments.bptt}, V {arguments.vocab_size:,}, "
          f"{arguments.workers} workers of one thread, medians of {arguments.windows} windows")  # fmt: skip
    print(f"{'':>26}  {'ms a window':>11}  {'of full':>7}  {'ms waiting':>10}")
    usual = statistics.median(variants["full"].seconds[WARM_UP:])
    for name, timed in variants.items():
        seconds = statistics.median(timed.seconds[WARM_UP:])
        waiting = statistics.median(timed.waiting[WARM_UP:])
        print(f"{name:>26}  {1000 * seconds:>11.1f}  {seconds / usual:>7.2f}  {waiting:>10.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--hidden-size", type=int, default=200)
    parser.add_argument("--vocab-size", type=int, default=10_000)
    parser.add_argument("--batch-size", type=int, default=20, help="of all workers")
    parser.add_argument("--bptt", type=int, default=35)
    parser.add_argument("--windows", type=int, default=15)
    arguments = parser.parse_args()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(work, (port, arguments), nprocs=arguments.workers)


if __name__ == "__main__":
    main()

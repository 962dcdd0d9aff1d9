"""Heads for a large vocabulary, side by side: ``python benchmarks/heads.py``.

Peak memory of a loss and its gradient, each head in a fresh process, divided by that of the output matrix, its gradient
and one chunk of logits; and tokens/s of a loss and its gradient, the heads in turns in one process. ``textbook`` is
``F.cross_entropy`` of ``F.linear``; the loss of ``softmax`` must be the same, or the benchmark fails. Targets are
Zipf-distributed. Letters: N tokens, H hidden, V vocabulary.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.config import ModelConfig
from pipeline.model.head import Softmax, build_head
from pipeline.model.head.cross_entropy import MOST_LOGITS
from pipeline.process_memory import peak_bytes, status_bytes

HEADS = ("textbook", "softmax", "adaptive, tied", "adaptive, untied", "mixture of 3")
MEGABYTE = 2**20
TOLERANCE = 1e-4  # of the losses, in nats


def build(name: str, hidden_size: int, vocab_size: int) -> tuple[nn.Module, Callable[[Tensor, Tensor], Tensor]]:
    """A head, tied unless its name says otherwise, and its loss."""
    kind = {"adaptive, tied": "adaptive", "adaptive, untied": "adaptive", "mixture of 3": "mixture"}.get(
        name, "softmax"
    )
    tied_to = None if name == "adaptive, untied" else nn.Parameter(torch.empty(vocab_size, hidden_size))
    config = ModelConfig(head=kind, num_experts=3)  # type: ignore[arg-type]
    head = build_head(config, hidden_size, hidden_size, vocab_size, tied_to=tied_to)
    head.reset_parameters()
    if name != "textbook":
        return head, head.loss
    assert isinstance(head, Softmax)
    softmax = head
    return head, lambda h, t: F.cross_entropy(F.linear(h, softmax.weight, softmax.bias), t, reduction="sum")


def batch(arguments: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """(N, H) and (N,)."""
    torch.manual_seed(1)
    weights = 1 / torch.arange(1, arguments.vocab_size + 1, dtype=torch.float64)
    targets = torch.multinomial(weights, arguments.tokens, replacement=True)
    return torch.randn(arguments.tokens, arguments.hidden_size, requires_grad=True), targets


def measure_memory(arguments: argparse.Namespace) -> dict[str, float]:
    """In a fresh process: the peak beyond what torch itself takes, after one loss and gradient."""
    hidden, targets = batch(arguments)
    # set up threads, kernels and autograd before counting begins
    warm, loss = build("softmax", 8, 100)
    loss(torch.randn(9, 8, requires_grad=True), torch.zeros(9, dtype=torch.int64)).backward()
    del warm, loss
    before = status_bytes("VmRSS")
    head, loss = build(arguments.worker, arguments.hidden_size, arguments.vocab_size)
    nats = loss(hidden, targets)
    nats.backward()
    peak = peak_bytes()
    assert all(parameter.grad is not None for parameter in head.parameters())
    return {"peak": peak - before, "nats": nats.item() / len(targets)}


def measure_speed(arguments: argparse.Namespace) -> dict[str, float]:
    """Median seconds of each head, one after another in every round."""
    hidden, targets = batch(arguments)
    heads = {name: build(name, arguments.hidden_size, arguments.vocab_size) for name in HEADS}
    seconds: dict[str, list[float]] = {name: [] for name in HEADS}
    for turn in range(1 + arguments.turns):
        for name, (head, loss) in heads.items():
            started = time.perf_counter()
            loss(hidden, targets).backward()
            elapsed = time.perf_counter() - started
            for parameter in (hidden, *head.parameters()):
                parameter.grad = None
            if turn > 0:
                seconds[name].append(elapsed)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocab-size", type=int, default=267_735)
    parser.add_argument("--hidden-size", type=int, default=400)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.worker:
        figures: Any = measure_speed(arguments) if arguments.worker == "speed" else measure_memory(arguments)
        print(json.dumps(figures))
        return

    def in_a_process(worker: str) -> dict[str, float]:
        command = [sys.executable, __file__, *sys.argv[1:], "--worker", worker]
        found: dict[str, float] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        return found

    matrix = 4 * arguments.vocab_size * arguments.hidden_size
    chunk = 4 * min(MOST_LOGITS["cpu"], arguments.tokens * arguments.vocab_size)
    floor = 2 * matrix + chunk
    print(f"N {arguments.tokens:,}, H {arguments.hidden_size}, V {arguments.vocab_size:,}, float32, torch "
          f"{torch.__version__}, {arguments.threads} threads; output matrix and its gradient "
          f"{2 * matrix / MEGABYTE:,.0f} MiB, a chunk of logits {chunk / MEGABYTE:,.0f} MiB")  # fmt: skip
    memory = {name: in_a_process(name) for name in HEADS}
    if not abs(memory["softmax"]["nats"] - memory["textbook"]["nats"]) < TOLERANCE:
        raise SystemExit("softmax and textbook: their losses differ, so the two do not compute the same")
    speed = in_a_process("speed")
    print(f"{'':>16}  {'peak, MiB':>9}  {'of matrix, gradient, chunk':>26}  {'tokens/s':>8}  {'first loss':>10}")
    for name in HEADS:
        peak, rate = memory[name]["peak"], arguments.tokens / speed[name]
        print(
            f"{name:>16}  {peak / MEGABYTE:>9,.0f}  {peak / floor:>26.2f}  {rate:>8,.0f}  {memory[name]['nats']:>10.4f}"
        )
    for name in HEADS[2:4]:
        print(f"{name}: {speed['softmax'] / speed[name]:.1f} times as fast as the softmax")


if __name__ == "__main__":
    main()

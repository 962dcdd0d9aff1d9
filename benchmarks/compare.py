"""The Transformer's training step compared with nanoGPT's, in turns: ``python benchmarks/compare.py``.

    python benchmarks/compare.py                       # float32
    python benchmarks/compare.py --precision bf16

Four layers of 256 units, 3.2 million parameters, windows of 128 tokens on 16 streams. ``nanogpt`` is the model and
update of ``benchmarks/nanogpt.py``, not compiled, as nanoGPT's README has it on a CPU (``--compile=False``); ``ours``
has its weights, learned positions and GELU, so that the losses are equal: in float32 they must agree within 1e-4 in
every window, or the benchmark fails; ``rotary`` has rotary positions and SwiGLU, also in blocks; ``carried`` adds a
cache of the last 128 tokens to it. Each runs in its own process; they take turns window by window, on the same tokens.
Ours keep the memory that they free, as every command here does. Letters: T time, B streams.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator
from typing import Any

import torch
from nanogpt import NanoGPT
from peers import Step
from torch import Tensor, nn
from training_step import TOLERANCE, stepping
from turns import check_values, cpu_name, median_ratio, median_seconds, serve, take_turns

from pipeline.allocator import keep_freed_memory
from pipeline.config import ModelConfig, OptimizerConfig
from pipeline.model.cpu.onednn import has_bf16_products
from pipeline.model.cpu.products import onednn_is_faster
from pipeline.model.language_model import LanguageModel
from pipeline.model.precision import autocast
from pipeline.training.clipping import Clipping
from pipeline.training.optimizers import build_optimizer
from pipeline.training.step import TrainingStep

VOCAB_SIZE, TIME, STREAMS, WARM_UP = 65, 128, 16, 3
SIZES: dict[str, Any] = {
    "cell": "transformer", "hidden_size": 256, "num_layers": 4, "num_heads": 4, "tie_weights": True,
}  # fmt: skip
BLOCKS = {"context": 0, "block_size": TIME}
MODELS: dict[str, dict[str, Any]] = {
    "ours": {**BLOCKS, "positions": "learned", "feedforward": "gelu"},
    "rotary": BLOCKS,
    "carried": {"context": TIME},
}
LR, WEIGHT_DECAY, CLIP_NORM = 1e-3, 0.1, 1.0


def build(name: str) -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(ModelConfig(**SIZES, **MODELS[name]), VOCAB_SIZE)


def our_step(name: str, precision: str) -> Step:
    keep_freed_memory()
    model = build(name)
    optimizer = build_optimizer(OptimizerConfig(name="adamw", lr=LR, weight_decay=WEIGHT_DECAY), model)
    training_step = TrainingStep(model, optimizer, clipping=Clipping(norm=CLIP_NORM), precision=precision, seed=1)
    return stepping(training_step, lr=LR)


def peer_step(precision: str) -> Step:
    model = NanoGPT(build("ours"), num_heads=SIZES["num_heads"])
    optimizer = model.optimizer(lr=LR, weight_decay=WEIGHT_DECAY)

    def step(inputs: Tensor, targets: Tensor) -> float:
        with autocast(precision, torch.device("cpu")):
            loss = model(inputs.t().contiguous(), targets.t().contiguous())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return step


def windows() -> Iterator[tuple[Tensor, Tensor]]:
    """Tokens, each drawn given the one before, (T, B), the same in every process."""
    generator = torch.Generator().manual_seed(1)
    follows = torch.rand(VOCAB_SIZE, VOCAB_SIZE, generator=generator).pow(8)
    while True:
        tokens = torch.randint(VOCAB_SIZE, (TIME + 1, STREAMS), generator=generator)
        for t in range(TIME):
            tokens[t + 1] = torch.multinomial(follows[tokens[t]], 1, generator=generator)[:, 0]
        yield tokens[:-1].contiguous(), tokens[1:].contiguous()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", choices=["float32", "bf16"], default="float32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--windows", type=int, default=45)
    parser.add_argument("--models", nargs="+", choices=[*MODELS], default=[*MODELS], help="beside nanogpt")
    parser.add_argument("--worker", choices=["nanogpt", *MODELS], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        torch.set_num_threads(arguments.threads)
        is_peer = arguments.worker == "nanogpt"
        step = peer_step(arguments.precision) if is_peer else our_step(arguments.worker, arguments.precision)
        source = windows()
        serve(lambda: step(*next(source)))
        return
    names = ["nanogpt", *arguments.models]
    report(arguments, take_turns(__file__, sys.argv[1:], names, rounds=arguments.windows, warm_up=WARM_UP))


def report(arguments: argparse.Namespace, rounds: dict[str, Any]) -> None:
    print(f"{cpu_name()}, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}, "
          f"{arguments.threads} threads, {arguments.precision}, float32 products by "
          f"{'oneDNN' if onednn_is_faster() else 'MKL'}")  # fmt: skip
    if arguments.precision == "bf16" and not has_bf16_products():
        print("this CPU has no bf16 matrix instructions: ours runs its products in float32 and gains nothing from bf16")
    print(f"{build('ours').num_parameters:,} parameters, T {TIME}, B {STREAMS}, V {VOCAB_SIZE}, medians of "
          f"{arguments.windows} windows in turns")  # fmt: skip
    print(f"{'':>8}  {'ms a window':>11}  {'least':>8}  {'times nanogpt':>13}  {'first loss':>10}  {'last loss':>10}")
    peer = rounds["nanogpt"]
    for name, one in rounds.items():
        print(f"{name:>8}  {1000 * median_seconds(one):>11.1f}  {1000 * min(one)[0]:>8.1f}  "
              f"{median_ratio(peer, one):>13.2f}  {one[0][1]:>10.6f}  {one[-1][1]:>10.6f}")  # fmt: skip
    if "ours" in rounds:
        check_values(rounds["ours"], peer, within=TOLERANCE if arguments.precision == "float32" else math.inf)


if __name__ == "__main__":
    main()

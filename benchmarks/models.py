"""Cells compared with the fused LSTM at equal parameters: tokens/s in training and the time to write a token.

    python benchmarks/models.py                       # windows of 35, 128, 512 and 2,048 tokens
    python benchmarks/models.py --steps 35 --rounds 5 # a short look
    python benchmarks/models.py --cells lstm slstm mogrifier --words         # a step of 2×650 on 10,000 words
    python benchmarks/models.py --cells lstm slstm mogrifier --steps 128     # of 2×256 on characters

Each model has two layers, of the size that gives the recurrence as many parameters as the LSTM's. Without ``--words``
the vocabulary is small, so that the recurrence is what is measured. A mogrifier has five rounds, and matrices of rank
``--rank`` if that is given. Each runs in its own process; they take turns, a round being one update with ``--tokens``
tokens, in windows of ``--steps``, or a 16th as many single steps of writing. Letters: T time, B streams.
"""

from __future__ import annotations

import argparse
import sys
from bisect import bisect_left
from collections.abc import Callable
from typing import Any, get_args

import torch
from training_step import stepping
from turns import cpu_name, median_seconds, serve, take_turns

from pipeline.allocator import keep_freed_memory
from pipeline.config import ModelConfig, OptimizerConfig
from pipeline.model.evaluating import evaluating
from pipeline.model.language_model import LanguageModel
from pipeline.model.stepper import Stepper
from pipeline.training.clipping import Clipping
from pipeline.training.optimizers import build_optimizer
from pipeline.training.step import TrainingStep

CELLS: dict[str, dict[str, Any]] = {
    **{cell: {"cell": cell} for cell in get_args(ModelConfig.model_fields["cell"].annotation)},
    "mogrifier": {"cell": "lstm", "mogrifier_rounds": 5},
}
NUM_LAYERS = 2
TRAINED, WRITTEN, WARM_UP = "trained", "written", 2


def build(arguments: argparse.Namespace, cell: str, hidden_size: int) -> LanguageModel:
    torch.manual_seed(0)
    sizes = {"embedding_size": arguments.embedding_size, "hidden_size": hidden_size, "num_layers": NUM_LAYERS}
    rank = {"mogrifier_rank": arguments.rank} if cell == "mogrifier" else {}
    return LanguageModel(ModelConfig(**CELLS[cell], **sizes, **rank), arguments.vocab_size)


def num_recurrent(model: LanguageModel) -> int:
    return sum(parameter.numel() for parameter in model.recurrence.parameters())


def equal_size(arguments: argparse.Namespace, cell: str, wanted: int) -> int:
    """The hidden size whose recurrence has about ``wanted`` parameters; their number grows with it."""
    if cell == "lstm":
        return int(arguments.hidden_size)

    def number(size: int) -> int:
        return num_recurrent(build(arguments, cell, size))

    sizes = range(8 * ((arguments.rank or 0) // 8 + 1), 2048, 8)
    with torch.device("meta"):
        above = bisect_left(sizes, wanted, key=number)
        return min(sizes[max(0, above - 1) : above + 1], key=lambda size: abs(number(size) - wanted))


def sizes_of(arguments: argparse.Namespace) -> dict[str, int]:
    with torch.device("meta"):
        wanted = num_recurrent(build(arguments, "lstm", arguments.hidden_size))
    return {cell: equal_size(arguments, cell, wanted) for cell in arguments.cells}


def trained(model: LanguageModel, num_steps: int, num_tokens: int) -> Callable[[], float]:
    """One update with ``num_tokens`` tokens in streams of ``num_steps``; returns the loss."""
    vocab_size = model.embedding.num_embeddings
    optimizer = build_optimizer(OptimizerConfig(name="adamw", lr=1e-3), model)
    step = stepping(TrainingStep(model, optimizer, clipping=Clipping(norm=1.0), precision="float32", seed=1), lr=1e-3)
    num_streams = max(1, num_tokens // num_steps)
    generator = torch.Generator().manual_seed(1)

    def round_of() -> float:
        tokens = torch.randint(vocab_size, (num_steps + 1, num_streams), generator=generator)
        return step(tokens[:-1], tokens[1:])

    return round_of


def written(model: LanguageModel, num_tokens: int) -> Callable[[], float]:
    """``num_tokens`` single steps of one text, each taking the likeliest token."""

    def round_of() -> float:
        with evaluating(model):
            stepper, state, token = Stepper(model), model.initial_state(1), torch.zeros(1, dtype=torch.int64)
            for _ in range(num_tokens):
                logits, state = stepper(token, state)
                token = logits.argmax(1)
        return float(token)

    return round_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=["lstm", "mingru", "minlstm", "qrnn"])
    parser.add_argument("--hidden-size", type=int, default=256, help="of the LSTM")
    parser.add_argument("--embedding-size", type=int, default=256)
    parser.add_argument("--vocab-size", type=int, default=256)
    parser.add_argument("--rank", type=int, help="of the mogrifier's matrices; by default they are whole")
    parser.add_argument("--words", action="store_true", help="sizes of 650, 10,000 types, 20 streams of 35 steps")
    parser.add_argument("--steps", type=int, nargs="+", default=[35, 128, 512, 2048], help="T")
    parser.add_argument("--tokens", type=int, default=2048, help="of an update, B·T; of a text a 16th")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.words:
        arguments.hidden_size = arguments.embedding_size = 650
        arguments.vocab_size, arguments.steps, arguments.tokens = 10_000, [35], 700
    if arguments.worker:
        cell, size, kind, num_steps = arguments.worker.split(":")
        torch.set_num_threads(arguments.threads)
        keep_freed_memory()
        model = build(arguments, cell, int(size))
        if kind == TRAINED:
            serve(trained(model, int(num_steps), arguments.tokens))
        else:
            serve(written(model, arguments.tokens // 16))
        return
    sizes = sizes_of(arguments)
    print(f"{cpu_name()}, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}, "
          f"{arguments.threads} threads, {NUM_LAYERS} layers, {arguments.tokens:,} tokens an update")  # fmt: skip
    print(f"{'':>24}" + "".join(f"{f'{cell} {size}':>18}" for cell, size in sizes.items()))
    kinds = [(TRAINED, num_steps) for num_steps in arguments.steps] + [(WRITTEN, 1)]
    for kind, num_steps in kinds:
        report(arguments, sizes, kind, num_steps)


def report(arguments: argparse.Namespace, sizes: dict[str, int], kind: str, num_steps: int) -> None:
    """Print a line of the table, and how many times as fast as the first cell each is."""
    names = {cell: f"{cell}:{size}:{kind}:{num_steps}" for cell, size in sizes.items()}
    rounds = take_turns(__file__, sys.argv[1:], list(names.values()), rounds=arguments.rounds, warm_up=WARM_UP)
    seconds = {cell: median_seconds(rounds[name]) for cell, name in names.items()}
    num_tokens = max(1, arguments.tokens // num_steps) * num_steps if kind == TRAINED else arguments.tokens // 16
    first = next(iter(seconds.values()))
    cells = [
        f"{num_tokens / one:,.0f}" if kind == TRAINED else f"{1e6 * one / num_tokens:,.0f}" for one in seconds.values()
    ]
    title = f"trained T {num_steps:,}, tokens/s" if kind == TRAINED else "written, µs a token"
    line = "".join(f"{f'{cell} ({first / one:.2f}x)':>18}" for cell, one in zip(cells, seconds.values(), strict=True))
    print(f"{title:>24}{line}", flush=True)


if __name__ == "__main__":
    main()

"""Our training step beside the textbook's, side by side: ``python benchmarks/training_step.py``.

The textbook is the loop of pytorch/examples word_language_model: ``nn.LSTM``, ``log_softmax`` and ``NLLLoss``,
``clip_grad_norm_``, SGD by hand. ``--peer DIR`` takes the model of a copy of that example instead of the one below.
Each variant runs in its own process; they take turns window by window, from the same weights on the same tokens, and
the losses of both are printed to show that they do the same.
Letters: T time, B streams, H hidden, V vocabulary.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.config import ModelConfig, OptimizerConfig
from pipeline.model.language_model import LanguageModel
from pipeline.model.precision import has_bf16_products
from pipeline.training.clipping import Clipping
from pipeline.training.optimizers import build_optimizer
from pipeline.training.step import TrainingStep

LR, CLIP_NORM, WARM_UP = 1.0, 0.25, 5

Step = Callable[[Tensor, Tensor], float]


class Textbook(nn.Module):
    """The model of word_language_model, with its names."""

    def __init__(self, vocab_size: int, hidden_size: int, num_layers: int, dropout: float) -> None:
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.encoder = nn.Embedding(vocab_size, hidden_size)
        self.rnn = nn.LSTM(hidden_size, hidden_size, num_layers, dropout=dropout)
        self.decoder = nn.Linear(hidden_size, vocab_size)
        self.vocab_size = vocab_size

    def forward(self, inputs: Tensor, hidden: Any) -> tuple[Tensor, Any]:
        output, hidden = self.rnn(self.drop(self.encoder(inputs)), hidden)
        decoded = self.decoder(self.drop(output)).view(-1, self.vocab_size)
        return torch.log_softmax(decoded, dim=1), hidden


def textbook_model(arguments: argparse.Namespace) -> nn.Module:
    size = (arguments.vocab_size, arguments.hidden_size, arguments.num_layers, arguments.dropout)
    if arguments.peer is None:
        return Textbook(*size)
    spec = importlib.util.spec_from_file_location("peer_model", Path(arguments.peer) / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    vocab_size, hidden_size, num_layers, dropout = size
    model: nn.Module = module.RNNModel("LSTM", vocab_size, hidden_size, hidden_size, num_layers, dropout)
    return model


def our_model(arguments: argparse.Namespace) -> LanguageModel:
    torch.manual_seed(0)
    config = ModelConfig(
        hidden_size=arguments.hidden_size, num_layers=arguments.num_layers, dropout=arguments.dropout, init_range=0.1
    )
    return LanguageModel(config, arguments.vocab_size)


def textbook_step(arguments: argparse.Namespace) -> Step:
    model, ours = textbook_model(arguments), our_model(arguments)
    with torch.no_grad():  # the same weights
        model.encoder.weight.copy_(ours.embedding.weight)
        model.decoder.weight.copy_(ours.head.weight)
        model.decoder.bias.copy_(ours.head.bias)
        for index, layer in enumerate(ours.recurrence.layers):
            for name, parameter in layer.named_parameters():
                getattr(model.rnn, name.replace("l0", f"l{index}")).copy_(parameter)
    criterion = nn.NLLLoss()
    shape = (arguments.num_layers, arguments.batch_size, arguments.hidden_size)
    hidden = (torch.zeros(shape), torch.zeros(shape))

    def step(inputs: Tensor, targets: Tensor) -> float:
        nonlocal hidden
        model.zero_grad()
        hidden = tuple(part.detach() for part in hidden)
        with torch.autocast("cpu", torch.bfloat16, enabled=False):  # as shipped, it knows no autocast
            output, hidden = model(inputs, hidden)
            loss = criterion(output, targets.reshape(-1))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        for parameter in model.parameters():
            parameter.data.add_(parameter.grad, alpha=-LR)
        return loss.item()

    return step


def our_step(arguments: argparse.Namespace) -> Step:
    model = our_model(arguments)
    optimizer = build_optimizer(OptimizerConfig(name="sgd", lr=LR), model)
    training_step = TrainingStep(
        model, optimizer, clipping=Clipping(norm=CLIP_NORM), precision=arguments.precision, seed=1
    )
    state = model.initial_state(arguments.batch_size)
    index = 0

    def step(inputs: Tensor, targets: Tensor) -> float:
        nonlocal state, index
        nats, _, state = training_step(inputs, targets, state, num_targets=inputs.numel(), lr=LR, index=index)
        index += 1
        return nats.item() / inputs.numel()

    return step


def windows(arguments: argparse.Namespace) -> Iterator[tuple[Tensor, Tensor]]:
    """Zipf-distributed tokens, (T, B), the same in every process."""
    generator = torch.Generator().manual_seed(1)
    weights = 1 / torch.arange(1, arguments.vocab_size + 1, dtype=torch.float64)
    shape = (arguments.bptt + 1, arguments.batch_size)
    while True:
        tokens = torch.multinomial(weights, shape[0] * shape[1], replacement=True, generator=generator).view(shape)
        yield tokens[:-1].contiguous(), tokens[1:].contiguous()


def work(arguments: argparse.Namespace) -> None:
    """The process of one variant: a line on standard input asks for one window, the answer is seconds and loss."""
    torch.set_num_threads(arguments.threads)
    step = {"textbook": textbook_step, "ours": our_step}[arguments.worker](arguments)
    source = windows(arguments)
    for _ in sys.stdin:
        inputs, targets = next(source)
        started = time.perf_counter()
        loss = step(inputs, targets)
        print(json.dumps([time.perf_counter() - started, loss]), flush=True)


def cpu_name() -> str:
    """The processor as the system names it."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text(encoding="utf-8").splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden-size", type=int, default=200)
    parser.add_argument("--num-layers", type=int, default=2)
    parser.add_argument("--vocab-size", type=int, default=10_000)
    parser.add_argument("--batch-size", type=int, default=20)
    parser.add_argument("--bptt", type=int, default=35)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--precision", choices=["float32", "bf16"], default="float32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--windows", type=int, default=40)
    parser.add_argument("--peer", help="folder of a copy of word_language_model")
    parser.add_argument("--worker", choices=["textbook", "ours"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments)
        return
    processes = {
        name: subprocess.Popen(
            [sys.executable, __file__, *sys.argv[1:], "--worker", name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for name in ("textbook", "ours")
    }  # fmt: skip
    figures: dict[str, list[list[float]]] = {name: [] for name in processes}
    for _ in range(WARM_UP + arguments.windows):
        for name, process in processes.items():
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            figures[name].append(json.loads(process.stdout.readline()))
    for process in processes.values():
        process.communicate()
    report(arguments, figures)


def report(arguments: argparse.Namespace, figures: dict[str, list[list[float]]]) -> None:
    medians = {name: statistics.median(seconds for seconds, _ in rows[WARM_UP:]) for name, rows in figures.items()}
    losses = {name: [loss for _, loss in rows] for name, rows in figures.items()}
    print(f"{cpu_name()}, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}, "
          f"{arguments.threads} threads")  # fmt: skip
    if arguments.precision == "bf16" and not has_bf16_products():
        print("this CPU has no bf16 matrix instructions: ours runs its products in float32, nothing is gained by bf16")
    print(f"LSTM {arguments.num_layers}x{arguments.hidden_size}, B {arguments.batch_size}, T {arguments.bptt}, "
          f"V {arguments.vocab_size:,}, ours in {arguments.precision}")  # fmt: skip
    print(f"{'':>10}  {'ms a window':>11}  {'first loss':>10}  {'last loss':>10}")
    for name in figures:
        print(f"{name:>10}  {1000 * medians[name]:>11.2f}  {losses[name][0]:>10.5f}  {losses[name][-1]:>10.5f}")
    print(f"ours is {medians['textbook'] / medians['ours']:.2f} times as fast")


if __name__ == "__main__":
    main()

"""Our training step compared with its peers', and with the floor of its own matrix products, for one ``--model``.

    python benchmarks/training_step.py --model small
    python benchmarks/training_step.py --model awd --peer ../awd-lstm-lm --dropout

``peer`` is the step of pytorch/examples word_language_model or, for ``awd``, of salesforce/awd-lstm-lm; ``--peer DIR``
takes the modules from a copy of it (otherwise word_language_model's are written again here). ``floor`` multiplies the
same matrices as a step of ours and does nothing else. Each runs in its own process; they take turns window by window,
from the same weights on the same tokens, and the losses of both are printed. Both in float32 without dropout, they must
agree within 1e-4 in every window, or the benchmark fails. Ours and the floor keep the memory that they free, as every
command here does; the peer is as shipped. Letters: T time, B streams, E embedding, H hidden, V vocabulary.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import peers
import torch
from peers import Step
from torch import Tensor
from turns import check_values, cpu_name, median_seconds, serve, take_turns

from pipeline.allocator import keep_freed_memory
from pipeline.config import ModelConfig, OptimizerConfig
from pipeline.model.cpu.onednn import has_bf16_products
from pipeline.model.cpu.products import product, product_with
from pipeline.model.language_model import LanguageModel
from pipeline.model.precision import autocast
from pipeline.model.regularization import NO_PENALTIES, Penalties
from pipeline.training.clipping import Clipping
from pipeline.training.embedding_rows import PAYS_FROM
from pipeline.training.optimizers import build_optimizer
from pipeline.training.step import TrainingStep

WARM_UP = 5
TOLERANCE = 1e-4  # of the losses, in nats
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Setting:
    """A model with its windows and its optimizer; ``dropouts`` apply only if they are asked for."""

    sizes: dict[str, Any]
    dropouts: dict[str, float]
    vocab_size: int = 10_000
    batch_size: int = 20
    bptt: int = 35
    optimizer: str = "sgd"
    lr: float = 1.0
    weight_decay: float = 0.0
    penalties: Penalties = NO_PENALTIES
    clip_norm: float = 0.25
    init_range: float | None = 0.1

    @property
    def embedding_rows(self) -> bool:
        """Whether a run with ``train.embedding_gradients`` at auto would take them as rows."""
        is_plain = self.optimizer == "sgd" and not self.weight_decay and not self.sizes.get("tie_weights")
        return is_plain and self.vocab_size >= PAYS_FROM * self.batch_size * self.bptt

    def config(self, *, dropout: bool) -> ModelConfig:
        dropouts = self.dropouts if dropout else {}
        return ModelConfig(**self.sizes, **dropouts, init_range=self.init_range, input_gain=1.0)


SETTINGS = {
    "small": Setting({"hidden_size": 200, "num_layers": 2}, {"dropout": 0.2}),
    "medium": Setting({"hidden_size": 650, "num_layers": 2}, {"dropout": 0.5}),
    "characters": Setting(
        {"hidden_size": 512, "num_layers": 2}, {"dropout": 0.2},
        vocab_size=104, batch_size=64, bptt=100, optimizer="adamw", lr=1e-3,
    ),
    "awd": Setting(
        {"hidden_size": 1150, "num_layers": 3, "embedding_size": 400, "last_hidden_size": 400, "tie_weights": True},
        {"output_dropout": 0.4, "hidden_dropout": 0.25, "input_dropout": 0.4, "embedding_dropout": 0.1,
         "weight_dropout": 0.5},
        bptt=70, lr=30.0, weight_decay=1.2e-6, penalties=Penalties(2.0, 1.0), init_range=None,
    ),
}  # fmt: skip


def our_model(arguments: argparse.Namespace) -> tuple[Setting, ModelConfig, LanguageModel]:
    setting: Setting = SETTINGS[arguments.model]
    config = setting.config(dropout=arguments.dropout)
    torch.manual_seed(0)
    return setting, config, LanguageModel(config, setting.vocab_size)


def build_step(setting: Setting, model: LanguageModel, *, precision: str) -> TrainingStep:
    """The project's training step of ``model``, on the model's device, as a run with these settings builds it."""
    optimizer = build_optimizer(
        OptimizerConfig(name=setting.optimizer, lr=setting.lr, weight_decay=setting.weight_decay, decayed="all"), model
    )
    return TrainingStep(
        model,
        optimizer,
        clipping=Clipping(norm=setting.clip_norm, device=model.device),
        precision=precision,
        seed=1,
        penalties=setting.penalties,
        embedding_rows=setting.embedding_rows,
    )


def our_step(arguments: argparse.Namespace) -> Step:
    keep_freed_memory()
    setting, _, model = our_model(arguments)
    return stepping(build_step(setting, model, precision=arguments.precision), lr=setting.lr)


def stepping(training_step: TrainingStep, *, lr: float) -> Step:
    """Updates with ``training_step`` on one window (T, B) after another; each returns the mean loss before it."""
    state: Any = None
    index = 0

    def step(inputs: Tensor, targets: Tensor) -> float:
        nonlocal state, index
        if state is None:
            state = training_step.model.initial_state(inputs.shape[1])
        nats, _, state = training_step(inputs, targets, state, num_targets=inputs.numel(), lr=lr, index=index)
        index += 1
        return nats.item() / inputs.numel()

    return step


def peer_step(arguments: argparse.Namespace) -> Step:
    setting, config, model = our_model(arguments)
    shared = {
        "folder": arguments.peer,
        "batch_size": setting.batch_size,
        "lr": setting.lr,
        "clip_norm": setting.clip_norm,
        "autocast": lambda: autocast(arguments.precision if arguments.peer_autocast else "float32", CPU),
    }
    if arguments.model == "awd":
        return peers.awd_lstm(model, config, weight_decay=setting.weight_decay, penalties=setting.penalties, **shared)
    return peers.word_language_model(model, config, optimizer=setting.optimizer, **shared)


def floor_step(arguments: argparse.Namespace) -> Step:
    """The matrix products of a step and nothing between them: each layer's at every time step, and the head's.

    Each is done in the fastest way known for this machine: ``pipeline.model.cpu.products``.
    """
    keep_freed_memory()
    setting, config, model = our_model(arguments)
    low = torch.bfloat16 if arguments.precision == "bf16" else torch.float32
    products: list[tuple[int, Callable[[], Any]]] = []  # how many times, and the product
    rows = setting.bptt * setting.batch_size

    def multiply(a: tuple[int, int], b: tuple[int, int], times: int = 1) -> None:
        left, right = (torch.rand(shape).to(low) for shape in (a, b))
        many = product_with(right.t().contiguous(), num_rows=a[0])
        products.append((times, (lambda: many(left)) if times > 1 else (lambda: product(left, right))))

    def three(rows: int, size: int, num_outputs: int, times: int = 1, *, weight_rows: int | None = None) -> None:
        """Outputs, ∂ inputs, and ∂ weights (over ``weight_rows`` at once) of a product with a matrix."""
        multiply((rows, size), (size, num_outputs), times)
        multiply((rows, num_outputs), (num_outputs, size), times)
        multiply((num_outputs, weight_rows or rows), (weight_rows or rows, size))

    size = config.embedding_size or config.hidden_size
    for hidden_size in config.layer_sizes:
        three(rows, size, 4 * hidden_size)
        three(setting.batch_size, hidden_size, 4 * hidden_size, setting.bptt, weight_rows=rows)
        size = hidden_size
    three(rows, model.head.weight.shape[1], setting.vocab_size)

    def step(inputs: Tensor, targets: Tensor) -> float:
        for times, multiply_once in products:
            for _ in range(times):
                multiply_once()
        return 0.0

    return step


STEPS = {"peer": peer_step, "ours": our_step, "floor": floor_step}


def windows(setting: Setting) -> Iterator[tuple[Tensor, Tensor]]:
    """Zipf-distributed tokens, (T, B), the same in every process."""
    generator = torch.Generator().manual_seed(1)
    weights = 1 / torch.arange(1, setting.vocab_size + 1, dtype=torch.float64)
    shape = (setting.bptt + 1, setting.batch_size)
    while True:
        tokens = torch.multinomial(weights, shape[0] * shape[1], replacement=True, generator=generator).view(shape)
        yield tokens[:-1].contiguous(), tokens[1:].contiguous()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=list(SETTINGS), default="small")
    parser.add_argument("--dropout", action="store_true", help="with the model's dropouts")
    parser.add_argument("--precision", choices=["float32", "bf16"], default="float32", help="of ours and the floor")
    parser.add_argument("--peer-autocast", action="store_true", help="the peer in --precision too, by autocast")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--windows", type=int, default=40)
    parser.add_argument("--peer", metavar="DIR", help="folder of a copy of the peer")
    parser.add_argument("--worker", choices=list(STEPS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.model == "awd" and arguments.peer is None:
        parser.error("--model awd needs --peer, a copy of salesforce/awd-lstm-lm")
    if arguments.worker:
        torch.set_num_threads(arguments.threads)
        sys.stdout, answers = sys.stderr, sys.stdout  # awd-lstm-lm prints while it is built
        step, source = STEPS[arguments.worker](arguments), windows(SETTINGS[arguments.model])
        sys.stdout = answers
        serve(lambda: step(*next(source)))
        return
    report(arguments, take_turns(__file__, sys.argv[1:], list(STEPS), rounds=arguments.windows, warm_up=WARM_UP))


def report(arguments: argparse.Namespace, rounds: dict[str, Any]) -> None:
    milliseconds = {name: 1000 * median_seconds(one) for name, one in rounds.items()}
    setting: Setting = SETTINGS[arguments.model]
    print(f"{cpu_name()}, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}, "
          f"{arguments.threads} threads")  # fmt: skip
    if arguments.precision == "bf16" and not has_bf16_products():
        print("this CPU has no bf16 matrix instructions: ours runs its products in float32 and gains nothing from bf16")
    print(f"{arguments.model}: {setting.sizes}, B {setting.batch_size}, T {setting.bptt}, V {setting.vocab_size:,}, "
          f"{setting.optimizer}, dropout {'on' if arguments.dropout else 'off'}, {arguments.precision}")  # fmt: skip
    print(f"{'':>6}  {'ms a window':>11}  {'first loss':>10}  {'last loss':>10}  {'mean of last 20':>15}")
    for name, one in rounds.items():
        losses = [loss for _, loss in one]
        shown = [losses[0], losses[-1], statistics.mean(losses[-20:])] if name != "floor" else []
        print(f"{name:>6}  {milliseconds[name]:>11.2f}" + "".join(
            f"  {loss:>{width}.5f}" for loss, width in zip(shown, (10, 10, 15), strict=False)))  # fmt: skip
    print(f"ours is {milliseconds['peer'] / milliseconds['ours']:.2f} times as fast as the peer, "
          f"{milliseconds['floor'] / milliseconds['ours']:.2f} of the floor")  # fmt: skip
    is_equal = arguments.precision == "float32" and not arguments.dropout
    check_values(rounds["ours"], rounds["peer"], within=TOLERANCE if is_equal else math.inf)


if __name__ == "__main__":
    main()

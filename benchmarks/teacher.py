"""Training from a teacher's stored logits compared with training without one, and with a teacher that runs along.

    python benchmarks/teacher.py --model small
    python benchmarks/teacher.py --model characters --rounds 20

Each runs in its own process; they take turns window by window, on the same tokens. ``stored`` reads the k likeliest
types of each token from files that are first written here, with random types and probabilities: their values do not
change the cost. ``tempered`` does so at temperature 2, which takes a second softmax. ``beside`` runs a teacher of
``--teacher-size`` units a layer. Reading the files is part of the time, and so is reading the tokens.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from training_step import SETTINGS, WARM_UP
from turns import cpu_name, median_seconds, serve, take_turns

from pipeline.allocator import keep_freed_memory
from pipeline.config import ModelConfig, OptimizerConfig, TrainConfig
from pipeline.data.streams import Streams
from pipeline.data.windows import ArrayTokens
from pipeline.model.language_model import LanguageModel
from pipeline.training.clipping import Clipping
from pipeline.training.optimizers import build_optimizer
from pipeline.training.step import TrainingStep
from pipeline.training.teaching.models import RecurrentTeacher
from pipeline.training.teaching.part import LiveTeaching, StoredTeaching, Teaching
from pipeline.training.teaching.stored import Origin, StoredLogits, write_manifest, write_rows

WINDOWS = 400  # enough tokens for this many, whatever the number of rounds
NAMES = ("alone", "stored", "tempered", "beside")
TEMPERATURES = {"tempered": 2.0}


def num_tokens(model: str) -> int:
    return SETTINGS[model].batch_size * SETTINGS[model].bptt * WINDOWS + 1


def write_logits(folder: Path, model: str, top_k: int) -> None:
    """Write random rows for every token, in files of the usual size."""
    vocab_size, number = SETTINGS[model].vocab_size, num_tokens(model)
    origin = Origin("random", "", "", vocab_size, number, "train", top_k, [1.0, 2.0], "streams", [False, None], 1, 1, 0)
    source, entries = np.random.default_rng(0), []
    for index, start in enumerate(range(0, number, origin.rows_of_a_file)):
        size = min(origin.rows_of_a_file, number - start)
        types = (source.integers(vocab_size, size=(size, 1)) + np.arange(top_k)) % vocab_size
        masses = 0.9 * np.sort(source.dirichlet(np.full(top_k, 0.3), size=size))[:, ::-1] + 1e-6
        rows = (np.zeros((size, 2), np.float32), types, np.log(masses))
        entries.append(write_rows(folder, f"train-{index:05d}", origin, start, rows))
    write_manifest(folder, origin, entries, teacher="random")


def teaching_of(name: str, arguments: argparse.Namespace, train: TrainConfig, data: Streams) -> Teaching | None:
    setting = SETTINGS[arguments.model]
    named: dict[str, Any] = {
        "vocab_size": setting.vocab_size,
        "fingerprint": "",
        "device": torch.device("cpu"),
        "rank": 0,
        "world_size": 1,
    }
    if name == "alone":
        return None
    if name == "beside":
        sizes = {**setting.sizes, "hidden_size": arguments.teacher_size}
        model = LanguageModel(ModelConfig(**sizes), setting.vocab_size)
        return LiveTeaching(RecurrentTeacher(model, precision=arguments.precision), train, data=data, **named)
    return StoredTeaching(StoredLogits(arguments.logits), train, **named)


def work(name: str, arguments: argparse.Namespace) -> None:
    """Make one update a round, on the next window."""
    keep_freed_memory()
    torch.manual_seed(0)
    setting = SETTINGS[arguments.model]
    temperature = TEMPERATURES.get(name, 1.0)
    train = TrainConfig(
        bptt=setting.bptt, batch_size=setting.batch_size, teacher=None if name == "alone" else "logits",
        teacher_temperature=temperature,
    )  # fmt: skip
    tokens = np.random.default_rng(1).integers(setting.vocab_size, size=num_tokens(arguments.model))
    data = Streams.of(ArrayTokens(tokens), train)
    model = LanguageModel(setting.config(dropout=True), setting.vocab_size)
    step = TrainingStep(
        model,
        build_optimizer(OptimizerConfig(name=setting.optimizer, lr=setting.lr), model),
        clipping=Clipping(norm=setting.clip_norm),
        precision=arguments.precision,
        seed=1,
        embedding_rows=setting.embedding_rows,
    )
    teaching = teaching_of(name, arguments, train, data)
    windows, state, index = data.windows(), model.initial_state(setting.batch_size), 0

    def update() -> float:
        nonlocal state, index
        window = next(windows)
        inputs, targets = torch.from_numpy(window.inputs), torch.from_numpy(window.targets)
        soft = None if teaching is None else teaching(window, inputs)
        nats, _, state = step(
            inputs, targets, state, num_targets=window.num_targets, lr=setting.lr, index=index, soft=soft
        )
        index += 1
        return float(nats) / window.num_targets

    serve(update)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["small", "medium", "characters"], default="small")
    parser.add_argument("--precision", choices=["float32", "bf16"], default="float32")
    parser.add_argument("--top-k", type=int, default=64)
    parser.add_argument("--teacher-size", type=int, default=650)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--without", nargs="*", default=[], choices=NAMES[1:], help="variants to leave out")
    parser.add_argument("--logits", help=argparse.SUPPRESS)
    parser.add_argument("--worker", choices=NAMES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments.worker, arguments)
        return
    names = [name for name in NAMES if name not in arguments.without]
    with tempfile.TemporaryDirectory() as folder:
        write_logits(Path(folder), arguments.model, min(arguments.top_k, SETTINGS[arguments.model].vocab_size))
        options = ["--model", arguments.model, "--precision", arguments.precision, "--logits", folder]
        options += ["--teacher-size", str(arguments.teacher_size)]
        found = take_turns(__file__, options, names, rounds=arguments.rounds, warm_up=WARM_UP)
    what = f"{arguments.model}, {arguments.precision}, {arguments.top_k} types"
    print(f"{cpu_name()}, {torch.get_num_threads()} threads; {what}, torch {torch.__version__}")
    alone = median_seconds(found["alone"])
    for name, rounds in found.items():
        seconds = median_seconds(rounds)
        print(f"{name:<9} {1000 * seconds:8.1f} ms a step  {seconds / alone:.2f} times alone")


if __name__ == "__main__":
    main()

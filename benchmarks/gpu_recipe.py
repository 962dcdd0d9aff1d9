"""The first minutes of a recipe for Penn Treebank, with the project's training step, and its progress as CSV.

It reads the text itself, in the recipes' form (a line is its words and ``<eos>``), and keeps neither checkpoints nor a
record: ``jobs.train`` does that, and needs more than torch. Letters: T time, B streams.
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_parts import Row, synchronize

from pipeline.config import Config
from pipeline.data.scoring import ScoringStreams
from pipeline.data.streams import Streams
from pipeline.data.windows import ArrayTokens, Window
from pipeline.model.language_model import LanguageModel
from pipeline.model.precision import set_tf32
from pipeline.model.regularization import Penalties
from pipeline.model.state import zeros_like
from pipeline.scoring import scored_windows
from pipeline.seeds import mix
from pipeline.training.averaging import Averaging
from pipeline.training.clipping import Clipping
from pipeline.training.optimizers import build_optimizer
from pipeline.training.schedules import learning_rate
from pipeline.training.step import TrainingStep

EOS, UNK = "<eos>", "<unk>"
NAMES = ("{}.txt", "ptb.{}.txt")
COLUMNS = ("seconds", "epoch", "step", "tokens", "learning_rate", "train_loss", "valid_perplexity", "averaged")


def read_corpus(folder: Path) -> tuple[ArrayTokens, ArrayTokens, int]:
    """Training and validation text of ``folder`` as ids, and the number of types in the training text.

    Raises:
        FileNotFoundError: one of the two does not exist.
    """
    words = {split: _words(folder, split) for split in ("train", "valid")}
    ids = {word: index for index, word in enumerate(dict.fromkeys([EOS, UNK, *words["train"]]))}
    train, valid = (
        ArrayTokens(np.array([ids.get(word, ids[UNK]) for word in words[split]], dtype=np.int64)) for split in words
    )
    return train, valid, len(ids)


def _words(folder: Path, split: str) -> list[str]:
    names = [name.format(split) for name in NAMES]
    found = [folder / name for name in names if (folder / name).is_file()]
    if not found:
        raise FileNotFoundError(f"{folder} has none of {', '.join(names)}")
    return [word for line in found[0].open(encoding="utf-8") for word in (*line.split(), EOS)]


@dataclass
class Training:
    """A training of ``config`` that stops when its time is up."""

    config: Config
    train: ArrayTokens
    valid: ArrayTokens
    vocab_size: int
    device: torch.device
    epoch: int = 0
    index: int = 0  # updates made
    tokens: int = 0
    best: float = math.inf  # validation perplexity
    validation_seconds: float = 0.0  # of the last one

    def __post_init__(self) -> None:
        train = self.config.train
        set_tf32(train.tf32)
        torch.manual_seed(mix(train.seed))
        self.model = LanguageModel(self.config.model, self.vocab_size).to(self.device)
        self.averaging = Averaging(self.config.optimizer, self.model.parameters())
        self.step = TrainingStep(
            self.model,
            build_optimizer(self.config.optimizer, self.model),
            clipping=Clipping.of(train, device=self.device),
            averaging=self.averaging,
            precision=train.precision,
            seed=train.seed,
            penalties=Penalties(train.activation_penalty, train.temporal_activation_penalty),
            batch_size=train.batch_size,
        )
        self.data = Streams.of(self.train, train)
        self.state = self.model.initial_state(train.batch_size)
        self.nats = torch.zeros((), dtype=torch.float64, device=self.device)
        self.num_targets = 0  # that the nats are summed over
        self.began = time.perf_counter()

    def run(self, until: float) -> Iterator[dict[str, Any]]:
        """Train until ``until`` (``time.time``), and validate once more; yields lines of ``COLUMNS``."""
        while True:
            for window in self.data.windows(epoch=self.epoch):
                self.update(window)
                if self.index % self.config.train.log_every_steps == 0:
                    yield self.line()
                if time.time() + 2 * self.validation_seconds >= until:
                    yield self.line(self.validate())
                    return
            self.epoch += 1
            self.averaging.epoch_ended(self.epoch)
            yield self.line(self.validate())

    def update(self, window: Window) -> None:
        inputs, targets = (
            torch.from_numpy(ids).to(self.device, non_blocking=True) for ids in (window.inputs, window.targets)
        )  # (T, B)
        nats, _, self.state = self.step(
            inputs,
            targets,
            zeros_like(self.state) if window.begins else self.state,
            num_targets=window.num_targets,
            lr=self.learning_rate(len(inputs)),
            index=self.index,
        )
        self.nats += nats
        self.num_targets += window.num_targets
        self.index += 1
        self.tokens += window.num_inputs

    def learning_rate(self, length: int) -> float:
        """The rate for a window of ``length``, in proportion to it if lengths are random (Merity et al. 2018)."""
        train = self.config.train
        total_steps = train.epochs * self.data.num_windows()
        rate = learning_rate(self.config.optimizer, step=self.index, total_steps=total_steps, epoch=self.epoch)
        return rate * (length / train.bptt if train.window_lengths == "random" else 1.0)

    def validate(self) -> float:
        """The validation perplexity of the averaged weights, if there are any, otherwise of the trained ones."""
        began = time.perf_counter()
        streams, bptt, burn_in = self.config.evaluate.streams, self.config.train.bptt, self.config.evaluate.burn_in
        length = max(bptt, 1024 // streams)
        parts = ScoringStreams(self.valid, num_streams=streams, bptt=bptt, burn_in=burn_in, window_length=length)
        with self.averaging.applied():
            scored = scored_windows(self.model, parts.windows(), precision=self.config.train.precision)
            total = sum((part.nats.sum(dtype=torch.float64) for part in scored), torch.zeros((), device=self.device))
        loss = float(total) / (len(self.valid) - 1)
        self.averaging.validated(loss)
        self.validation_seconds = time.perf_counter() - began
        self.best = min(self.best, math.exp(loss))
        return math.exp(loss)

    def line(self, perplexity: float | None = None) -> dict[str, Any]:
        """How far the training is; waits for the device."""
        loss = float(self.nats) / self.num_targets if self.num_targets else None
        self.nats.zero_()
        self.num_targets = 0
        values = (
            round(time.perf_counter() - self.began, 2), self.epoch, self.index, self.tokens,
            self.step.optimizer.param_groups[0]["lr"], loss, perplexity, self.averaging.begun,
        )  # fmt: skip
        return dict(zip(COLUMNS, values, strict=True))


def recipe(config: Config, folder: Path, log: Path, device: torch.device, *, until: float) -> Iterator[Row]:
    """Train ``config`` until ``until``, each line written to ``log`` as it comes; yields one row with the result."""
    training = Training(config, *read_corpus(folder), device)
    with log.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for line in training.run(until):
            writer.writerow(line)
            file.flush()
    synchronize(device)
    seconds = time.perf_counter() - training.began
    epochs = training.tokens / training.data.tokens_per_epoch
    hours = seconds / epochs * config.train.epochs / 3600
    yield {
        "row": f"the recipe's first {seconds:,.0f} s: epochs (of {config.train.epochs}); validation perplexity, best "
        "so far; tokens/s, validations included; all of it at this rate, h",
        "figure": f"{epochs:.1f}; {training.best:.2f}; {training.tokens / seconds:,.0f}; {hours:.1f}",
        "seconds": seconds,
        "epochs": epochs,
        "steps": training.index,
        "tokens": training.tokens,
        "best_perplexity": training.best,
        "hours_in_all": hours,
    }

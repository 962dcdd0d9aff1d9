"""A recipe's model trained with the plainest loop there is, for comparison with ours: nn.LSTM, cross_entropy.

    python -m jobs.train --config configs/char-war-and-peace.yaml corpus.train=train.txt corpus.valid=valid.txt
    python benchmarks/plain_loop.py runs/…/config.yaml --epochs 4

Reads the corpus that a run has prepared and begins with the weights that the run began with, so that both do the same
arithmetic; with that run's optimizer (RMSProp), clipping by value and schedule, without dropout. Prints validation
nats per token after every epoch, over one stream, each token with its whole history.
Letters: T time, B streams, V vocabulary.
"""

from __future__ import annotations

import argparse
import re
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline import config as configuration
from pipeline.data.shards import open_prepared
from pipeline.model.language_model import LanguageModel
from pipeline.run import build_model
from pipeline.training.schedules import learning_rate


class Plain(nn.Module):
    """Embedding, nn.LSTM (or nn.GRU, nn.RNN) and a linear layer, with the weights of ``ours``."""

    def __init__(self, ours: LanguageModel, cell: str, hidden_size: int, num_layers: int) -> None:
        super().__init__()
        vocab_size = ours.embedding.num_embeddings
        self.embedding = nn.Embedding(vocab_size, hidden_size)
        self.recurrence = getattr(nn, cell.upper())(hidden_size, hidden_size, num_layers)
        self.head = nn.Linear(hidden_size, vocab_size)
        layer = re.compile(r"layers\.(\d+)\.(\w+)_l0$")
        self.load_state_dict({layer.sub(r"\2_l\1", name): value for name, value in ours.state_dict().items()})

    def forward(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """(T, B) → logits (T, B, V) and the next state."""
        hidden, state = self.recurrence(self.embedding(tokens), state)
        return self.head(hidden), state


def detached(state: Any) -> Any:
    return tuple(part.detach() for part in state) if isinstance(state, tuple) else state.detach()


def update(
    model: Plain, optimizer: torch.optim.Optimizer, inputs: Tensor, targets: Tensor, state: Any, *, clip_value: float
) -> tuple[Tensor, Any]:
    """Make an update on a window (T, B) that follows ``state``; return the loss before it and the next state."""
    logits, state = model(inputs, None if state is None else detached(state))
    loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_value_(model.parameters(), clip_value)
    optimizer.step()
    return loss, state


@torch.no_grad()
def validation_nats(model: Plain, tokens: Tensor) -> float:
    """Mean nats of all ``tokens`` (N,) but the first, in one stream."""
    state, total = None, 0.0
    for start in range(0, len(tokens) - 1, 1000):
        part = tokens[start : start + 1001].unsqueeze(1)
        logits, state = model(part[:-1], state)
        total += F.cross_entropy(logits.flatten(0, 1), part[1:].flatten(), reduction="sum").item()
    return total / (len(tokens) - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="config.yaml of a run directory")
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    config = configuration.load(arguments.config)
    sizes, train, optimizing = config.model, config.train, config.optimizer
    if sizes.cell not in ("rnn", "lstm", "gru") or optimizing.name != "rmsprop" or train.clip_value is None:
        parser.error("only for rnn, lstm and gru by rmsprop with train.clip_value")
    dropouts = {name: value for name, value in sizes if "dropout" in name and value}
    if dropouts:
        parser.error(f"only for models without dropout: {dropouts}")
    corpus = open_prepared(config.data.directory)
    ids = {name: torch.from_numpy(np.array(corpus.splits[name][:], dtype=np.int64)) for name in ("train", "valid")}
    length = (len(ids["train"]) - 1) // train.batch_size
    begins = range(0, length * train.batch_size, length)
    streams = torch.stack([ids["train"][begin : begin + length + 1] for begin in begins], dim=1)  # (length + 1, B)
    ours = build_model(config, corpus.vocab_size)
    model = Plain(ours, sizes.cell, sizes.hidden_size, sizes.num_layers)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=optimizing.lr, alpha=optimizing.beta2, eps=optimizing.eps)
    num_windows = -(-length // train.bptt)
    total_steps = train.epochs * num_windows
    started = time.perf_counter()
    for epoch in range(arguments.epochs):
        state = None
        for step, start in enumerate(range(0, length, train.bptt), epoch * num_windows):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(optimizing, step=step, total_steps=total_steps, epoch=epoch)
            window = streams[start : start + train.bptt + 1]
            _, state = update(model, optimizer, window[:-1], window[1:], state, clip_value=train.clip_value)
        nats = validation_nats(model, ids["valid"])
        seconds = time.perf_counter() - started
        print(f"epoch {epoch + 1}: validation {nats:.4f} nats a token, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()

"""The training steps that ours is compared with, as their authors wrote them: word_language_model and awd-lstm-lm.

Both stay outside this project: ``folder`` is a copy of ``word_language_model`` of pytorch/examples, or of
salesforce/awd-lstm-lm. The code around their modules does what their ``main.py`` does in a step, and they begin with
the weights of our model, so that the losses can be compared.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.config import ModelConfig
from pipeline.model.language_model import LanguageModel
from pipeline.model.regularization import Penalties

Step = Callable[[Tensor, Tensor], float]  # (T, B) inputs and targets → the mean loss before the update


class Textbook(nn.Module):
    """The model of word_language_model, with its names, used if no copy of it is given."""

    def __init__(
        self, kind: str, vocab_size: int, embedding_size: int, hidden_size: int, num_layers: int, dropout: float,
        tie_weights: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.encoder = nn.Embedding(vocab_size, embedding_size)
        self.rnn = getattr(nn, kind)(embedding_size, hidden_size, num_layers, dropout=dropout)
        self.decoder = nn.Linear(hidden_size, vocab_size)
        if tie_weights:
            self.decoder.weight = self.encoder.weight
        self.vocab_size = vocab_size

    def forward(self, inputs: Tensor, hidden: Any) -> tuple[Tensor, Any]:
        output, hidden = self.rnn(self.drop(self.encoder(inputs)), hidden)
        decoded = self.decoder(self.drop(output)).view(-1, self.vocab_size)
        return torch.log_softmax(decoded, dim=1), hidden


def module_of(folder: str, name: str) -> Any:
    """Module ``name`` of the peer in ``folder``, which imports its neighbours by their bare names."""
    sys.path.insert(0, folder)
    return importlib.import_module(name)


def word_language_model(
    ours: LanguageModel, config: ModelConfig, *, folder: str | None, batch_size: int, lr: float, clip_norm: float,
    optimizer: str, autocast: Callable[[], Any],
) -> Step:  # fmt: skip
    """Its ``train()`` for one window: detach, NLLLoss of log_softmax, ``clip_grad_norm_``, SGD by hand or AdamW."""
    build = Textbook if folder is None else module_of(folder, "model").RNNModel
    vocab_size = ours.embedding.num_embeddings
    sizes = (vocab_size, config.hidden_size, config.hidden_size, config.num_layers)
    model = build("LSTM", *sizes, config.dropout, config.tie_weights)
    copy_weights(ours, model, ((model.rnn, index) for index in range(config.num_layers)))
    adamw = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0) if optimizer == "adamw" else None
    criterion = nn.NLLLoss()
    shape = (config.num_layers, batch_size, config.hidden_size)
    hidden = (torch.zeros(shape), torch.zeros(shape))

    def step(inputs: Tensor, targets: Tensor) -> float:
        nonlocal hidden
        model.train()
        model.zero_grad()
        with autocast():
            output, hidden = model(inputs, tuple(part.detach() for part in hidden))
            loss = criterion(output, targets.view(-1))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        if adamw is not None:
            adamw.step()
        else:
            for parameter in model.parameters():
                parameter.data.add_(parameter.grad, alpha=-lr)
        return float(loss.item())

    return step


def awd_lstm(
    ours: LanguageModel, config: ModelConfig, *, folder: str, batch_size: int, lr: float, clip_norm: float,
    weight_decay: float, penalties: Penalties, autocast: Callable[[], Any],
) -> Step:  # fmt: skip
    """Its ``train()`` for one window of a fixed length: split cross-entropy without splits, AR, TAR, clip, SGD."""
    vocab_size = ours.embedding.num_embeddings
    model = module_of(folder, "model").RNNModel(
        "LSTM", vocab_size, config.embedding_size, config.hidden_size, config.num_layers,
        config.output_dropout, config.hidden_dropout, config.input_dropout, config.embedding_dropout,
        config.weight_dropout, True,
    )  # fmt: skip
    criterion = module_of(folder, "splitcross").SplitCrossEntropyLoss(config.embedding_size, splits=[])
    layers = (getattr(rnn, "module", rnn) for rnn in model.rnns)
    copy_weights(ours, model, ((layer, 0) for layer in layers))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, weight_decay=weight_decay)
    hidden = model.init_hidden(batch_size)

    def step(inputs: Tensor, targets: Tensor) -> float:
        nonlocal hidden
        model.train()
        hidden = [tuple(part.detach() for part in state) for state in hidden]
        optimizer.zero_grad()
        with autocast():
            output, hidden, outputs, dropped = model(inputs, hidden, return_h=True)
            raw_loss = criterion(model.decoder.weight, model.decoder.bias, output, targets.view(-1))
        loss = raw_loss + penalties.activation * dropped[-1].pow(2).mean()
        loss = loss + penalties.temporal * (outputs[-1][1:] - outputs[-1][:-1]).pow(2).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        optimizer.step()
        return float(raw_loss.item())

    return step


def copy_weights(ours: LanguageModel, peer: Any, layers: Iterable[tuple[nn.Module, int]]) -> None:
    """Copy our weights into ``peer``; ``layers`` are its modules and the numbers of our layers within them."""
    with torch.no_grad():
        peer.encoder.weight.copy_(ours.embedding.weight)
        peer.decoder.weight.copy_(ours.head.weight)
        peer.decoder.bias.copy_(ours.head.bias)
        for layer, (module, index) in zip(ours.recurrence.layers, layers, strict=True):
            names = dict(module.named_parameters())
            for name, parameter in layer.named_parameters():
                name = name.replace("l0", f"l{index}")
                names[name if name in names else f"{name}_raw"].copy_(parameter)

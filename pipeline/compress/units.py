"""Whole hidden units are taken out of a trained model, which leaves a smaller dense one, faster wherever it runs.

A unit goes with all that it reads (its rows of every gate, its biases) and all that reads it (columns of its layer's
recurrent matrix, of the next layer's and of the head). Where the head is the embedding and takes the last layer as it
is, unit j of that layer and column j of the embedding go together. A unit that nothing reads changes no logit.
Letter: H hidden.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline import config as configuration
from pipeline.config import Config
from pipeline.data.windows import Window
from pipeline.errors import UserError
from pipeline.evaluate.dynamic import Follower
from pipeline.files import write_file
from pipeline.model.head import Softmax
from pipeline.model.language_model import LanguageModel
from pipeline.model.mogrifier import MogrifierLSTM
from pipeline.training.checkpoint import Loaded
from pipeline.training.directory import RunDirectory

# of the training text, for the saliency
WINDOWS = 50
# in the directory of a tuning run: the checksum of the weights that its units were taken out of
PRUNED_FROM = "pruned_from"


def check_removable(config: Config, model: LanguageModel) -> None:
    """Raise ``UserError`` for a model that units cannot be taken out of."""
    if model.attends:
        raise UserError(f"each unit has a part in all others where a model attends ({model.attends})", argument="units")
    if config.model.layer_norm or config.model.residual:
        raise UserError("with model.layer_norm or model.residual each unit has a part in all others", argument="units")
    if config.model.cell == "slstm":
        raise UserError("the norm of an slstm's heads gives each unit a part in others of its head", argument="units")
    if type(model.head) is not Softmax:
        raise UserError(f"model.head must be softmax, not {config.model.head}", argument="units")


def without_units(loaded: Loaded, share: float, windows: Iterable[Window]) -> Loaded:
    """A smaller model: of each layer, ``share`` of the units is gone, those of least ``saliency`` on ``windows``.

    Raises:
        UserError: a model that units cannot be taken out of.
    """
    check_removable(loaded.config, loaded.model)
    scores = saliency(loaded.model, windows)
    numbers = [max(1, len(each) - round(share * len(each))) for each in scores]
    if loaded.model.projection is not None and numbers[-1] == loaded.model.embedding.embedding_dim:
        numbers[-1] += 1  # with as many units as that a tied model has no projection
    return keep_units(
        loaded, [each.topk(number).indices.sort().values for each, number in zip(scores, numbers, strict=True)]
    )


def saliency(model: LanguageModel, windows: Iterable[Window]) -> list[Tensor]:
    """Return (H,) of each layer: by how much the loss is expected to change when what reads a unit is zero.

    (Σ w · ∂loss/∂w)² over the weights that read the unit, summed over the first of ``windows``, training text
    (Molchanov et al. 2019, "Importance Estimation for Neural Network Pruning", equation 8; only the order matters).
    """
    follower = Follower(model)
    weights = {name: weight.detach() for name, weight in follower.model.named_parameters()}
    scores = [torch.zeros(())] * len(model.recurrence.layers)
    state = None
    for window in islice(windows, WINDOWS):
        _, _, state, gradients = follower.read(window, state)
        changes = {name: weights[name] * part for name, part in zip(weights, gradients, strict=True)}
        scores = [score + read.sum(0).square() for score, read in zip(scores, readers(model, changes), strict=True)]
    return scores


def readers(model: LanguageModel, values: Mapping[str, Tensor]) -> list[Tensor]:
    """(…, H) of each layer: those of ``values`` (by the names of the parameters they are of) that read a unit."""
    layers: Any = model.recurrence.layers
    found = []
    for index, layer in enumerate(layers):
        parts = [values[name] for name in _names(model, index, "weight_hh", *_mixers_reading(layer, "hidden"))]
        if index + 1 < len(layers):
            mixers = _mixers_reading(layers[index + 1], "inputs")
            parts += [values[name] for name in _names(model, index + 1, "weight", "weight_ih", *mixers)]
        else:
            parts.append(values[_last_reader(model)])
        found.append(torch.cat([part.reshape(-1, layer.hidden_size) for part in parts]))
    return found


def keep_units(loaded: Loaded, kept: Sequence[Tensor]) -> Loaded:
    """``loaded`` with only the units ``kept`` (indices, one tensor a layer)."""
    model = loaded.model
    layers: Any = model.recurrence.layers
    columns = torch.arange(model.embedding.embedding_dim)
    if _last_reader(model) == "embedding.weight":
        columns = kept[-1]
    smaller = configuration.with_values(loaded.config, _sizes(kept, len(columns)))
    weights = dict(model.named_parameters())
    result = LanguageModel(smaller.model, model.embedding.num_embeddings).to(model.dtype)
    with torch.no_grad():
        for name, parameter in result.named_parameters():
            parameter.copy_(_cut(name, weights[name], layers, kept, columns, reads_last=_last_reader(model)))
    return replace(loaded, model=result.eval(), config=smaller)


def tuning_config(config: Config, *, weights: Path, directory: Path, num_steps: int, steps_per_epoch: int) -> Config:
    """The run that trains ``weights``, a model folder, ``num_steps`` on, otherwise as ``config`` says.

    Its epochs are more than enough, also where windows are of random lengths.
    """
    changes = {
        "train.initial_weights": str(weights),
        "train.max_steps": num_steps,
        "train.max_tokens": None,
        "train.max_words": None,
        "train.checkpoint_at_words": [],
        "train.epochs": 2 + 2 * num_steps // steps_per_epoch,
        "run.directory": str(directory),
    }
    return configuration.with_values(config, changes)


def begin_tuning(directory: Path, source: str) -> Path | None:
    """Let ``directory`` hold the run that trains on what was pruned from weights of the checksum ``source``.

    A run there that may be of other weights is set aside; returns where, None if there was none.

    Raises:
        UserError: the run is in use, or cannot be written.
    """
    with RunDirectory(directory).locked() as run:
        remembered = run.path / PRUNED_FROM
        if remembered.exists() and remembered.read_bytes() == source.encode():
            return None
        aside = run.set_aside()
        # before the run begins, so that an interrupted run can continue
        write_file(remembered, source)
        return aside


def _sizes(kept: Sequence[Tensor], embedding_size: int) -> dict[str, Any]:
    sizes = [len(units) for units in kept]
    hidden_size = sizes if len(sizes) > 1 else sizes[0]
    return {"model.hidden_size": hidden_size, "model.last_hidden_size": None, "model.embedding_size": embedding_size}


def _cut(
    name: str, weight: Tensor, layers: Any, kept: Sequence[Tensor], embedding_columns: Tensor, *, reads_last: str
) -> Tensor:
    """What is left of the parameter called ``name``."""
    if not name.startswith("recurrence."):
        if name == "embedding.weight":
            return weight[:, embedding_columns]
        return weight[:, kept[-1]] if name == reads_last else weight
    index = int(name.split(".")[2])
    layer, units = layers[index], kept[index]
    if ".mixers." in name:
        of: dict[str, Any] = {
            "inputs": kept[index - 1] if index else embedding_columns,
            "hidden": units,
            "rank": slice(None),
        }
        rows, columns = layer.mixed[int(name.split(".")[-1])]
        return weight[of[rows]][:, of[columns]]
    rows = weight.unflatten(0, (-1, layer.hidden_size))[:, units].flatten(0, 1)  # of every gate
    if weight.dim() == 1:
        return rows
    size, columns = layer.input_size, kept[index - 1] if index else embedding_columns
    if "weight_hh" in name:
        size, columns = layer.hidden_size, units
    return rows.unflatten(1, (-1, size))[:, :, columns].flatten(1)  # a QRNN reads two inputs side by side


def _last_reader(model: LanguageModel) -> str:
    """The name of the matrix that reads the last layer."""
    if model.projection is not None:
        return "projection.weight"
    return "embedding.weight" if model.head.weight is model.embedding.weight else "head.weight"


def _names(model: LanguageModel, index: int, *kinds: str) -> list[str]:
    """Names of the parameters of layer ``index`` that are of these ``kinds``, whatever torch adds to them."""
    prefix = f"recurrence.layers.{index}."
    return [
        name
        for name, _ in model.named_parameters()
        if name.startswith(prefix) and name[len(prefix) :].removesuffix("_l0") in kinds
    ]


def _mixers_reading(layer: Any, what: str) -> list[str]:
    """Names of the matrices of a mogrifier that read its ``hidden`` vector or its ``inputs``."""
    if not isinstance(layer, MogrifierLSTM):
        return []
    return [f"mixers.{place}" for place, (_, columns) in enumerate(layer.mixed) if columns == what]

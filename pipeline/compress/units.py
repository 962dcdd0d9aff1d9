"""Remove whole hidden units from a trained model, which leaves a smaller dense one, faster wherever it runs.

A unit is removed together with what it reads through (its rows of every gate, its biases) and what reads it (columns of
its layer's recurrent matrix, of the next layer's and of the head). If the head is the embedding and reads the last
layer directly, column j of the embedding goes with unit j of that layer. Without a unit that nothing reads, all logits
stay the same. Letter: H hidden.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline import config as configuration
from pipeline.compress.folder import changed
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

# windows of the training text that are read for the saliency
WINDOWS = 50
# in the directory of a tuning run: the checksum of the weights whose units were removed, and the number of its steps
PRUNED_FROM = "pruned_from"


def check_removable(config: Config, model: LanguageModel, shares: Iterable[float] = ()) -> None:
    """Raise ``UserError`` if units cannot be removed from ``model``, or not ``shares`` of them."""
    if model.attends:
        raise UserError(
            f"units cannot be removed from a model that attends ({model.attends}): each affects all others",
            argument="units",
        )
    if config.model.layer_norm or config.model.residual:
        raise UserError(
            "units cannot be removed with model.layer_norm or model.residual, which tie them to other units",
            argument="units",
        )
    if config.model.cell == "slstm":
        raise UserError(
            "units cannot be removed from an slstm: the norm of each head ties its units together", argument="units"
        )
    if type(model.head) is not Softmax:
        raise UserError(f"model.head must be softmax, not {config.model.head}", argument="units")
    for share in shares:
        try:
            configuration.with_values(config, _sizes(numbers_left(model, share), embedding_left(model, share)))
        except UserError as error:
            raise UserError(f"without {share:g} of the units, {error}", argument="units") from None


def numbers_left(model: LanguageModel, share: float) -> list[int]:
    """Return how many units of each layer are left without ``share`` of them."""
    layers: Any = model.recurrence.layers
    numbers = [max(1, layer.hidden_size - round(share * layer.hidden_size)) for layer in layers]
    if model.projection is not None and numbers[-1] == model.embedding.embedding_dim:
        numbers[-1] += 1  # with exactly that many units a tied model has no projection
    return numbers


def embedding_left(model: LanguageModel, share: float) -> int:
    """Return how many columns of the embedding are left without ``share`` of the units."""
    is_cut = _last_reader(model) == "embedding.weight"
    return numbers_left(model, share)[-1] if is_cut else model.embedding.embedding_dim


def without_units(loaded: Loaded, share: float, windows: Iterable[Window]) -> Loaded:
    """Return a smaller model: each layer loses ``share`` of its units, those of least ``saliency`` on ``windows``.

    Raises:
        UserError: units cannot be removed from the model.
    """
    check_removable(loaded.config, loaded.model, [share])
    scores, numbers = saliency(loaded.model, windows), numbers_left(loaded.model, share)
    return keep_units(
        loaded, [each.topk(number).indices.sort().values for each, number in zip(scores, numbers, strict=True)]
    )


def saliency(model: LanguageModel, windows: Iterable[Window]) -> list[Tensor]:
    """Return (H,) for each layer: how much the loss is expected to change if the weights that read a unit become zero.

    (Σ w · ∂loss/∂w)² over the weights that read the unit, summed over the first ``WINDOWS`` of the training ``windows``
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
    """Return (…, H) for each layer: those of ``values``, by parameter name, that belong to weights that read a unit."""
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
    """Return ``loaded`` with only the units ``kept`` (indices, one tensor per layer)."""
    model = loaded.model
    layers: Any = model.recurrence.layers
    columns = torch.arange(model.embedding.embedding_dim)
    if _last_reader(model) == "embedding.weight":
        columns = kept[-1]
    smaller = configuration.with_values(loaded.config, _sizes([len(units) for units in kept], len(columns)))
    weights = dict(model.named_parameters())
    result = LanguageModel(smaller.model, model.embedding.num_embeddings).to(model.dtype)
    result.reset_after, result.reset_every = model.reset_after, model.reset_every
    with torch.no_grad():
        for name, parameter in result.named_parameters():
            parameter.copy_(_cut(name, weights[name], layers, kept, columns, reads_last=_last_reader(model)))
    return changed(loaded, result.eval(), smaller)


def tuning_config(config: Config, *, weights: Path, directory: Path, num_steps: int, steps_per_epoch: int) -> Config:
    """Return the run that trains ``weights``, a model folder, for ``num_steps`` more, otherwise as ``config`` says.

    Its epochs are more than enough, even if windows have random lengths.
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


def begin_tuning(directory: Path, source: str, *, num_steps: int) -> Path | None:
    """Prepare ``directory`` for the run that tunes what was pruned from the weights with checksum ``source``.

    A run there that may come from other weights or have another number of steps, which its learning rates follow, is
    set aside; returns its new path, or None if there was none.

    Raises:
        UserError: the run is in use, or cannot be written.
    """
    with RunDirectory(directory).locked() as run:
        remembered, own = run.path / PRUNED_FROM, f"{source} {num_steps}"
        if remembered.exists() and remembered.read_bytes() == own.encode():
            return None
        aside = run.set_aside()
        # before the run begins, so that an interrupted run can continue
        write_file(remembered, own)
        return aside


def _sizes(sizes: Sequence[int], embedding_size: int) -> dict[str, Any]:
    hidden_size = [*sizes] if len(sizes) > 1 else sizes[0]
    return {"model.hidden_size": hidden_size, "model.last_hidden_size": None, "model.embedding_size": embedding_size}


def _cut(
    name: str, weight: Tensor, layers: Any, kept: Sequence[Tensor], embedding_columns: Tensor, *, reads_last: str
) -> Tensor:
    """Return what is left of the parameter called ``name``."""
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
    """Return the name of the matrix that reads the last layer."""
    if model.projection is not None:
        return "projection.weight"
    return "embedding.weight" if model.head.weight is model.embedding.weight else "head.weight"


def _names(model: LanguageModel, index: int, *kinds: str) -> list[str]:
    """Return the names of the parameters of layer ``index`` of these ``kinds``, with or without torch's ``_l0``."""
    prefix = f"recurrence.layers.{index}."
    return [
        name
        for name, _ in model.named_parameters()
        if name.startswith(prefix) and name[len(prefix) :].removesuffix("_l0") in kinds
    ]


def _mixers_reading(layer: Any, what: str) -> list[str]:
    """Return the names of the matrices of a mogrifier that read its ``hidden`` vector or its ``inputs``."""
    if not isinstance(layer, MogrifierLSTM):
        return []
    return [f"mixers.{place}" for place, (_, columns) in enumerate(layer.mixed) if columns == what]

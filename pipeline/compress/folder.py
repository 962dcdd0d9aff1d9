"""A form of a model as a folder that loads anywhere, written completely or not at all.

weights.safetensors  config.yaml  tokenizer.json  README.md (the card)  manifest.json
model.onnx  tokenizer.json  README.md (the card, with instructions)
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from pipeline import config as configuration
from pipeline.compress.onnx_card import onnx_card
from pipeline.compress.onnx_model import ONNX
from pipeline.config import Config
from pipeline.files import new_folder
from pipeline.model.language_model import LanguageModel
from pipeline.training import checkpoint
from pipeline.training.checkpoint import Loaded

CARD = "README.md"
FIGURES = {"perplexity": "perplexity", "bits_per_byte": "bits per byte"}  # of the validation, in a manifest


def changed(loaded: Loaded, model: LanguageModel, config: Config) -> Loaded:
    """Return ``loaded`` with a ``model`` of other weights, of which the figures of its checkpoint do not hold."""
    manifest = {name: value for name, value in loaded.manifest.items() if name not in FIGURES}
    return replace(loaded, model=model, config=config, manifest=manifest)


def write_model_folder(path: Path, loaded: Loaded, *, dtype: torch.dtype, argument: str = "output") -> Path:
    """Write a model with weights in ``dtype``; returns the weights file.

    Args:
        argument: the argument that errors name.

    Raises:
        UnwritableError: the folder cannot be written; an earlier one is kept.
    """
    weights = {name: tensor.to(dtype) for name, tensor in checkpoint.weights_of(loaded.model).items()}
    kept = ("step", "epoch", "tokens", "words", *FIGURES, "fingerprints", "torch")
    facts = {name: loaded.manifest[name] for name in kept if name in loaded.manifest}
    with new_folder(path, argument=argument) as temporary:
        try:
            save_file(weights, str(temporary / checkpoint.WEIGHTS))
        except SafetensorError as error:  # how safetensors reports a full disk
            raise OSError(str(error)) from None
        (temporary / checkpoint.CONFIG).write_text(configuration.to_yaml(loaded.config), encoding="utf-8")
        loaded.tokenizer.save(temporary / checkpoint.TOKENIZER)
        (temporary / CARD).write_text(card(loaded), encoding="utf-8")
        checkpoint.write_manifest(temporary, {"kind": checkpoint.MODEL_FOLDER, **facts})
    return path / checkpoint.WEIGHTS


def write_onnx_folder(path: Path, content: bytes, loaded: Loaded, *, weights: str, argument: str = "output") -> Path:
    """Write an exported model with its tokenizer and a card; returns the model file. Raises ``UnwritableError``.

    Args:
        weights: the type of its weights, for the card.
    """
    with new_folder(path, argument=argument) as temporary:
        (temporary / ONNX).write_bytes(content)
        loaded.tokenizer.save(temporary / checkpoint.TOKENIZER)
        (temporary / CARD).write_text(onnx_card(facts_of(loaded), weights, loaded.model.reset_after), encoding="utf-8")
    return path / ONNX


def card(loaded: Loaded) -> str:
    """Return the model card: data, settings and figures."""
    return f"""{facts_of(loaded)}

All settings are in `config.yaml`. To use it:

    from pipeline import load
    print(load(FOLDER).generate("", num_tokens=50, seed=1)[0])
"""


def facts_of(loaded: Loaded) -> str:
    """Return a title and a list: what the model was made from, and how well its checkpoint did."""
    config, manifest = loaded.config, loaded.manifest
    form = "" if config.corpus.normalize is None else f", of text normalised to {config.corpus.normalize}"
    lines = [
        f"# {config.model.cell} language model of {loaded.model.num_parameters:,} parameters",
        "",
        f"- Text: {', '.join(config.corpus.train)}",
        f"- Tokens: {loaded.tokenizer.kind}, {loaded.tokenizer.vocab_size:,} types{form}",
        f"- Layers: {', '.join(map(str, config.model.layer_sizes))} units",
        f"- Trained on {manifest.get('tokens', 0):,} tokens, {manifest.get('step', 0):,} updates",
    ]
    if manifest.get("words") is not None:
        lines[-1] += f", {manifest['words']:,} words"
    for name, figure in FIGURES.items():
        if manifest.get(name) is not None:
            lines.append(f"- Validation {figure} of the checkpoint: {manifest[name]:.3f}")
    return "\n".join(lines)

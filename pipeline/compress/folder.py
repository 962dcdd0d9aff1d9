"""What is kept of a model: a folder that loads anywhere, written whole or not at all.

weights.safetensors  config.yaml  tokenizer.json  README.md (the card)  manifest.json
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from pipeline import config as configuration
from pipeline.data.tokenizer import Tokenizer
from pipeline.files import new_folder
from pipeline.model.language_model import LanguageModel
from pipeline.training import checkpoint
from pipeline.training.checkpoint import Loaded

CARD, ONNX = "README.md", "model.onnx"
# of jobs.compress, where these folders come to lie
OPTION = "--output"


def write_model_folder(path: Path, loaded: Loaded, model: LanguageModel, *, dtype: torch.dtype) -> Path:
    """``model``, one of the shape of ``loaded``, with weights in ``dtype``; returns the file of the weights.

    Raises:
        UnwritableError: as ``files.new_folder``.
    """
    weights = {name: tensor.to(dtype) for name, tensor in checkpoint.weights_of(model).items()}
    kept = ("step", "epoch", "tokens", "perplexity", "bits_per_byte", "fingerprints", "torch")
    facts = {name: loaded.manifest[name] for name in kept if name in loaded.manifest}
    with new_folder(path, option=OPTION) as temporary:
        try:
            save_file(weights, str(temporary / checkpoint.WEIGHTS))
        except SafetensorError as error:  # how it tells of a full disk
            raise OSError(str(error)) from None
        (temporary / checkpoint.CONFIG).write_text(configuration.to_yaml(loaded.config), encoding="utf-8")
        loaded.tokenizer.save(temporary / checkpoint.TOKENIZER)
        (temporary / CARD).write_text(card(loaded, model), encoding="utf-8")
        checkpoint.write_manifest(temporary, {"kind": checkpoint.MODEL_FOLDER, **facts})
    return path / checkpoint.WEIGHTS


def write_onnx_folder(path: Path, content: bytes, tokenizer: Tokenizer) -> Path:
    """An exported model with its tokenizer beside it; returns the file of the model. Raises ``UnwritableError``."""
    with new_folder(path, option=OPTION) as temporary:
        (temporary / ONNX).write_bytes(content)
        tokenizer.save(temporary / checkpoint.TOKENIZER)
    return path / ONNX


def card(loaded: Loaded, model: LanguageModel) -> str:
    """The model card: data, settings and figures."""
    config, manifest = loaded.config, loaded.manifest
    text = ", ".join(config.corpus.train)
    lines = [
        f"# {config.model.cell} language model of {model.num_parameters:,} parameters",
        "",
        f"- Text: {text}",
        f"- Tokens: {loaded.tokenizer.kind}, {loaded.tokenizer.vocab_size:,} types",
        f"- Layers: {', '.join(map(str, config.model.layer_sizes))} units",
        f"- Trained on {manifest.get('tokens', 0):,} tokens, {manifest.get('step', 0):,} updates",
    ]
    for name, figure in (("perplexity", "perplexity"), ("bits_per_byte", "bits per byte")):
        if manifest.get(name) is not None:
            lines.append(f"- Validation {figure} of the checkpoint: {manifest[name]:.3f}")
    lines += ["", "All settings are in `config.yaml`. To use it:", "", "    from pipeline.generate import generate"]
    lines += ["    from pipeline.training.checkpoint import load_model", "    loaded = load_model(FOLDER)"]
    lines += ['    print("".join(generate(loaded.model, loaded.tokenizer, "", num_tokens=50, seed=1)))', ""]
    return "\n".join(lines)

"""What is kept of a model: a folder that loads anywhere, written whole or not at all.

weights.safetensors  config.yaml  tokenizer.json  README.md (the card)  manifest.json
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from pipeline import config as configuration
from pipeline.data.tokenizer import Tokenizer
from pipeline.model.language_model import LanguageModel
from pipeline.training import checkpoint
from pipeline.training.checkpoint import Loaded

CARD, ONNX = "README.md", "model.onnx"


def write_model_folder(path: Path, loaded: Loaded, model: LanguageModel, *, dtype: torch.dtype) -> Path:
    """``model``, one of the shape of ``loaded``, with weights in ``dtype``; returns the file of the weights."""
    temporary = _begin(path)
    weights = {name: tensor.to(dtype) for name, tensor in checkpoint.weights_of(model).items()}
    save_file(weights, str(temporary / checkpoint.WEIGHTS))
    (temporary / checkpoint.CONFIG).write_text(configuration.to_yaml(loaded.config), encoding="utf-8")
    loaded.tokenizer.save(temporary / checkpoint.TOKENIZER)
    (temporary / CARD).write_text(card(loaded, model), encoding="utf-8")
    kept = ("step", "epoch", "tokens", "perplexity", "bits_per_byte", "fingerprints", "torch")
    facts = {name: loaded.manifest[name] for name in kept if name in loaded.manifest}
    checkpoint.write_manifest(temporary, {"kind": checkpoint.MODEL_FOLDER, **facts})
    return _finish(temporary, path) / checkpoint.WEIGHTS


def write_onnx_folder(path: Path, content: bytes, tokenizer: Tokenizer) -> Path:
    """An exported model with its tokenizer beside it; returns the file of the model."""
    temporary = _begin(path)
    (temporary / ONNX).write_bytes(content)
    tokenizer.save(temporary / checkpoint.TOKENIZER)
    return _finish(temporary, path) / ONNX


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


def _begin(path: Path) -> Path:
    temporary = path.with_name(f".writing-{path.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    return temporary


def _finish(temporary: Path, path: Path) -> Path:
    if path.exists():
        shutil.rmtree(path)
    return temporary.rename(path)

"""The whole state of a run on disk: a folder whose manifest, with sizes and checksums, is written last.

    checkpoints/step-00000123/
        weights.safetensors   the model; a tied weight once
        state.pt              optimizer, hidden state of all streams, loss scale, open sums (weights_only)
        config.yaml           the resolved configuration
        tokenizer.json        as in the prepared corpus
        manifest.json         step, epoch, position, figures, fingerprints; size and xxh3 of every file above

A folder is written under a temporary name and renamed whole, so a killed writer leaves nothing that looks like a
checkpoint. Every start reads the newest folder that verifies. Nothing here is ever unpickled.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import xxhash
from safetensors import SafetensorError
from safetensors.torch import load_model as load_weights
from safetensors.torch import save_file as save_weights
from torch import Tensor, nn

from pipeline import config as configuration
from pipeline.config import Config
from pipeline.data.tokenizer import Tokenizer, load_tokenizer
from pipeline.errors import UserError
from pipeline.model.language_model import LanguageModel
from pipeline.training.directory import RunDirectory

MANIFEST = "manifest.json"
WEIGHTS, STATE, CONFIG, TOKENIZER = "weights.safetensors", "state.pt", "config.yaml", "tokenizer.json"


# what a manifest says of a folder that is only for use: it holds no state that training could go on from
MODEL_FOLDER = "model"


@dataclass(frozen=True)
class Loaded:
    """A model ready for use, with what it was trained as."""

    model: LanguageModel
    tokenizer: Tokenizer
    config: Config
    manifest: dict[str, Any]
    path: Path


def save(
    directory: RunDirectory,
    *,
    weights: Mapping[str, Tensor],
    state: Mapping[str, Any],
    config: Config,
    tokenizer: Tokenizer,
    facts: Mapping[str, Any],
) -> Path:
    """Write the checkpoint of step ``facts["step"]`` whole or not at all, then drop those no longer kept.

    Args:
        weights: as ``weights_of`` gives them.
        state: tensors, numbers, lists and dicts only, so that it loads with ``weights_only``.
        facts: goes into the manifest; ``step``, and ``perplexity`` where this step was validated.

    Raises:
        LostOwnershipError: another driver has taken the run over.
        OSError: the disk is full or gone; the earlier checkpoints stay as they are.
    """
    directory.check_owner()
    target = folder(directory, facts["step"])
    temporary = directory.checkpoints / f".writing-{target.name}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        _write_tensors(temporary, weights, state)
        (temporary / CONFIG).write_text(configuration.to_yaml(config), encoding="utf-8")
        tokenizer.save(temporary / TOKENIZER)
        write_manifest(temporary, facts)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    directory.check_owner()
    if target.exists():
        shutil.rmtree(target)
    temporary.rename(target)
    _flush(directory.checkpoints)
    _drop_old(directory, keep=config.train.keep_checkpoints)
    return target


def write_manifest(folder: Path, facts: Mapping[str, Any]) -> None:
    """The manifest of the files in ``folder``, which makes it whole; all is on the disk when this returns."""
    files = {}
    for file in sorted(folder.iterdir()):
        files[file.name] = {"bytes": file.stat().st_size, "xxh3": _checksum(file)}
        _flush(file)
    (folder / MANIFEST).write_text(json.dumps({**facts, "files": files}, indent=1), encoding="utf-8")
    _flush(folder / MANIFEST)


def _write_tensors(folder: Path, weights: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    try:
        save_weights(dict(weights), str(folder / WEIGHTS))
        torch.save(dict(state), folder / STATE)
    except (SafetensorError, RuntimeError) as error:  # how these two tell of a full disk
        raise OSError(f"{folder}: {' '.join(str(error).split())}") from None


def folder(directory: RunDirectory, step: int) -> Path:
    """Where the checkpoint after ``step`` lies."""
    return directory.checkpoints / f"step-{step:08d}"


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """The weights of ``model`` by name, a tied one once."""
    unique: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        unique.setdefault(id(tensor), (name, tensor.detach().contiguous()))
    return dict(unique.values())


def manifests(run_directory: str | Path) -> list[tuple[Path, dict[str, Any]]]:
    """(folder, manifest) of every whole checkpoint of a run, oldest first; unreadable ones are left out."""
    found = []
    for path in sorted((Path(run_directory) / "checkpoints").glob("step-*")):
        try:
            found.append((path, json.loads((path / MANIFEST).read_text(encoding="utf-8"))))
        except (OSError, ValueError):
            continue
    return found


def find(run_directory: str | Path, which: str = "best") -> Path:
    """The ``best`` (lowest validation perplexity; the last where none was validated) or ``last`` checkpoint.

    Raises:
        UserError: if the run has no checkpoint that verifies.
    """
    found = manifests(run_directory)
    if which == "best" and (validated := [item for item in found if item[1].get("perplexity") is not None]):
        found = sorted(validated, key=lambda item: (-item[1]["perplexity"], -item[1]["step"]))
    for path, manifest in reversed(found):
        if not _damage(path, manifest):
            return path
    raise UserError(f"{run_directory}: no checkpoint there" + (" that is whole" if found else ""))


def resolve(path: str | Path) -> Path:
    """A checkpoint or model folder itself; the best checkpoint of a run. Raises ``UserError`` as ``find``."""
    return Path(path) if (Path(path) / MANIFEST).exists() else find(path)


def verify(path: Path) -> dict[str, Any]:
    """The manifest of the checkpoint at ``path`` after its sizes and checksums were checked.

    Raises:
        UserError: naming the file that is missing or altered.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(f"{path}: not a checkpoint (no readable {MANIFEST})") from None
    if damage := _damage(path, manifest):
        raise UserError(damage)
    return manifest


def load_model(path: str | Path, device: str | torch.device = "cpu") -> Loaded:
    """The verified model, tokenizer and configuration of a checkpoint.

    Raises:
        UserError: if a file is missing, altered, or of another shape than its configuration says.
    """
    path = Path(path)
    manifest = verify(path)
    config = configuration.load(path / CONFIG)
    tokenizer = load_tokenizer(path / TOKENIZER)
    model = LanguageModel(config.model, tokenizer.vocab_size)
    if config.train.precision == "float64":
        model.double()
    load_weights_into(model, path)
    return Loaded(model.to(device).eval(), tokenizer, config, manifest, path)


def load_weights_into(model: LanguageModel, path: Path) -> None:
    """Copy the weights of the checkpoint at ``path`` into ``model``. Raises ``UserError`` if shapes differ."""
    try:
        load_weights(model, str(path / WEIGHTS))
    except RuntimeError as error:
        raise UserError(f"{path}: weights of another shape than the model: {' '.join(str(error).split())}") from None


def load_state(path: Path, device: str | torch.device = "cpu") -> dict[str, Any]:
    """What ``save`` was given as ``state``."""
    return torch.load(path / STATE, map_location=device, weights_only=True)


def clear_up(directory: RunDirectory) -> list[str]:
    """Before a run goes on: remove what a killed writer left, and set aside each checkpoint that is damaged.

    Under its name a damaged one would be kept in place of a good one. Returns what was set aside, a sentence each.
    """
    for path in directory.checkpoints.glob(".writing-*"):
        shutil.rmtree(path, ignore_errors=True)
    sentences = []
    for path, manifest in manifests(directory.path):
        if damage := _damage(path, manifest):
            aside = path.with_name(f"damaged-{path.name}")
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
            sentences.append(f"{damage}; set aside as {aside.name}")
    return sentences


def _drop_old(directory: RunDirectory, *, keep: int) -> None:
    """Remove all but the last ``keep`` checkpoints and the best one."""
    found = manifests(directory.path)
    validated = [item for item in found if item[1].get("perplexity") is not None]
    best = min(validated, key=lambda item: item[1]["perplexity"])[0] if validated else None
    for path, _ in found[:-keep]:
        if path != best:
            shutil.rmtree(path, ignore_errors=True)


def _damage(path: Path, manifest: Mapping[str, Any]) -> str:
    """What is wrong with the files of a checkpoint, in a sentence; empty if nothing is."""
    files: Mapping[str, Mapping[str, Any]] = manifest.get("files", {})
    needed = (
        (WEIGHTS, CONFIG, TOKENIZER) if manifest.get("kind") == MODEL_FOLDER else (WEIGHTS, STATE, CONFIG, TOKENIZER)
    )
    if missing := [name for name in needed if name not in files]:
        return f"{path}: its manifest does not list {missing[0]}"
    for name, entry in files.items():
        file = path / name
        if not file.exists():
            return f"{file}: missing from the checkpoint"
        if file.stat().st_size != entry["bytes"]:
            return f"{file}: {file.stat().st_size} bytes where its checkpoint's manifest says {entry['bytes']}"
        if _checksum(file) != entry["xxh3"]:
            return f"{file}: altered since it was written (its checksum differs from the manifest's)"
    return ""


def _checksum(file: Path) -> str:
    digest = xxhash.xxh3_64()
    with file.open("rb") as stream:
        while block := stream.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def _flush(path: Path) -> None:
    """Make what was written to ``path`` survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

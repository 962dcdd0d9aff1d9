"""A checkpoint is the whole state of a run on disk: a folder whose manifest, with checksums, is written last.

    checkpoints/step-00000123/
        weights.safetensors   the model; a tied weight once
        state.pt              optimizer, hidden state of all streams, loss scale, open sums (weights_only)
        config.yaml           the resolved configuration
        tokenizer.json        as in the prepared corpus
        manifest.json         step, epoch, position, figures, fingerprints; size and xxh3 of every file above; its own
                              checksum (see ``manifest``)

A folder is written under a temporary name and renamed when complete, and renamed again before it is removed, so a
killed process leaves nothing that looks like a checkpoint. ``selection`` says which one is read. Nothing here is ever
unpickled.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file as load_weights_alone
from safetensors.torch import load_model as load_weights
from safetensors.torch import save_file as save_weights
from torch import Tensor, nn

from pipeline import config as configuration
from pipeline.config import Config
from pipeline.data.streams import ResetRule
from pipeline.data.tokenizer import Tokenizer, load_tokenizer
from pipeline.errors import UserError
from pipeline.files import new_folder
from pipeline.model.language_model import LanguageModel
from pipeline.training import word_marks
from pipeline.training.directory import RunDirectory
from pipeline.training.manifest import (
    CONFIG,
    MANIFEST,
    MODEL_FOLDER,
    STATE,
    TOKENIZER,
    WEIGHTS,
    DamagedError,
    check_files,
    is_signed,
    verify,
    write_manifest,
)
from pipeline.training.selection import Choice, find, folders, manifest_of_step, manifests, newest, reading, survey

__all__ = [
    "CONFIG",
    "MODEL_FOLDER",
    "STATE",
    "TOKENIZER",
    "WEIGHTS",
    "Loaded",
    "clear_up",
    "find",
    "folder",
    "folder_name",
    "load_initial_weights",
    "load_model",
    "load_state",
    "load_weights_into",
    "manifests",
    "matrices_of",
    "newest",
    "save",
    "verify",
    "weights_of",
    "write_manifest",
]

# names that begin like this are never read: of what is being written or replaced (by ``new_folder``), or removed
WRITING, FORMER, DROPPED = ".writing-", ".former-", ".dropped-"
UNSIGNED = "a change to its manifest since would not be noticed"


@dataclass(frozen=True)
class Loaded:
    """A model ready for use, with what belongs to it."""

    model: LanguageModel
    tokenizer: Tokenizer
    config: Config
    manifest: dict[str, Any]
    path: Path
    which: str = ""  # of its run: best, last; empty if the checkpoint itself was named
    remarks: tuple[str, ...] = ()  # what its user should know, a sentence each

    @property
    def title(self) -> str:
        """``step-00000012 (best)``."""
        return f"{self.path.name} ({self.which})" if self.which else self.path.name


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
        weights: as ``weights_of`` returns them.
        state: tensors, numbers, lists and dicts only, so that it loads with ``weights_only``.
        facts: for the manifest; with ``step``, and with ``perplexity`` if this step was validated.

    Raises:
        LostOwnershipError: another driver has taken the run over.
        UnwritableError: the disk is full or gone; the earlier checkpoints stay as they are.
    """
    directory.check_owner()
    target = folder(directory, facts["step"])
    with new_folder(target) as temporary:
        _write_tensors(temporary, weights, state)
        (temporary / CONFIG).write_text(configuration.to_yaml(config), encoding="utf-8")
        tokenizer.save(temporary / TOKENIZER)
        write_manifest(temporary, facts)
        directory.check_owner()
    _drop_old(directory, keep=config.train.keep_checkpoints)
    return target


def _write_tensors(folder: Path, weights: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    try:
        save_weights(dict(weights), str(folder / WEIGHTS))
        torch.save(dict(state), folder / STATE)
    except (SafetensorError, RuntimeError) as error:  # how these two report a full disk
        raise OSError(f"{folder}: {' '.join(str(error).split())}") from None


def folder(directory: RunDirectory, step: int) -> Path:
    """Return the path of the checkpoint after ``step``."""
    return directory.checkpoints / folder_name(step)


def folder_name(step: int) -> str:
    """Return the name of the folder of the checkpoint after ``step``."""
    return f"step-{step:08d}"


def matrices_of(path: Path) -> list[Tensor]:
    """Read the matrices of the checkpoint at ``path``, embeddings included; a tied one once."""
    return [weight for weight in load_weights_alone(path / WEIGHTS).values() if weight.dim() > 1]


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Return the weights of ``model`` by name, a tied weight once."""
    unique: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        unique.setdefault(id(tensor), (name, tensor.detach().contiguous()))
    return dict(unique.values())


def load_model(path: str | Path, device: str | torch.device = "cpu", *, which: str | None = None) -> Loaded:
    """The verified model, tokenizer and configuration of a run, of one of its checkpoints, or of a model folder.

    Args:
        path: a run directory (its best checkpoint, or ``which``), a checkpoint or a folder with a model.
        which: ``best`` or ``last`` of a run.

    Raises:
        UserError: no such checkpoint, or a file of it is missing, altered, or does not match its configuration.
    """
    return reading(path, which, lambda choice: _load(choice, device))


def _load(choice: Choice, device: str | torch.device) -> Loaded:
    path = choice.path
    manifest = verify(path)
    config = configuration.load(path / CONFIG)
    tokenizer = load_tokenizer(path / TOKENIZER).of_form(config.corpus.normalize)
    model = LanguageModel(config.model, tokenizer.vocab_size)
    reset = ResetRule.of(config.train)
    model.reset_after, model.reset_every = reset.type_before(tokenizer), reset.every_tokens
    if config.train.precision == "float64":
        model.double()
    load_weights_into(model, path)
    remarks = [choice.remark] if choice.remark else []
    if not is_signed(manifest):
        remarks.append(
            f"{path / MANIFEST} was written by an earlier version and has no checksum of its own: {UNSIGNED}"
        )
    return Loaded(model.to(device).eval(), tokenizer, config, manifest, path, choice.which, tuple(remarks))


def load_initial_weights(model: LanguageModel, path: str | Path) -> None:
    """Copy the verified weights at ``path`` (see ``load_model``) into ``model``. Raises ``UserError``."""

    def load(choice: Choice) -> None:
        verify(choice.path)
        load_weights_into(model, choice.path)

    reading(path, None, load)


def load_weights_into(model: LanguageModel, path: Path) -> None:
    """Copy the weights of the checkpoint at ``path`` into ``model``. Raises ``UserError`` if they do not fit."""
    file = path / WEIGHTS
    try:
        with safe_open(str(file), "pt") as stored:
            slices = [(name, stored.get_slice(name)) for name in stored.keys()]  # noqa: SIM118
            found = {name: (part.get_shape(), part.get_dtype()) for name, part in slices}
        if difference := _difference(model, found):
            raise UserError(f"{file}: not the weights of the model in {CONFIG} beside it: {difference}")
        load_weights(model, str(file))
    except SafetensorError as error:
        raise UserError(f"{file}: not a file of weights ({' '.join(str(error).split())})") from None


def _difference(model: LanguageModel, found: Mapping[str, tuple[list[int], str]]) -> str:
    """Say in what way weights of these shapes and formats do not fit ``model``; empty if they do."""
    wanted = {name: list(tensor.shape) for name, tensor in weights_of(model).items()}
    if missing := wanted.keys() - found.keys():
        return f"{min(missing)} is missing"
    for name, (shape, kind) in found.items():
        if name not in wanted:
            return f"it has no {name}"
        if shape != wanted[name]:
            return f"{name} has the shape {shape}, not {wanted[name]}"
        if "F" not in kind:
            return f"{name} is in {kind}, which is no format of weights"
    return ""


def load_state(path: Path, device: str | torch.device = "cpu") -> dict[str, Any]:
    """Read back what ``save`` was given as ``state``."""
    return torch.load(path / STATE, map_location=device, weights_only=True)


def clear_up(directory: RunDirectory) -> list[str]:
    """Remove what a killed writer left, and set aside each damaged checkpoint, before a run continues.

    Under its own name, a damaged checkpoint would be kept in place of a good one. Returns a sentence for each that was
    set aside or cannot be checked.
    """
    for path in directory.checkpoints.glob(f"{FORMER}*"):
        target = path.with_name(path.name.removeprefix(FORMER))
        if not target.exists():  # its writer was killed before it had put another in its place
            path.rename(target)
    for path in [path for start in (WRITING, FORMER, DROPPED) for path in directory.checkpoints.glob(f"{start}*")]:
        shutil.rmtree(path, ignore_errors=True)
    sentences, unsigned = [], []
    for path in folders(directory.path):
        try:
            manifest = manifest_of_step(path)
            check_files(path, manifest)
            if not is_signed(manifest):
                unsigned.append(path.name)
        except DamagedError as error:
            aside = path.with_name(f"damaged-{path.name}")
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
            sentences.append(f"{error}; set aside as {aside.name}")
    if unsigned:
        sentences.append(f"{', '.join(unsigned)}: written by an earlier version, without a checksum: {UNSIGNED}")
    return sentences


def _drop_old(directory: RunDirectory, *, keep: int) -> None:
    """Remove all but the last ``keep`` checkpoints, the best one, and those at numbers of words."""
    found = survey(directory.path)
    best = found.best
    for path, manifest in found.trusted[:-keep]:
        if (best is None or path != best[0]) and not word_marks.is_kept(manifest):
            dropped = path.with_name(f"{DROPPED}{path.name}")
            with suppress(OSError):
                shutil.rmtree(dropped, ignore_errors=True)
                path.rename(dropped)  # at once: half a checkpoint is never seen
                shutil.rmtree(dropped, ignore_errors=True)

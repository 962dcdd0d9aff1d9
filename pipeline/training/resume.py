"""A run's parts are turned into its checkpoint and back, and a continuation is checked to be the same run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from pipeline import config as configuration
from pipeline.config import Config
from pipeline.config.start import OF_THE_START, is_older
from pipeline.errors import CannotContinueError
from pipeline.metrics import all_reduce_sum
from pipeline.training import checkpoint
from pipeline.training.directory import RunDirectory
from pipeline.training.parts import RunState

# what may differ between a run and its continuation; anything else would make it another run
MAY_DIFFER = (
    "train.epochs", "train.max_steps", "train.max_tokens", "train.max_words",
    "train.checkpoint_at_words", "train.gradient_accumulation_steps", "train.log_every_steps",
    "train.evaluate_every_steps", "train.evaluate_at_tokens", "train.checkpoint_every_steps",
    "train.checkpoint_every_minutes", "train.keep_checkpoints", "train.patience", "train.max_loss_rise",
    "train.on_bad_window", "train.profile_steps", "data.directory", "run.", "cluster.", "search.", "compare.",
)  # fmt: skip


def as_saved(states: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any], dict[str, Any]]:
    """Turn the ``state_dict`` of each part into what ``checkpoint.save`` takes: weights, state and facts.

    The weights of a checkpoint are the averaged ones, if there are any; the trained ones are then in its state.
    """
    rest = dict(states)
    weights, averaging, interval, progress = (
        rest.pop(name) for name in ("weights", "averaging", "interval", "progress")
    )
    means = averaging.pop("means")
    averaging["trained"] = [*weights.values()] if means else []
    sums = {f"interval_{name}": value for name, value in interval.items()}
    state = {"communication": {}, **rest, "averaging": averaging, **sums}
    return dict(zip(weights, means, strict=True)) if means else weights, state, progress


def as_parts(weights: Mapping[str, Tensor], state: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Turn what a checkpoint holds back into the state of each part that it knows: the inverse of ``as_saved``."""
    rest = dict(state)
    averaging = dict(rest.pop("averaging"))
    interval = {name: rest.pop(f"interval_{name}") for name in ("nats", "tokens")}
    trained = averaging.pop("trained")
    averaging["means"] = [weight.clone() for weight in weights.values()] if trained else []
    weights = dict(zip(weights, trained, strict=True)) if trained else weights
    return {**rest, "weights": weights, "averaging": averaging, "interval": interval, "progress": facts}


def newest(directory: RunDirectory, *, rank: int) -> Path | None:
    """Return the newest checkpoint that verifies on rank 0; None if there is none. All ranks call it."""
    step = -1
    if rank == 0 and (found := checkpoint.newest(directory.path)):
        step = found[1]["step"]
    (agreed,) = all_reduce_sum([float(step) if rank == 0 else 0.0])
    return checkpoint.folder(directory, int(agreed)) if agreed >= 0 else None


def restore(state: RunState, path: Path) -> None:
    """Bring ``state`` to where the checkpoint at ``path`` left off; its model already has the weights.

    A part that the checkpoint does not have yet stays as it is in a new run.
    """
    manifest = checkpoint.verify(path)
    weights = state.step.parts["weights"].state_dict()
    found = as_parts(weights, checkpoint.load_state(path, state.step.device), manifest)
    for name, part in state.parts.items():
        if name in found:
            part.load_state_dict(found[name])


def take_over(state: RunState, former: RunState) -> None:
    """Bring ``state``, built with the settings now in force, to where ``former`` is, as through a checkpoint.

    All ranks call it. What merely counts on, progress and the sums of the record, is shared by both.
    """
    parts = former.parts
    for name, part in state.parts.items():
        part.load_state_dict(parts[name].state_dict())
    state.progress, state.interval = former.progress, former.interval


def check_continues(
    path: Path, manifest: Mapping[str, Any], config: Config, *, fingerprints: Mapping[str, str]
) -> None:
    """Refuse to continue the verified checkpoint at ``path`` as another run.

    Raises:
        UserError: naming each setting that differs with both values, or a different corpus or tokenizer.
    """
    old, new = configuration.dump(configuration.load(path / checkpoint.CONFIG)), configuration.dump(config)
    problems: list[str] = []
    # the weights are there, however they started
    may_differ = (*MAY_DIFFER, *(OF_THE_START if is_older(path / checkpoint.CONFIG) else ()))
    for section, values in new.items():
        for field, value in values.items():
            name = f"{section}.{field}"
            was = old[section].get(field)
            if name == "train.changes":
                problems += other_past(was or [], value, tokens=manifest["tokens"])
            elif was != value and not name.startswith(may_differ):
                problems.append(f"{name}: this run was started with {was!r} and cannot continue with {value!r}")
    if not problems:
        for kind, fingerprint in fingerprints.items():
            if manifest["fingerprints"][kind] != fingerprint:
                problems.append(f"{path}: was trained on another {kind} than the one prepared now")
    if problems:
        raise CannotContinueError("\n".join([*problems, "another run.directory starts a separate run"]))


def other_past(was: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]], *, tokens: int) -> Iterator[str]:
    """Yield a sentence for each difference of ``train.changes`` before ``tokens``, where the run is."""
    old, new = (
        {change["tokens"]: change["settings"] for change in part if change["tokens"] < tokens} for part in (was, now)
    )
    for place in sorted(old.keys() | new.keys()):
        if old.get(place) != new.get(place):
            yield (
                f"train.changes: at {place:,} tokens this run had {old.get(place, 'no change')} and cannot continue "
                f"with {new.get(place, 'none')}; it is at {tokens:,} tokens, and changes may differ only from there on"
            )

"""A running loop ↔ the state in its checkpoint, and what makes a continuation the same run.

Hidden state is saved by global stream, (…, B, H) over all ranks, so a run may go on with another number of workers
and every stream keeps its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from pipeline import config as configuration
from pipeline.config import Config
from pipeline.errors import UserError
from pipeline.metrics import all_reduce_sum
from pipeline.training import checkpoint
from pipeline.training.directory import RunDirectory
from pipeline.training.parts import Loop, Progress

# what may differ between a run and its continuation; anything else would make it another run
MAY_DIFFER = (
    "train.epochs", "train.max_steps", "train.max_tokens", "train.accumulate", "train.log_every_steps",
    "train.evaluate_every_steps", "train.checkpoint_every_steps", "train.checkpoint_every_minutes",
    "train.keep_checkpoints", "train.patience", "train.max_loss_rise", "train.on_bad_window", "train.profile_steps",
    "data.directory", "run.", "cluster.", "search.",
)  # fmt: skip


def capture(loop: Loop) -> dict[str, Any]:
    """Everything beside the weights and ``loop.progress`` that the next step depends on. All ranks call it."""
    rank, world_size = loop.step.rank, loop.step.world_size
    own_nats = loop.interval.nats.reshape(1, 1)
    return {
        "optimizer": loop.step.optimizer.state_dict(),
        "loss_scale": loop.step.loss_scale.state_dict(),
        "clipping": loop.step.clipping.state_dict(),
        "averaging": loop.step.averaging.state_dict(),
        "communication": loop.step.exchange.state_dict() if loop.step.exchange is not None else {},
        "pruning": loop.step.pruning.state_dict(),
        "hidden": global_rows(loop.data.rows, loop.data.batch_size, loop.state),
        "interval_nats": global_rows(range(rank, rank + 1), world_size, [own_nats])[0],
        "interval_tokens": loop.interval.tokens,
    }


def newest(directory: RunDirectory, *, rank: int) -> Path | None:
    """The newest checkpoint that verifies, as rank 0 finds it; None where there is none. All ranks call it."""
    step = -1
    if rank == 0 and (found := checkpoint.newest(directory.path)):
        step = found[1]["step"]
    (agreed,) = all_reduce_sum([float(step) if rank == 0 else 0.0])
    return checkpoint.folder(directory, int(agreed)) if agreed >= 0 else None


def restore(loop: Loop, path: Path) -> None:
    """Bring ``loop`` to where the checkpoint at ``path`` left off; its model already has the weights."""
    manifest = checkpoint.verify(path)
    state = checkpoint.load_state(path, loop.step.device)
    rank, world_size = loop.step.rank, loop.step.world_size
    rows = loop.data.rows
    loop.progress = Progress(**{item.name: manifest[item.name] for item in fields(Progress)})
    loop.step.optimizer.load_state_dict(state["optimizer"])
    loop.step.loss_scale.load_state_dict(state["loss_scale"])
    loop.step.clipping.load_state_dict(state["clipping"])
    loop.step.averaging.load_state_dict(state["averaging"])
    if loop.step.exchange is not None:
        loop.step.exchange.load_state_dict(state["communication"])
    loop.step.pruning.load_state_dict(state.get("pruning", {"masks": []}))
    loop.state = tuple(part[:, rows.start : rows.stop].contiguous() for part in state["hidden"])
    nats = state["interval_nats"].flatten()
    if len(nats) == world_size:
        loop.interval.nats += nats[rank]
    elif rank == 0:
        loop.interval.nats += nats.sum()
    loop.interval.tokens = loop.interval.tokens_before = state["interval_tokens"]


def check_continues(
    path: Path, manifest: Mapping[str, Any], config: Config, *, fingerprints: Mapping[str, str]
) -> None:
    """Refuse to continue the verified checkpoint at ``path`` as another run.

    Raises:
        UserError: naming each setting that differs with both values, or a different corpus or tokenizer.
    """
    old, new = configuration.dump(configuration.load(path / checkpoint.CONFIG)), configuration.dump(config)
    problems = []
    for section, values in new.items():
        for field, value in values.items():
            name = f"{section}.{field}"
            was = old[section].get(field)
            if was != value and not name.startswith(MAY_DIFFER):
                problems.append(f"{name}: this run was started with {was!r} and cannot go on with {value!r}")
    if not problems:
        for kind, fingerprint in fingerprints.items():
            if manifest["fingerprints"][kind] != fingerprint:
                problems.append(f"{path}: was trained on another {kind} than the one prepared now")
    if problems:
        raise UserError("\n".join([*problems, "(--fresh starts over, another run.directory starts beside it)"]))


def global_rows(rows: range, batch_size: int, tensors: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Each rank's (layers, B_rank, H) ``tensors`` placed into (layers, B, H) at its ``rows``, on all ranks.

    A sum of one value and zeros is exact, so one all-reduce gathers uneven parts without loss.
    """
    gathered = []
    for tensor in tensors:
        whole = tensor.new_zeros(tensor.shape[0], batch_size, *tensor.shape[2:])
        whole[:, rows.start : rows.stop] = tensor
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(whole)
        gathered.append(whole)
    return tuple(gathered)

"""One training step: detach → (forward → nats → backward) for some rows at a time → clip, guard, optimizer.

Letters: T time, B streams of this rank, V vocabulary, W ranks.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from pipeline.config import DdpConfig, OptimizerConfig, PruneConfig
from pipeline.data.windows import Resets
from pipeline.model import foreach
from pipeline.model.head.distillation import Distilled, SoftTargets
from pipeline.model.language_model import LanguageModel
from pipeline.model.precision import autocast
from pipeline.model.regularization import NO_PENALTIES, Masks, Penalties
from pipeline.model.segments import Segments
from pipeline.model.state import State, concatenate, detach, select
from pipeline.seeds import mix
from pipeline.training.averaging import Averaging
from pipeline.training.clipping import Clipping
from pipeline.training.communication import Exchange
from pipeline.training.embedding_rows import EmbeddingRows
from pipeline.training.loss_scale import LossScale, Refusals
from pipeline.training.pruning import Pruning
from pipeline.training.stateful import Stateful, Weights
from pipeline.training.times import StepTimes

# the embedding's name in the module that DDP wraps
EMBEDDING = "model.embedding.weight"


class WindowLoss(nn.Module):
    """The module that DDP wraps: its forward returns the loss, so that DDP sees every parameter's gradient."""

    def __init__(self, model: LanguageModel, penalties: Penalties) -> None:
        super().__init__()
        self.model = model
        self.penalties = penalties

    def forward(
        self,
        inputs: Tensor,
        targets: Tensor,
        state: State,
        segments: Segments | None,
        masks: Masks,
        soft: SoftTargets | None = None,
    ) -> tuple[Tensor | Distilled, Tensor | None, State]:
        """Return the summed nats of (T, B) targets, the weighted mean penalties, and the next state.

        With the ``soft`` targets of a teacher, the sums of ``Head.distill`` take the place of the nats.
        """
        model = self.model
        hidden, state = model.outputs(inputs, state, segments, masks)  # (T, B, H)
        dropped = model.drop_output(hidden, masks)
        vectors = model.for_head(dropped)
        sums = model.head.loss(vectors, targets) if soft is None else model.head.distill(vectors, targets, soft)
        return sums, self.penalties(hidden, dropped), state


class TrainingStep:
    """Updates the weights of ``model`` once for each window that it is called with; see ``__call__``."""

    def __init__(
        self,
        model: LanguageModel,
        optimizer: torch.optim.Optimizer,
        *,
        clipping: Clipping,
        averaging: Averaging | None = None,
        pruning: Pruning | None = None,
        precision: str,
        seed: int,
        accumulation_steps: int = 1,
        penalties: Penalties = NO_PENALTIES,
        batch_size: int | None = None,
        embedding_rows: bool = False,
        ddp: DdpConfig | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """
        Args:
            batch_size: over all ranks; None: that of the windows given, on a single rank.
            embedding_rows: take the embedding's gradient as rows, which only plain SGD does exactly.
            ddp: how several ranks average their gradients.
        """
        self.model = model
        self.optimizer = optimizer
        self.clipping = clipping
        # (seed, batch size of all ranks, rows) → masks of a window
        self.masks: Callable[[int, int, range], Masks] = Masks
        self.averaging = averaging or Averaging(OptimizerConfig(), model.parameters())
        self.pruning = pruning or Pruning(PruneConfig(), model.parameters(), 0)
        self.accumulation_steps = accumulation_steps
        self.precision = precision
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.batch_size = batch_size
        self.parameters = list(model.parameters())
        self.device = self.parameters[0].device
        self.loss_scale = LossScale(enabled=precision == "fp16", device=self.device)
        self.refusals = Refusals(self.device)
        self.times = StepTimes(self.device)
        self.divergence = torch.zeros((), dtype=torch.float64, device=self.device)  # of the last window, summed
        self.embedding_rows = EmbeddingRows(model) if embedding_rows else None
        self.module: nn.Module = WindowLoss(model, penalties)
        self.exchange: Exchange | None = None
        if world_size > 1:
            self.exchange = self.distribute(ddp or DdpConfig(), apart=EMBEDDING if embedding_rows else None)
        # what an update changes, in the order in which it is loaded: averages look at the weights
        self.parts: dict[str, Stateful] = {
            "weights": Weights(model),
            "optimizer": optimizer,
            "loss_scale": self.loss_scale,
            "clipping": clipping,
            "averaging": self.averaging,
            "pruning": self.pruning,
            "refusals": self.refusals,
            **({} if self.exchange is None else {"communication": self.exchange}),
        }

    def distribute(self, ddp: DdpConfig, *, apart: str | None) -> Exchange:
        """Let DDP wrap the module, so that the ranks average all gradients but that of the parameter ``apart``."""
        exchange = Exchange(ddp, self.times)
        self.module = exchange.distribute(self.module, apart=apart)
        self.settle()
        return exchange

    def settle(self) -> None:
        """Make a pass whose gradients are thrown away, after which DDP puts its buckets into their final order.

        A run that continues then rounds its sums as one that never stopped, and has the same buckets for what PowerSGD
        remembers.
        """
        token = torch.zeros((1, 1), dtype=torch.int64, device=self.device)
        zeros = self.model.initial_state(1, dtype=self.model.dtype)
        with autocast(self.precision, self.device):
            nats, penalty, _ = self.module(token, token, zeros, None, Masks(0, 1, range(1)))
        (nats if penalty is None else nats + penalty).backward()
        self.optimizer.zero_grad(set_to_none=True)

    def __call__(
        self,
        inputs: Tensor,
        targets: Tensor,
        state: State,
        *,
        num_targets: int,
        lr: float,
        index: int,
        resets: Resets | None = None,
        soft: SoftTargets | None = None,
    ) -> tuple[Tensor, Tensor, State]:
        """Update the weights from one window, ``accumulation_steps`` groups of its rows one after another.

        Args:
            inputs, targets: (T, B) token ids of this rank's streams, at least ``accumulation_steps`` of them.
            state: the hidden state that the window before left.
            num_targets: targets of this window over all ranks.
            index: number of the window in the run, from which its dropout masks are seeded.
            resets: (T, B), where in the window streams are reset, if any is.
            soft: what a teacher says of the targets; this rank's summed divergence is then in ``divergence``.

        Returns:
            This rank's summed nats, the global gradient norm before clipping (not finite: the update was refused),
            and the next state. All stay on the device: nothing here waits for it.
        """
        if self.module.training:
            torch.manual_seed(mix(self.seed, index, self.rank))
        state = detach(state)
        num_streams = inputs.shape[1]
        nats, divergence = (torch.zeros((), dtype=torch.float64, device=self.device) for _ in range(2))
        ends: list[State] = []
        num_groups = self.accumulation_steps
        for group in range(num_groups):
            rows = slice(group * num_streams // num_groups, (group + 1) * num_streams // num_groups)
            with self.synchronization(is_last=group == num_groups - 1):
                sums, end = self.forward_backward(
                    inputs, targets, state, rows, num_targets=num_targets, index=index, resets=resets, soft=soft
                )
                # the last gradient has started the last exchange: what is left of the pass is waiting for it
                is_exchanged = self.exchange is not None and group == num_groups - 1
                self.times.mark("communication" if is_exchanged else "backward")
            nats += sums.nats if isinstance(sums, Distilled) else sums.detach()
            divergence += sums.divergence if isinstance(sums, Distilled) else 0
            ends.append(end)
        if self.embedding_rows is not None:
            batch_size = self.batch_size or num_streams
            self.embedding_rows.take(most=inputs.shape[0] * -(-batch_size // self.world_size))
            self.times.mark("backward" if self.exchange is None else "communication")
        self.divergence = divergence
        norm = self.update(lr, index)
        self.times.mark("optimizer")
        return nats, norm, ends[0] if len(ends) == 1 else concatenate(ends)

    def forward_backward(
        self,
        inputs: Tensor,
        targets: Tensor,
        state: State,
        rows: slice,
        *,
        num_targets: int,
        index: int,
        resets: Resets | None,
        soft: SoftTargets | None,
    ) -> tuple[Tensor | Distilled, State]:
        """Add the gradients of some ``rows`` of a window; returns their sums and the next state. See ``__call__``."""
        batch_size = self.batch_size or inputs.shape[1]
        first = self.rank * batch_size // self.world_size  # the place of this rank's first row among all
        segments = None if resets is None else Segments(resets[:, rows], device=self.device)
        with autocast(self.precision, self.device):
            masks = self.masks(mix(self.seed, index), batch_size, range(first + rows.start, first + rows.stop))
            taught = () if soft is None else (soft.select(rows),)
            sums, penalty, end = self.module(
                inputs[:, rows], targets[:, rows], select(state, rows), segments, masks, *taught
            )
        # DDP averages over ranks; times W, divided by all targets, that average is the mean per token
        loss = (sums.loss if isinstance(sums, Distilled) else sums) * (self.world_size / max(1, num_targets))
        if penalty is not None:
            loss = loss + penalty * (self.world_size * len(masks.rows) / batch_size)
        loss = loss * self.loss_scale.scale
        self.times.mark("forward")
        loss.backward()
        return sums, end

    def synchronization(self, *, is_last: bool) -> AbstractContextManager[None]:
        """Let the ranks average their gradients only once a window, during the last backward pass."""
        if is_last or not isinstance(self.module, nn.parallel.DistributedDataParallel):
            return nullcontext()
        return self.module.no_sync()

    def update(self, lr: float, index: int) -> Tensor:
        """Apply the clipped gradients, or nothing if their norm is not finite; clear them; return the norm."""
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        if self.embedding_rows is not None:
            gradients.append(self.embedding_rows.values)
        norm, divisor = self.clipping(gradients, self.loss_scale.scale)
        finite = torch.isfinite(norm)
        if gradients[0].dtype == torch.float64:
            # the fused optimizers take the divisor in float32, too coarse for a check in float64
            foreach.div_(gradients, divisor)
            divisor = torch.ones_like(divisor)
        else:
            self.optimizer.grad_scale = divisor  # type: ignore[attr-defined]
        self.optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        if self.embedding_rows is not None:
            self.embedding_rows.update(lr=lr, divisor=divisor, finite=finite)
        self.optimizer.zero_grad(set_to_none=True)
        self.pruning.updated(index + 1, self.averaging.means)
        self.averaging.updated()
        self.loss_scale.update(finite)
        self.refusals.number += ~finite
        return norm

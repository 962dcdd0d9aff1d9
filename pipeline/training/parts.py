"""The parts of one rank that training strings together, and where the run is: what ``loop`` moves on.

data · step · state · checkpoints · monitor … → Loop; progress and interval change with every window
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from pipeline.config import OptimizerConfig, TrainConfig
from pipeline.data.windows import TrainingData
from pipeline.evaluate import Score
from pipeline.model.state import State
from pipeline.training.horizon import out_of_patience, total_steps
from pipeline.training.manifest import Progress
from pipeline.training.monitor import Monitor
from pipeline.training.profiling import Profiler
from pipeline.training.rollback import Rollback
from pipeline.training.schedules import learning_rate
from pipeline.training.step import TrainingStep
from pipeline.training.stragglers import Stragglers
from pipeline.training.utilization import Utilization
from pipeline.training.watchdog import Watchdog


@dataclass
class Interval:
    """This rank's sums since the last line of the metrics file."""

    nats: Tensor
    tokens: int = 0  # over all ranks
    tokens_before: int = 0  # of these, those of an earlier start of the run
    started: float = field(default_factory=time.monotonic)  # moved on by every pause that is not training


class Checkpoints(Protocol):
    """What saves a loop (see ``saving``)."""

    def save(self, loop: Loop, figures: dict[str, Any]) -> None: ...

    def failure(self) -> str: ...

    def wait(self) -> None: ...

    def finish(self) -> None: ...


@dataclass
class Loop:
    """The parts of one rank that ``fit`` strings together.

    ``evaluate`` scores the validation split (None: there is none), ``sample`` writes some text, ``checkpoints`` saves
    this loop with the figures of its validation, ``report`` is called by every rank after each validation.
    """

    train: TrainConfig
    optimizer: OptimizerConfig
    data: TrainingData
    step: TrainingStep
    state: State
    evaluate: Callable[[], Score] | None
    sample: Callable[[], str] | None
    checkpoints: Checkpoints
    report: Callable[[dict[str, Any]], None] = lambda figures: None
    stop_requested: Callable[[], bool] = lambda: False
    save_requested: Callable[[], bool] = lambda: False  # true once where this rank may soon be gone
    watchdog: Watchdog | None = None
    monitor: Monitor | None = None
    profiler: Profiler | None = None
    utilization: Utilization | None = None
    evaluate_at_steps: frozenset[int] = frozenset()
    progress: Progress = field(default_factory=Progress)
    interval: Interval = field(init=False)
    num_refused: int = 0  # updates not made because of a gradient that was not finite, as last seen
    last_norm: Tensor = field(init=False)
    rollback: Rollback | None = field(init=False)
    stragglers: Stragglers | None = field(init=False)  # None: there is only one rank
    clock: float = field(default_factory=time.monotonic)  # when progress.seconds was last brought up to date
    saved_at: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.interval = self.new_interval()
        self.last_norm = torch.zeros(())
        self.rollback = Rollback(self.step) if self.train.on_bad_window == "undo" else None
        self.stragglers = Stragglers(self.step.rank, self.step.world_size) if self.step.world_size > 1 else None

    def new_interval(self) -> Interval:
        return Interval(nats=torch.zeros((), dtype=torch.float64, device=self.step.device))

    def tick(self) -> None:
        """Bring ``progress.seconds`` up to date."""
        now = time.monotonic()
        self.progress.seconds += now - self.clock
        self.clock = now

    @cached_property
    def total_steps(self) -> int:
        return total_steps(self.train, self.data)

    @property
    def ended_early(self) -> bool:
        return out_of_patience(self.train, self.progress.num_worse)

    @property
    def lr(self) -> float:
        """The learning rate of the next update, by the schedule."""
        return learning_rate(
            self.optimizer,
            step=self.progress.step,
            total_steps=self.total_steps,
            epoch=self.progress.epoch,
            num_drops=self.progress.num_drops,
        )

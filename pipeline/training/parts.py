"""``RunState``, what a checkpoint holds of a run, and ``Loop``, the same with all that training calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pipeline.config import OptimizerConfig, TrainConfig
from pipeline.data.windows import TrainingData
from pipeline.evaluate import Score
from pipeline.training import word_marks
from pipeline.training.horizon import Horizon, out_of_patience
from pipeline.training.manifest import Progress
from pipeline.training.monitor import Monitor
from pipeline.training.profiling import Profiler
from pipeline.training.rollback import Rollback
from pipeline.training.schedules import learning_rate
from pipeline.training.stateful import HiddenState, Interval, Stateful
from pipeline.training.step import TrainingStep
from pipeline.training.stragglers import Stragglers
from pipeline.training.teaching.part import Teaching
from pipeline.training.utilization import Utilization
from pipeline.training.watchdog import Watchdog

if TYPE_CHECKING:
    from pipeline.training.saving import Saver


@dataclass(kw_only=True)
class RunState:
    """All that the next step of a run depends on, apart from its settings."""

    data: TrainingData
    horizon: Horizon
    step: TrainingStep
    hidden: HiddenState
    interval: Interval
    progress: Progress
    teaching: Teaching | None = None  # None: there is no teacher

    @property
    def parts(self) -> dict[str, Stateful]:
        """What a checkpoint holds. List a new part in ``TrainingStep.parts`` if updates change it, any other here."""
        taught: dict[str, Stateful] = {} if self.teaching is None else {"teaching": self.teaching}
        return {
            **self.step.parts,
            "hidden": self.hidden,
            "interval": self.interval,
            "progress": self.progress,
            **taught,
        }


@dataclass(kw_only=True)
class Loop(RunState):
    """A run's state with all that ``fit`` calls.

    ``evaluate`` scores the validation split (None: there is none), ``sample`` writes some text, ``checkpoints`` saves
    this loop with the figures of its validation, ``report`` is called by every rank after each validation. Settings
    that change during training do so at ``until_tokens``, where another loop takes over.
    """

    train: TrainConfig
    optimizer: OptimizerConfig
    evaluate: Callable[[], Score] | None
    sample: Callable[[], str] | None
    checkpoints: Saver
    rollback: Rollback | None
    stragglers: Stragglers | None  # None: there is only one rank
    report: Callable[[dict[str, Any]], None] = lambda figures: None
    stop_requested: Callable[[], bool] = lambda: False
    save_requested: Callable[[], bool] = lambda: False  # true once if this rank may soon be gone
    watchdog: Watchdog | None = None
    monitor: Monitor | None = None  # of rank 0, as are the next two
    profiler: Profiler | None = None
    utilization: Utilization | None = None
    evaluate_at_tokens: Sequence[int] = ()
    until_tokens: int | None = None  # None: these settings hold for the rest of the run
    tokens_before: int = 0  # trained on before the last update
    words_before: int = 0  # read before it, if they are counted
    num_refused: int = field(init=False)  # updates not made because of a gradient that was not finite, as last seen
    last_norm: Tensor = field(default_factory=lambda: torch.zeros(()))
    clock: float = field(default_factory=time.monotonic)  # when progress.seconds was last brought up to date
    saved_at: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.num_refused = int(self.step.refusals.number)
        self.count_words()
        self.words_before = self.progress.words or 0

    def count_words(self) -> None:
        """Bring ``progress.words`` up to date; None if they are not counted."""
        words, progress = self.data.words, self.progress
        progress.words = None if words is None else words.after(progress.epoch, progress.position)

    def tick(self) -> None:
        """Bring ``progress.seconds`` up to date."""
        now = time.monotonic()
        self.progress.seconds += now - self.clock
        self.clock = now

    @property
    def total_steps(self) -> int:
        return self.horizon.total_steps

    @property
    def change_due(self) -> bool:
        """Whether the next update is to be made with other settings than these."""
        return self.until_tokens is not None and self.progress.tokens >= self.until_tokens

    @property
    def figures_due(self) -> bool:
        """Whether the last update was the first to reach one of ``evaluate_at_tokens``."""
        return any(self.tokens_before < tokens <= self.progress.tokens for tokens in self.evaluate_at_tokens)

    def words_reached(self, *, is_last: bool) -> list[int]:
        """Which of ``train.checkpoint_at_words`` the checkpoint after the last update stands for."""
        words, numbers = self.progress.words, self.train.words_of_checkpoints
        if words is None or not numbers:
            return []
        return word_marks.reached(numbers, before=self.words_before, now=words, is_last=is_last)

    @property
    def ended_early(self) -> bool:
        return out_of_patience(self.train, self.progress.num_worse)

    @property
    def lr(self) -> float:
        """The learning rate of the next update, by the schedule."""
        progress, horizon = self.progress, self.horizon
        return learning_rate(
            self.optimizer,
            step=horizon.schedule_step(step=progress.step, tokens=progress.tokens),
            total_steps=horizon.schedule_steps,
            epoch=progress.epoch,
            num_drops=progress.num_drops,
        )

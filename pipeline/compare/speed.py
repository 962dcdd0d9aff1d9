"""What models cost: time of training, time and memory of one more token after a context, in one process, in turns.

Models take turns round by round, so other work on the machine affects all of them; the figures are the median over
rounds, the fastest and the slowest round. Letters: T time, B rows.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipeline import run
from pipeline.config import Config
from pipeline.data.shards import PreparedCorpus
from pipeline.data.windows import TrainingData, Window
from pipeline.model.evaluating import evaluating
from pipeline.model.state import zeros_like
from pipeline.model.stepper import Stepper
from pipeline.resources import Worker
from pipeline.training.step import TrainingStep

WARM_UP_WINDOWS, WINDOWS_A_ROUND = 3, 4
WARM_UP_TOKENS, TOKENS_A_ROUND = 8, 40
# the least that a round of single tokens takes: shorter ones can fit between two turns of other work on the machine,
# longer ones cannot, so that a quick model would seem quicker, or by chance much slower
ROUND_SECONDS = 0.1
# tokens of a context that are read at a time
READ_TOKENS = 512
# so low that weights practically stay what they are
RATE = 1e-9


@dataclass(frozen=True)
class Timing:
    """Seconds per token: the median over rounds, the fastest and the slowest of them."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Timing:
        return cls(statistics.median(seconds), min(seconds), max(seconds))


def in_turns(rounds: Mapping[str, Callable[[], int]], *, num_rounds: int, worker: Worker) -> dict[str, Timing]:
    """Call each of ``rounds`` in turns, ``num_rounds`` times; each returns how many tokens it took."""
    seconds: dict[str, list[float]] = {name: [] for name in rounds}
    for number in range(num_rounds):
        order = list(rounds)
        for name in order if number % 2 == 0 else reversed(order):
            synchronize(worker)
            began = time.perf_counter()
            num_tokens = rounds[name]()
            synchronize(worker)
            seconds[name].append((time.perf_counter() - began) / num_tokens)
    return {name: Timing.of(each) for name, each in seconds.items()}


def synchronize(worker: Worker) -> None:
    """Wait for the device."""
    if worker.device.type == "cuda":
        torch.cuda.synchronize(worker.device)


def training_times(
    configs: Mapping[str, Config], corpus: PreparedCorpus, worker: Worker, *, num_rounds: int
) -> dict[str, Timing]:
    """Seconds per token of training steps of each of ``configs``, on windows of ``corpus``."""
    steps = {name: TrainingWindows(config, corpus, worker) for name, config in configs.items()}
    for step in steps.values():
        step(WARM_UP_WINDOWS)
    rounds = {name: step.a_round for name, step in steps.items()}
    return in_turns(rounds, num_rounds=num_rounds, worker=worker)


def training_step(config: Config, worker: Worker, *, vocab_size: int) -> TrainingStep:
    """The step of an untrained model of ``config``, as its run has it."""
    model = run.build_model(config, vocab_size).to(worker.device)
    return run.build_step(config, worker, model, total_steps=1_000_000, vocab_size=vocab_size)


class TrainingWindows:
    """Makes updates from one window of the training split after another, as a run does."""

    def __init__(self, config: Config, corpus: PreparedCorpus, worker: Worker) -> None:
        self.step = training_step(config, worker, vocab_size=corpus.vocab_size)
        self.data = run.training_data(config, corpus, rank=0, world_size=1)
        self.windows = endless(self.data)
        self.device = worker.device
        self.state = self.step.model.initial_state(len(self.data.rows), device=worker.device)
        self.index = 0

    def __call__(self, num_windows: int) -> int:
        """Make ``num_windows`` updates; return how many tokens these took."""
        num_tokens = 0
        for _ in range(num_windows):
            window = next(self.windows)
            inputs, targets = (torch.from_numpy(ids).to(self.device) for ids in (window.inputs, window.targets))
            if window.begins:
                self.state = zeros_like(self.state)
            _, _, self.state = self.step(
                inputs, targets, self.state, num_targets=window.num_targets, lr=RATE, index=self.index,
                resets=window.resets,
            )  # fmt: skip
            self.index += 1
            num_tokens += window.num_inputs
        return num_tokens

    def a_round(self) -> int:
        return self(WINDOWS_A_ROUND)


def endless(data: TrainingData) -> Iterator[Window]:
    """The windows of one epoch after another."""
    epoch = 0
    while True:
        yield from data.windows(0, epoch=epoch)
        epoch += 1


@dataclass(frozen=True)
class AfterContext:
    """One more token after a context: seconds, and the bytes of the state that holds the context."""

    timing: Timing
    state_bytes: int


def token_times(
    configs: Mapping[str, Config], worker: Worker, *, vocab_size: int, context: int, num_rounds: int
) -> dict[str, AfterContext]:
    """What one more token costs each of ``configs`` that has read ``context`` tokens; none of them is trained."""
    readers = {name: Reader(config, worker, vocab_size=vocab_size) for name, config in configs.items()}
    for reader in readers.values():
        reader.read(context)
        reader.step(WARM_UP_TOKENS)
    rounds = {name: reader.a_round for name, reader in readers.items()}
    timings = in_turns(rounds, num_rounds=num_rounds, worker=worker)
    return {name: AfterContext(timings[name], bytes_of(reader.state)) for name, reader in readers.items()}


class Reader:
    """One text, read token by token by an untrained model, as ``pipeline.generate`` does."""

    def __init__(self, config: Config, worker: Worker, *, vocab_size: int) -> None:
        self.model = run.build_model(config, vocab_size).to(worker.device)
        self.stepper = Stepper(self.model)
        self.generator = torch.Generator().manual_seed(1)
        self.vocab_size, self.device = vocab_size, worker.device
        self.state: Any = self.model.initial_state(1)

    def tokens(self, number: int) -> Tensor:
        """(T, 1) tokens drawn at random."""
        return torch.randint(self.vocab_size, (number, 1), generator=self.generator).to(self.device)

    def read(self, number: int) -> None:
        """Read ``number`` tokens, ``READ_TOKENS`` at a time."""
        with evaluating(self.model):
            for part in self.tokens(number).split(READ_TOKENS):
                _, self.state = self.model(part, self.state)

    def step(self, number: int) -> None:
        """Read ``number`` tokens one by one, from where ``read`` ended; the context stays as long."""
        state = self.state
        with evaluating(self.model):
            for token in self.tokens(number):
                _, state = self.stepper(token, state)

    def a_round(self) -> int:
        """Read ``TOKENS_A_ROUND`` tokens one by one, again and again for ``ROUND_SECONDS``; return their number."""
        began, number = time.perf_counter(), 0
        while number == 0 or time.perf_counter() - began < ROUND_SECONDS:
            self.step(TOKENS_A_ROUND)
            number += TOKENS_A_ROUND
        return number


def bytes_of(state: Any) -> int:
    """Bytes of all tensors in ``state``."""
    if isinstance(state, Tensor):
        return state.numel() * state.element_size()
    return sum(bytes_of(part) for part in state) if isinstance(state, (tuple, list)) else 0

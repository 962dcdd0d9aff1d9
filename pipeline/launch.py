"""Run one training job from its start to its result, wherever its ranks run.

lock the run directory → prepare the corpus if missing → check → train (executor) → result

The executor is the only difference between ``cluster.backend=local`` (here: one rank in this process) and Ray
(``pipeline.cluster.train``).
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import FrameType
from typing import Any, Protocol

from pipeline import resources, run, status
from pipeline.config import Config
from pipeline.data.counting import Counts
from pipeline.data.directory import Say
from pipeline.data.prepare import OnShard, prepare_in_process
from pipeline.data.shards import PreparedCorpus
from pipeline.errors import CannotContinueError, UserError
from pipeline.paths import absolute
from pipeline.training.directory import LostOwnershipError, RunDirectory
from pipeline.training.guard import TrainingStoppedError
from pipeline.training.loop import INTERRUPTED
from pipeline.training.monitor import Record
from pipeline.training.selection import manifests


class InterruptedRunError(Exception):
    """A run was asked to stop by the signal ``signum`` and has saved its state."""

    def __init__(self, signum: int, step: int) -> None:
        super().__init__(f"stopped after step {step:,}; its state is saved")
        self.signum = signum


__all__ = ["InterruptedRunError", "TrainingStoppedError", "in_process", "train"]


# (request a stop, announce it) → a context that yields the list of signals received
Stopping = Callable[[Callable[[], None], Callable[[], None]], AbstractContextManager[list[int]]]


class Executor(Protocol):
    """Prepares a corpus and runs the ranks of a training job somewhere."""

    num_workers: int
    num_at_once: int  # how many runs have room side by side

    def prepare(self, config: Config, *, on_shard: OnShard, say: Say) -> PreparedCorpus:
        """Return the corpus of ``config``; prepare it if necessary."""

    def train(self, config: Config, *, owner: str, on_record: Callable[[Record], None]) -> str:
        """Run all ranks to the end; return what ``pipeline.run.train`` returns."""


@dataclass
class InProcess:
    """The executor of ``cluster.backend=local``."""

    evaluate_at_tokens: Sequence[int] = ()
    num_workers: int = field(default=1, init=False)
    num_at_once: int = field(default=1, init=False)

    def prepare(self, config: Config, *, on_shard: OnShard, say: Say) -> PreparedCorpus:
        return prepare_in_process(config, on_shard=on_shard, say=say)

    def train(self, config: Config, *, owner: str, on_record: Callable[[Record], None]) -> str:
        worker = resources.local_worker(config)
        try:
            return run.train(
                config, worker, owner=owner, on_record=on_record, evaluate_at_tokens=self.evaluate_at_tokens
            )
        except LostOwnershipError as error:
            raise TrainingStoppedError(str(error)) from None


@contextmanager
def in_process(config: Config) -> Iterator[InProcess]:
    """Yield the executor that runs the same loop in this process, for debuggers and machines without Ray."""
    resources.resolve_device(config.cluster.device)
    yield InProcess()


def train(
    config: Config,
    executor: Callable[[Config], AbstractContextManager[Executor]],
    *,
    fresh: bool = False,
    start_over: str = "fresh=True",
    on_record: Callable[[Record], None] = lambda record: None,
    on_shard: OnShard = lambda entry, total: None,
    say: Say = lambda sentence: None,
    stopping: Stopping | None = None,
) -> dict[str, Any]:
    """Train ``config`` to its end, from its last checkpoint if there is one; return ``status.result``.

    Args:
        fresh: set aside what the run directory holds and start over.
        start_over: how the user asks for ``fresh``, quoted in messages.
        on_record, on_shard: called with each line of the metrics file, with each shard that is prepared.
        say: called with a sentence about what was found or done.
        stopping: what asks for a stop; default: Ctrl-C and SIGTERM, which only the main thread receives.

    Raises:
        UserError: a mistake in the settings, the text, or the run directory.
        InterruptedRunError: asked to stop by Ctrl-C or SIGTERM; the state is saved.
    """
    config = absolute(config)
    directory = RunDirectory(str(config.run.directory))
    with directory.locked(), executor(config) as ranks:
        corpus = ranks.prepare(config, on_shard=on_shard, say=say)
        for name, tokens in corpus.splits.items():
            if tokens.num_unknown:
                say(f"{name}: {tokens.num_unknown:,} of {len(tokens):,} tokens are <unk>")
        check(config, corpus, ranks, fresh=fresh, start_over=start_over)
        if fresh:
            set_aside(config, directory, say)
        if ended := status.ended(config, corpus):
            say(f"{directory.path} holds this run, {ended}; {start_over} starts over")
        else:
            for sentence in status.not_reached(config, corpus):
                say(sentence)
            announce = partial(say, "stopping: finishing the step and saving (again to stop at once)")
            with (stopping or stopping_on_signals)(directory.request_stop, announce) as received:
                outcome = ranks.train(config, owner=directory.owner, on_record=on_record)
            if outcome == INTERRUPTED:
                step = manifests(directory.path)[-1][1]["step"]
                raise InterruptedRunError(received[0] if received else signal.SIGTERM, step)
    result = status.result(config, say=say)
    if sentence := status.less_sparse(config, result):
        say(sentence)
    return result


def check(config: Config, corpus: PreparedCorpus, ranks: Executor, *, fresh: bool, start_over: str) -> None:
    """Do what ``status.check`` does; if only the existing run is in the way, say how to ``start_over``."""
    with saying(start_over):
        status.check(config, corpus, num_workers=ranks.num_workers, fresh=fresh)


def check_ahead(config: Config, counts: Counts, *, fresh: bool, start_over: str) -> None:
    """Do what ``status.check_ahead`` does; if only the existing run is in the way, say how to ``start_over``."""
    with saying(start_over):
        status.check_ahead(absolute(config), counts, fresh=fresh)


@contextmanager
def saying(start_over: str) -> Iterator[None]:
    """Add how to ``start_over`` to the refusal of a directory that cannot be continued."""
    try:
        yield
    except CannotContinueError as error:
        raise UserError(f"{error}\n({start_over} starts over)") from None


def set_aside(config: Config, directory: RunDirectory, say: Say) -> None:
    """Set aside what the ``locked`` directory of ``config`` holds, except the corpus."""
    if aside := directory.set_aside(but=str(config.data.directory)):
        say(f"what {directory.path} held is set aside as {aside}")


@contextmanager
def stopping_on_signals(request_stop: Callable[[], None], announce: Callable[[], None]) -> Iterator[list[int]]:
    """Call ``request_stop`` and ``announce`` at the first SIGINT or SIGTERM; a second one acts as usual.

    Yields the list of signals received.
    """
    received: list[int] = []
    usual: dict[int, Any] = {}

    def handler(signum: int, frame: FrameType | None) -> None:
        received.append(signum)
        request_stop()
        announce()
        for each, former in usual.items():
            signal.signal(each, former)

    for number in (signal.SIGINT, signal.SIGTERM):
        usual[number] = signal.signal(number, handler)
    try:
        yield received
    finally:
        for each, former in usual.items():
            signal.signal(each, former)

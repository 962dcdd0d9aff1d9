"""Train one configuration with several seeds: each is an ordinary run, in ``DIR/seed-K``; all share one table.

prepare the corpus → check every run → train, as many at a time as there is room for → seeds.json, seeds.csv
"""

from __future__ import annotations

import csv
import io
import math
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Protocol

from pipeline import launch
from pipeline.config import Config
from pipeline.data.directory import Say
from pipeline.data.prepare import OnShard
from pipeline.files import write_file
from pipeline.launch import Executor, InterruptedRunError, TrainingStoppedError, stopping_on_signals
from pipeline.means import exp, mean_interval
from pipeline.paths import absolute, of_seed
from pipeline.strict_json import to_json
from pipeline.training.directory import RunDirectory
from pipeline.training.monitor import Record

SUMMARY, TABLE = "seeds.json", "seeds.csv"
WAIT_SECONDS = 0.2
STOPPING = "stopping: finishing the step and saving (again to stop at once)"

Executors = Callable[[Config], AbstractContextManager[Executor]]
Outcome = dict[str, Any] | Exception


class InterruptedSeedsError(Exception):
    """Runs were asked to stop by the signal ``signum``; those that had begun have saved their state."""

    def __init__(self, signum: int, num_done: int, num_runs: int) -> None:
        super().__init__(f"stopped with {num_done} of {num_runs} runs done; what the others have trained is saved")
        self.signum = signum


class Listener(Protocol):
    """Follows one run."""

    def show(self, record: Record) -> None: ...

    def say(self, sentence: str) -> None: ...


def train(
    config: Config,
    seeds: Sequence[int],
    executor: Executors,
    *,
    fresh: bool = False,
    start_over: str = "fresh=True",
    listener: Callable[[int], Listener],
    on_shard: OnShard = lambda entry, total: None,
    say: Say = lambda sentence: None,
) -> dict[str, Any]:
    """Train ``config`` with each of ``seeds`` to its end, from its last checkpoint if there is one.

    Args:
        fresh, start_over, on_shard, say: as for ``launch.train``.
        listener: seed → what follows its run; called in the thread of the run.

    Returns:
        ``summary``, which is also in ``SUMMARY`` in the directory of ``config``.

    Raises:
        UserError: a mistake in the settings, the text, or the directory of one of the runs; then none has been trained.
        InterruptedSeedsError: asked to stop by Ctrl-C or SIGTERM.
        TrainingStoppedError: a run could not continue, or diverged; the others are trained.
    """
    config = absolute(config)
    runs = {seed: of_seed(config, seed) for seed in seeds}
    with RunDirectory(str(config.run.directory)).locked() as directory, executor(config) as ranks:
        corpus = ranks.prepare(config, on_shard=on_shard, say=say)
        for one in runs.values():
            launch.check(one, corpus, ranks, fresh=fresh, start_over=start_over)
        if fresh:  # all of them now: after an interruption the command continues without --fresh
            for name in (TABLE, SUMMARY):
                (directory.path / name).unlink(missing_ok=True)
            for one in runs.values():
                with RunDirectory(str(one.run.directory)).locked() as own:
                    launch.set_aside(one, own, say)

        stop = SharedStop()

        def train_one(seed: int) -> dict[str, Any]:
            told = listener(seed)
            return launch.train(
                runs[seed], executor, start_over=start_over, on_record=told.show, say=told.say, stopping=stop.stopping
            )

        with stopping_on_signals(stop.request, lambda: say(STOPPING)) as stop.received:
            outcomes = side_by_side(train_one, seeds, num_at_once=ranks.num_at_once, stop=stop)
        results = ended_well(outcomes, len(seeds), stop.received)
        return written(directory.path, {seed: results[seed] for seed in seeds})


class SharedStop:
    """One request to stop for several runs, whose threads receive no signals."""

    def __init__(self) -> None:
        self.received: list[int] = []
        self.requests: list[Callable[[], None]] = []

    def request(self) -> None:
        for request in [*self.requests]:
            request()

    @contextmanager
    def stopping(self, request_stop: Callable[[], None], announce: Callable[[], None]) -> Iterator[list[int]]:
        """Do for one of the runs what ``launch.stopping_on_signals`` does; it is announced once for all."""
        self.requests.append(request_stop)
        if self.received:
            request_stop()
        try:
            yield self.received
        finally:
            self.requests.remove(request_stop)


def side_by_side(
    work: Callable[[int], dict[str, Any]], seeds: Sequence[int], *, num_at_once: int, stop: SharedStop
) -> dict[int, Outcome]:
    """Return what ``work`` returned or raised for each seed; after a stop or a mistake no further seed begins.

    If several run at once, each runs in its own thread, and this one stays free for signals.
    """
    waiting = SimpleQueue[int]()
    for seed in seeds:
        waiting.put(seed)
    outcomes: dict[int, Outcome] = {}

    def work_through() -> None:
        while not stop.received and all(isinstance(one, (dict, TrainingStoppedError)) for one in [*outcomes.values()]):
            try:
                seed = waiting.get_nowait()
            except Empty:
                return
            try:
                outcomes[seed] = work(seed)
            except Exception as error:
                outcomes[seed] = error

    if num_at_once == 1:
        work_through()
        return outcomes
    threads = [Thread(target=work_through, daemon=True) for _ in range(min(num_at_once, len(seeds)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(WAIT_SECONDS)
    return outcomes


def ended_well(outcomes: Mapping[int, Outcome], num_runs: int, received: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Return the results of the runs, or raise what ended one of them, as ``train`` does."""
    results = {seed: one for seed, one in outcomes.items() if isinstance(one, dict)}
    stopped = [f"seed {seed}: {one}" for seed, one in outcomes.items() if isinstance(one, TrainingStoppedError)]
    for one in outcomes.values():
        if isinstance(one, Exception) and not isinstance(one, (TrainingStoppedError, InterruptedRunError)):
            raise one
    if len(results) + len(stopped) < num_runs:
        raise InterruptedSeedsError(received[0] if received else signal.SIGTERM, len(results), num_runs)
    if stopped:
        raise TrainingStoppedError("; ".join(stopped))
    return results


def written(directory: Path, results: Mapping[int, dict[str, Any]]) -> dict[str, Any]:
    """Write ``TABLE``, a row for each run, and ``SUMMARY`` into ``directory``; return what the latter holds."""
    found = summary(results)
    stream = io.StringIO()
    # a run that had ended before words were counted has no number of them
    columns = dict.fromkeys(name for run in found["runs"] for name in run)
    table = csv.DictWriter(stream, list(columns), lineterminator="\n")
    table.writeheader()
    table.writerows(found["runs"])
    write_file(directory / TABLE, stream.getvalue())
    write_file(directory / SUMMARY, to_json(found, indent=2) + "\n")
    return found


def summary(results: Mapping[int, dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of each run, and their mean with its 95 % interval (None if a run has no figure).

    Perplexities are averaged as nats per token, so that their mean is exp of a mean loss, as one run's perplexity is.
    """
    runs = [{"seed": seed, **result} for seed, result in results.items()]
    mean: dict[str, float | None] = {}
    interval: dict[str, list[float] | None] = {}
    for name, to_mean, from_mean in (("perplexity", math.log, exp), ("bits_per_byte", float, float)):
        values = [run[name] for run in runs]
        mean[name], interval[name] = None, None
        if None not in values:
            middle, *ends = mean_interval([to_mean(value) for value in values])
            mean[name], interval[name] = from_mean(middle), [from_mean(end) for end in ends if end is not None]
    return {"runs": runs, "mean": mean, "interval": interval}

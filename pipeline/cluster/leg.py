"""A leg of a trial in a process of Ray Tune's: training in a thread, which waits at each validation for the decision.

step() → the next validation, or how the leg ended
leave() → the trial closes what it has open, and its thread ends; the process is free for another leg
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable
from typing import Any

from ray import tune

from pipeline.cluster.leaving import node_leaves_once
from pipeline.cluster.trial import Runner
from pipeline.search.standing import Trial
from pipeline.training.loop import LeaveError

GO_ON, LEAVE = "go on", "leave"


class Leg:
    """Calls ``work`` with a ``report`` in a thread; one message at a time goes each way."""

    def __init__(self, work: Callable[[Callable[[dict[str, Any]], None]], dict[str, Any]]) -> None:
        self.messages: queue.Queue[dict[str, Any] | BaseException] = queue.Queue()
        self.answers: queue.Queue[str] = queue.Queue()
        self.thread = threading.Thread(target=self._run, args=(work,), name="trial", daemon=True)
        self.has_begun = self.has_ended = False

    def _run(self, work: Callable[[Callable[[dict[str, Any]], None]], dict[str, Any]]) -> None:
        try:
            self.messages.put(work(self._report))
        except BaseException as error:
            self.messages.put(error)

    def _report(self, figures: dict[str, Any]) -> None:
        """Pass ``figures`` on and wait for the answer. Raises ``LeaveError`` if the trial is not to continue."""
        self.messages.put(figures)
        if self.answers.get() == LEAVE:
            raise LeaveError

    def step(self) -> dict[str, Any]:
        """Continue to the next validation or to the end. Raises what ``work`` raised."""
        if self.has_begun:
            self.answers.put(GO_ON)
        else:
            self.has_begun = True
            self.thread.start()
        message = self.messages.get()
        if isinstance(message, BaseException):
            self.has_ended = True
            raise message
        self.has_ended = "ended" in message
        return message

    def leave(self) -> None:
        """End at the validation that was reported last, and wait for the end."""
        if self.has_begun and not self.has_ended:
            self.answers.put(LEAVE)
        if self.has_begun:
            self.thread.join()
        self.has_ended = True


class LegActor(tune.Trainable):
    """A process that runs one leg after another; nothing of a leg is left for the next."""

    def setup(self, config: dict[str, Any], runner: Runner | None = None) -> None:
        assert runner is not None
        self.runner = runner
        self.leg: Leg | None = None
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Prepare for another leg."""
        self.leave()
        values = json.loads(new_config["leg"])
        after_tokens = values.pop("tokens")
        trial = Trial(**values)
        runner = self.runner

        def work(report: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
            with node_leaves_once() as node_leaves:
                return runner.run(trial, report, after_tokens=after_tokens, save_requested=node_leaves)

        self.leg = Leg(work)
        return True

    def step(self) -> dict[str, Any]:
        assert self.leg is not None
        return self.leg.step()

    def leave(self) -> None:
        """Let go of the trial that runs here."""
        if self.leg is not None:
            self.leg.leave()

    def cleanup(self) -> None:
        self.leave()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Do nothing: trials save themselves."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Do nothing, like ``save_checkpoint``."""

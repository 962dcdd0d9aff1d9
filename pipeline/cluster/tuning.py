"""Ray Tune runs what the engine of a search says: each leg of a trial, from a start to a pause or end, is a Tune trial.

So as far as Tune knows, nothing is ever paused: a trial that pauses has ended, and one that is promoted begins again
from its own checkpoint, in a process that is there already. The engine alone says what is to run. This code runs where
Tune runs, which with ray:// is not the driver.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from pipeline.cluster.leg import LegActor
from pipeline.cluster.placement import complete_before_removal
from pipeline.cluster.room import waiting
from pipeline.cluster.trial import Runner
from pipeline.errors import UserError
from pipeline.search.actions import Action, Run, Wait
from pipeline.search.engine import Engine
from pipeline.search.journal import WAITING_FOR_ROOM, Journal
from pipeline.search.naming import TRIALS
from pipeline.search.schedulers import CONTINUE
from pipeline.search.standing import FAILED, LOST, RUNNING, Standing, Trial
from pipeline.search.validations import figures_of
from pipeline.training.loop import INTERRUPTED

LEG = "leg"  # what a trial of Tune's is given: the trial of the search, as text
LOOK_SECONDS = 2.0  # how often the size of the cluster is looked at
ROOM_SECONDS = 60.0  # after which a wait of a trial for room on the cluster is reported
FIGURES = ("tokens", "loss", "perplexity", "seconds")
TUNE_SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # a second copy of each trial for TensorBoard
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",  # a state that is never read
    "TUNE_RESULT_BUFFER_LENGTH": "1",
    # by default a single trial may wait, and a cluster grows by one node after the other; we count them ourselves
    "TUNE_MAX_PENDING_TRIALS_PG": "1000000",
}


def as_leg(trial: Trial) -> str:
    """What a process that runs ``trial`` must know about it, as JSON."""
    names = ("name", "number", "settings", "seed_offset", "details", "tokens")
    return json.dumps({name: getattr(trial, name) for name in names})


class Conductor:
    """Stands between Tune and the engine: knows which trial is which, and passes on what each says to the other."""

    def __init__(
        self,
        make_engine: Callable[[Journal], Engine],
        journal: Journal,
        *,
        most_at_once: Callable[[], int],
        most_waiting: Callable[[], int] = lambda: 1,
        max_failures: int,
        before_leg: Callable[[Standing, str], Mapping[str, str]] = lambda standing, failure: {},
        after_leg: Callable[[Standing], None] = lambda standing: None,
    ) -> None:
        """
        Args:
            make_engine: called where Tune runs.
            most_at_once: how many trials the cluster has room for.
            most_waiting: how many of them may wait for their processes.
            before_leg: makes trials take the checkpoints of others that the engine has decided on, given why the
                journal could not be written (empty: it is); returns why, for each trial that could not.
        """
        self.before_leg = before_leg
        self.after_leg = after_leg
        self.make_engine = make_engine
        self.journal = journal
        self.most_at_once = most_at_once
        self.most_waiting = most_waiting
        self.waiting: set[str] = set()  # the trials of Tune's whose processes have not begun
        self.max_failures = max_failures
        self.names: dict[str, str] = {}
        self.mistake = ""  # the one that ended the search
        self._engine: Engine | None = None
        self._looked: tuple[float, int, int] | None = None
        self._waits_since: float | None = None
        self._wait_is_noted = False

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_engine": None}

    @property
    def engine(self) -> Engine:
        if self._engine is None:
            self._engine = self.make_engine(self.journal)
        return self._engine

    def room(self) -> int:
        """How many more trials there is room for, now or on nodes that come if trials wait for them."""
        now = time.monotonic()
        if self._looked is None or now - self._looked[0] >= LOOK_SECONDS:
            self._looked = (now, self.most_at_once(), self.most_waiting())
        _, most_at_once, most_waiting = self._looked
        return min(most_at_once - len(self.engine.standing.in_state(RUNNING)), most_waiting - len(self.waiting))

    def next_leg(self, tune_id: str) -> dict[str, str] | str | None:
        """The configuration of Tune's next trial; None: none for now; ``Searcher.FINISHED``: no more at all."""
        if self.mistake or self.journal.directory.stop_requested():
            return Searcher.FINISHED
        try:
            action = self._next_action()
        except UserError as error:
            self.mistake = str(error)
            return Searcher.FINISHED
        if isinstance(action, Run):
            self.names[tune_id] = action.trial.name
            self.waiting.add(tune_id)
            return {LEG: as_leg(action.trial)}
        return None if isinstance(action, Wait) else Searcher.FINISHED

    def _next_action(self) -> Action:
        """What to begin now, with all that it needs in place. Raises ``UserError`` if the search cannot continue."""
        while True:
            action = self.engine.next_action(self.room())
            if not isinstance(action, Run):
                return action
            try:
                self.journal.retry()
                failed = self.before_leg(self.engine.standing, self.journal.failure)
            except UserError:
                self.engine.interrupted(action.trial.name)
                raise
            for name, reason in failed.items():
                self.engine.ended(name, FAILED, reason)
            if action.trial.name not in failed:
                return action

    def result(self, tune_id: str, result: dict[str, Any]) -> bool:
        """Whether a leg continues after it reported ``result``: a validation, or how it ended."""
        self.waiting.discard(tune_id)
        name = self.names[tune_id]
        if "ended" not in result:
            if self.engine.report(name, **{figure: result[figure] for figure in FIGURES}) == CONTINUE:
                return True
        elif result["ended"] == INTERRUPTED:
            self.engine.interrupted(name)
        else:
            figures = {"tokens": result["tokens"]} if result["ended"] == LOST else {}
            self.engine.ended(name, result["ended"], result["reason"], **figures)
        self.after_leg(self.engine.standing)
        return False

    def error(self, tune_id: str, reason: str) -> None:
        """Tell the engine that the process of a leg was lost."""
        self.waiting.discard(tune_id)
        name, directory = self.names[tune_id], self.journal.directory
        if directory.stop_requested():
            self.engine.interrupted(name)
        else:
            saved = figures_of(directory.path / TRIALS / name)["tokens"]
            self.engine.failed(name, reason, max_failures=self.max_failures, saved_tokens=saved)

    def withdraws(self, tune_id: str) -> bool:
        """Whether a trial that waits for its process is to wait no longer, as a stop is requested; it continues later.

        Its room may come late, or never: the nodes that it has asked for, or the end of other work.
        """
        if not self.journal.directory.stop_requested():
            return False
        self.waiting.discard(tune_id)
        self.engine.interrupted(self.names[tune_id])
        return True

    def look_at_the_time(self) -> None:
        """If ``search.max_hours`` are over, ask the running trials to save and leave."""
        if self.engine.out_of_time() and not self.journal.directory.stop_requested():
            self.engine.next_action(0)  # this writes that the time is over
            self.journal.directory.request_stop()

    def look_for_room(self, resources: Mapping[str, float], *, waits: bool) -> None:
        """Note in the journal, once per wait, that a trial has waited long for ``resources`` of the cluster.

        Args:
            waits: whether a trial waits now.
        """
        now = time.monotonic()
        if not waits:
            self._waits_since, self._wait_is_noted = None, False
            return
        self._waits_since = now if self._waits_since is None else self._waits_since
        if now - self._waits_since >= ROOM_SECONDS and not self._wait_is_noted:
            self._wait_is_noted = True
            self.journal.append({"kind": WAITING_FOR_ROOM, "text": waiting(1, resources)})


class Draws(Searcher):
    """Tune asks it for trials; it asks the engine."""

    def __init__(self, conductor: Conductor) -> None:
        super().__init__()
        self.conductor = conductor

    def suggest(self, trial_id: str) -> Any:
        return self.conductor.next_leg(trial_id)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Do nothing: the results say how legs end."""

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the journal holds everything."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing, like ``save``."""


class Decides(FIFOScheduler):
    """Tune reports results to it; the engine decides."""

    def __init__(self, conductor: Conductor) -> None:
        super().__init__()
        self.conductor = conductor

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if self.conductor.result(trial.trial_id, result):
            return TrialScheduler.CONTINUE
        # its process may be kept for another leg, so it must let go of this one now
        actor = getattr(getattr(trial, "temporary_state", None), "ray_actor", None)
        if actor is not None:
            actor.leave.remote()
        return TrialScheduler.STOP

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        for trial in tune_controller.get_trials():
            if trial.status == tune.experiment.Trial.PENDING and self.conductor.withdraws(trial.trial_id):
                tune_controller.stop_trial(trial)
        return super().choose_trial_to_run(tune_controller)


class Watches(tune.Callback):
    """Tune tells it which processes were lost or wait; it also retries what a full disk refused."""

    def __init__(self, conductor: Conductor, resources: Mapping[str, float]) -> None:
        self.conductor = conductor
        self.resources = resources

    def setup(self, *arguments: Any, **info: Any) -> None:
        complete_before_removal()  # here, because this is called where Tune runs

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.conductor.waiting.discard(trial.trial_id)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        error = trial.get_error()
        lines = str(error).strip().splitlines() if error else []
        self.conductor.error(trial.trial_id, ": ".join(["its process ended", *lines[-1:]]))

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self.conductor.journal.retry()
        self.conductor.look_at_the_time()
        if "CPU" in self.resources:  # else a trial is the driver of workers, whose waits are noted elsewhere
            waits = any(trial.status == tune.experiment.Trial.PENDING for trial in trials)
            self.conductor.look_for_room(self.resources, waits=waits)


def conduct(
    conductor: Conductor, runner: Runner, resources: dict[str, float], scratch: Path, *, reuse_actors: bool
) -> None:
    """Run what the engine says, until nothing is left to run or a stop is requested.

    Args:
        scratch: the folder for what Tune writes for itself, which nobody reads.
    """
    os.environ.update(TUNE_SETTINGS)
    actor = tune.with_parameters(LegActor, runner=runner)
    tuner = tune.Tuner(
        tune.with_resources(actor, resources),
        tune_config=tune.TuneConfig(
            search_alg=Draws(conductor),
            scheduler=Decides(conductor),
            num_samples=-1,
            reuse_actors=reuse_actors,
            trial_name_creator=lambda trial: trial.trial_id,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name="tune", storage_path=str(scratch), verbose=0, callbacks=[Watches(conductor, resources)]
        ),
    )
    tuner.fit()

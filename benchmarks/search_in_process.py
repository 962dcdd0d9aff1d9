"""A search whose trials are trained in this process, one leg after another, without Ray: for measurements and tests."""

from __future__ import annotations

from typing import Any

from pipeline import resources, run
from pipeline.config import Config
from pipeline.search.actions import Run
from pipeline.search.candidates import Candidates
from pipeline.search.engine import Engine
from pipeline.search.exploits import Exploits
from pipeline.search.journal import Journal, read_journal
from pipeline.search.lives import config_of
from pipeline.search.naming import TRIALS
from pipeline.search.schedulers import CONTINUE
from pipeline.search.space import check_space
from pipeline.search.standing import LOST, Trial
from pipeline.search.validations import past_validations
from pipeline.training.directory import RunDirectory
from pipeline.training.guard import DivergedError, check_validation
from pipeline.training.loop import FINISHED, LeaveError


class InThisProcess:
    """The engine, which continues from the journal in ``directory``, and the training of the trials that it starts."""

    def __init__(self, config: Config, directory: RunDirectory, *, budget_tokens: int) -> None:
        """``config`` is the configuration of a trial before its own settings; its corpus is prepared."""
        self.config, self.directory = config, directory
        self.engine = Engine(
            config.search,
            check_space(config),
            budget_tokens,
            records=read_journal(directory.path),
            write=Journal(directory).append,
            candidates=Candidates(),
        )
        self.exploits = Exploits(directory, config)

    def step(self) -> bool:
        """Train one leg of one trial; false: none is left."""
        action = self.engine.next_action(1)
        if not isinstance(action, Run):
            return False
        if failed := self.exploits.settle(self.engine.standing):
            raise RuntimeError(failed)
        try:
            self.train(action.trial)
        except DivergedError as error:
            self.engine.ended(action.trial.name, LOST, str(error))
        return True

    def train(self, trial: Trial) -> None:
        """Continue ``trial`` until the engine pauses it, or to its end."""
        folder = self.directory.path / TRIALS / trial.name

        def report(figures: dict[str, Any]) -> None:
            check_validation(figures)
            told = {name: figures[name] for name in ("tokens", "loss", "perplexity")}
            if self.engine.report(trial.name, **told) != CONTINUE:
                raise LeaveError

        try:
            for figures in past_validations(folder, after_tokens=trial.tokens):
                report(figures)
        except LeaveError:
            return
        how = run.train(
            config_of(self.config, trial, folder),
            resources.local_worker(self.config),
            owner=self.directory.owner,
            held_by=str(self.directory.path),
            report=report,
            evaluate_at_tokens=self.engine.milestones,
        )
        if how == FINISHED:
            self.engine.ended(trial.name, "done")

"""One leg of a trial of a search: a run of its own, which reports its validations and, last, how it ended.

settings → configuration → the validations of earlier sittings → ``pipeline.run.train`` on one worker or several
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import resources, run, status
from pipeline.cluster.exchange import Exchange
from pipeline.cluster.train import OnRay, Plan
from pipeline.config import Config
from pipeline.data.shards import open_prepared
from pipeline.errors import UserError
from pipeline.files import replacing
from pipeline.search import corpora
from pipeline.search.lives import config_of
from pipeline.search.naming import TRIALS
from pipeline.search.standing import DONE, FAILED, LOST, Trial
from pipeline.search.validations import figures_of, past_validations
from pipeline.training.directory import LostOwnershipError, RunDirectory
from pipeline.training.guard import DivergedError, TrainingStoppedError, check_validation
from pipeline.training.loop import FINISHED, INTERRUPTED, LeaveError

ERROR = "error.txt"  # the traceback of a trial that failed
Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Runner:
    """Runs trials, in Ray Tune's processes.

    ``config`` is that of the search with the budget of a trial; ``directory`` the search's own, with its owner.
    """

    config: Config
    directory: RunDirectory
    plan: Plan
    milestones: Sequence[int]

    @property
    def resources(self) -> dict[str, float]:
        """The resources that the process of a trial holds."""
        if self.plan.num_workers > 1:
            # the drivers hold no CPU, else they would hold those that their workers wait for
            return {"memory": 64 << 20}
        return self.plan.resources

    def run(
        self,
        trial: Trial,
        report: Report,
        *,
        after_tokens: int = 0,
        save_requested: Callable[[], bool] = lambda: False,
    ) -> dict[str, Any]:
        """Train ``trial``, or continue it; returns how it ended, why, and after how many tokens.

        Args:
            report: called with each validation; raises ``LeaveError`` if the trial is to pause.
            after_tokens: validations up to this number of tokens are known.
            save_requested: asked between the steps of a trial with one worker; the ranks of others ask Ray Train.

        Raises:
            LostOwnershipError: another driver has taken the search over; nothing more was written.
        """
        folder = self.directory.path / TRIALS / trial.name
        ended, reason = DONE, ""
        try:
            how = self.train(trial, folder, report, after_tokens=after_tokens, save_requested=save_requested)
            ended = DONE if how == FINISHED else how
        except DivergedError as error:
            ended, reason = LOST, str(error)
        except LostOwnershipError:
            raise
        except (UserError, TrainingStoppedError) as error:
            ended, reason = FAILED, "; ".join(str(error).splitlines())
        except Exception as error:
            first = (str(error).strip().splitlines() or [""])[0]
            ended, reason = FAILED, f"{type(error).__name__}: {first}{keep_traceback(folder)}"
        return {"ended": ended, "reason": reason, "tokens": figures_of(folder)["tokens"]}

    def train(
        self, trial: Trial, folder: Path, report: Report, *, after_tokens: int, save_requested: Callable[[], bool]
    ) -> str:
        """Train the run of ``trial`` in ``folder``; returns how it ended. Raises like ``pipeline.run.train``."""
        config = config_of(self.config, trial, folder)
        is_own = config.data.directory == self.config.data.directory
        corpus = open_prepared(config.data.directory) if is_own else corpora.prepared(config)
        goes_by_bytes = corpora.has_other_tokens(self.config.search.space)
        if goes_by_bytes:
            corpora.check_comparable(config, corpus)
        status.check(config, corpus, num_workers=self.plan.num_workers)

        def report_checked(figures: dict[str, Any]) -> None:
            check_validation(figures)
            if goes_by_bytes:
                figures = corpora.by_bytes(figures)
            report({**figures, "seconds": figures_of(folder)["seconds"]})

        try:
            for figures in past_validations(folder, after_tokens=after_tokens):
                report_checked(figures)
        except LeaveError:
            return INTERRUPTED
        if self.plan.num_workers > 1:
            return self.train_on_several(config, folder, report_checked)
        worker = resources.Worker(
            resources.resolve_device("cuda" if self.plan.use_gpu else "cpu"), num_threads=self.plan.cpus_per_worker
        )
        owner, search = self.directory.owner, str(self.directory.path)
        return run.train(
            config,
            worker,
            owner=owner,
            held_by=search,
            report=report_checked,
            evaluate_at_tokens=self.milestones,
            save_requested=save_requested,
        )

    def train_on_several(self, config: Config, folder: Path, report: Report) -> str:
        """``train`` on ranks of Ray Train, which ask here at each validation whether to continue."""
        folder.mkdir(parents=True, exist_ok=True)
        exchange = Exchange(f"{self.directory.owner}-{folder.name}")
        exchange.close()  # of an earlier leg
        ranks = OnRay(
            self.plan,
            config.cluster.max_failures,
            evaluate_at_tokens=self.milestones,
            search=str(self.directory.path),
            exchange=f"{self.directory.owner}-{folder.name}",
        )
        with ThreadPoolExecutor(1) as threads:
            fitting = threads.submit(ranks.fit, config, self.directory.owner)
            try:
                exchange.serve(report, is_over=fitting.done)
            except LeaveError:
                return fitting.result()
            finally:
                fitting.exception()
                exchange.close()
            return fitting.result()


def keep_traceback(folder: Path) -> str:
    """Write the exception that is being handled into the trial's directory; returns where it is, in words."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / ERROR) as temporary:
            temporary.write_text(traceback.format_exc(), encoding="utf-8")
    except OSError:
        return ""
    return f" ({folder / ERROR})"

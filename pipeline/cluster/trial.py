"""One trial of a search: a run of its own, which tells Ray Tune its validations and, last, how it ended.

settings → configuration → the validations of earlier sittings → ``pipeline.run.train`` on one worker or several
"""

from __future__ import annotations

import math
import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.integration.ray_train import TuneReportCallback

from pipeline import config as configuration
from pipeline import run, status
from pipeline.cluster.journal import DONE, FAILED, LOST, Trial
from pipeline.cluster.train import OnRay, Plan, fitted
from pipeline.config import Config
from pipeline.data.shards import open_prepared
from pipeline.errors import UserError
from pipeline.training import checkpoint
from pipeline.training.directory import LostOwnershipError, RunDirectory
from pipeline.training.guard import DivergedError, TrainingStoppedError, check_validation
from pipeline.training.loop import FINISHED
from pipeline.training.monitor import read

TRIALS = "trials"
ERROR = "error.txt"  # the traceback of a trial that failed
NAME_LENGTH = 120
FIGURES = ("tokens", "loss", "perplexity")
Report = Callable[[dict[str, Any]], None]


def name_of(number: int, settings: Mapping[str, Any]) -> str:
    """``003-lr=0.00123,hidden_size=128``: the folder of a trial, and what TensorBoard calls it."""
    fields = [path.partition(".")[2] for path in settings]
    names = [field if fields.count(field) == 1 else path for field, path in zip(fields, settings, strict=True)]
    shown = ",".join(f"{name}={short(value)}" for name, value in zip(names, settings.values(), strict=True))
    return f"{number:03d}-{re.sub(r'[^A-Za-z0-9_.,=+-]+', '_', shown)}"[:NAME_LENGTH]


def short(value: Any) -> str:
    return "-".join(map(value_of, value)) if isinstance(value, list) else value_of(value)


def describe(settings: Mapping[str, Any]) -> str:
    """``optimizer.lr=0.0012 model.hidden_size=128``."""
    return " ".join(f"{path}={value_of(value)}" for path, value in settings.items())


def value_of(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Runner:
    """Runs trials, in processes of Ray Tune's.

    ``config`` is that of the search with the budget of a trial; ``directory`` the search's own, with its owner.
    """

    config: Config
    directory: RunDirectory
    plan: Plan
    milestones: Sequence[int]
    trials: Mapping[str, Trial]

    def trainable(self) -> Any:
        """The function that Ray Tune calls with ``{"trial": name}``, and the resources that it holds."""

        def trial(sample: dict[str, Any]) -> dict[str, Any]:
            return self.run(self.trials[sample["trial"]], tune.report)

        if self.plan.num_workers > 1:
            # the drivers hold no CPU, else they would hold what their workers wait for
            return tune.with_resources(trial, {"memory": 64 << 20})
        return tune.with_resources(trial, {"CPU": self.plan.cpus_per_worker, "GPU": int(self.plan.use_gpu)})

    def run(self, trial: Trial, report: Report) -> dict[str, Any]:
        """Train ``trial``, or go on with it; returns how it ended, and why.

        Raises:
            LostOwnershipError: another driver has taken the search over; nothing more was written.
        """
        folder = self.directory.path / TRIALS / trial.name
        try:
            ended = self.train(trial, folder, report)
        except DivergedError as error:
            return {"ended": LOST, "reason": str(error)}
        except LostOwnershipError:
            raise
        except (UserError, TrainingStoppedError) as error:
            return {"ended": FAILED, "reason": "; ".join(str(error).splitlines())}
        except Exception as error:
            first = (str(error).strip().splitlines() or [""])[0]
            return {"ended": FAILED, "reason": f"{type(error).__name__}: {first}{keep_traceback(folder)}"}
        return {"ended": DONE if ended == FINISHED else ended, "reason": ""}

    def train(self, trial: Trial, folder: Path, report: Report) -> str:
        """How the run of ``trial`` in ``folder`` ended. Raises as ``pipeline.run.train``."""
        config = configuration.with_values(self.config, {**trial.settings, "run.directory": str(folder)})
        corpus = open_prepared(config.data.directory)
        status.check(config, corpus, num_workers=self.plan.num_workers)

        def report_checked(figures: dict[str, Any]) -> None:
            check_validation(figures)
            report(figures)

        for figures in past_validations(folder, after_tokens=trial.tokens):
            report_checked(figures)
        owner, search = self.directory.owner, str(self.directory.path)
        if self.plan.num_workers > 1:
            folder.mkdir(parents=True, exist_ok=True)
            ranks = OnRay(self.plan, config.cluster.max_failures, evaluate_at_tokens=self.milestones, search=search)
            return fitted(ranks.trainer(config, owner=owner, callbacks=[TuneReportCallback()]).fit)
        worker = run.Worker(
            run.resolve_device("cuda" if self.plan.use_gpu else "cpu"), num_threads=self.plan.cpus_per_worker
        )
        return run.train(
            config, worker, owner=owner, held_by=search, report=report_checked, evaluate_at_tokens=self.milestones
        )


def past_validations(folder: Path, *, after_tokens: int) -> list[dict[str, Any]]:
    """The figures of the validations that a trial has made before its last checkpoint, but not reported.

    Its driver may have been killed between the two; or it is a trial of a search that had no journal.
    """
    directory = RunDirectory(folder)
    found = checkpoint.manifests(folder)
    last = found[-1][1]["step"] if found else 0
    past = [r for r in read(directory.metrics) if r["kind"] == "valid" and r["step"] <= last]
    past = [r for r in past if all(name in r for name in FIGURES) and r["tokens"] > after_tokens]
    # what was not finite is null in the record
    return [{name: math.inf if record[name] is None else record[name] for name in FIGURES} for record in past]


def keep_traceback(folder: Path) -> str:
    """Write the exception that is being handled into the trial's directory; returns where it is, in words."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ERROR).write_text(traceback.format_exc(), encoding="utf-8")
    except OSError:
        return ""
    return f" ({folder / ERROR})"


def figures_of(folder: Path, *, up_to_tokens: float = math.inf) -> dict[str, Any]:
    """The best perplexity that a trial has reached (None: none that is finite), its tokens and its seconds."""
    manifests = [m for _, m in checkpoint.manifests(folder) if m["tokens"] <= up_to_tokens]
    best = [m["best_perplexity"] for m in manifests if m["best_perplexity"] is not None]
    last: Mapping[str, Any] = manifests[-1] if manifests else {"tokens": 0, "seconds": 0.0}
    return {
        "perplexity": min(filter(math.isfinite, best), default=None),
        "tokens": last["tokens"],
        "seconds": round(last["seconds"], 1),
    }

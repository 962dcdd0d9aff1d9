"""Ray Tune's events → the journal of a search. It runs where Tune runs, which with ray:// is not the driver."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ray import tune

from pipeline.cluster.journal import FAILED, STOPPED, Journal, Trial
from pipeline.cluster.rungs import reached
from pipeline.cluster.trial import TRIALS, figures_of
from pipeline.training.directory import RunDirectory
from pipeline.training.loop import INTERRUPTED


class Recorder(tune.Callback):
    """Writes down when a trial starts, what it reports and how it ended; never that a trial cut off has ended.

    What a full disk refuses is kept and written later.
    """

    def __init__(
        self, directory: RunDirectory, trials: Mapping[str, Trial], milestones: Sequence[int], reduction_factor: int
    ) -> None:
        self.journal = Journal(directory)
        self.folder = directory.path / TRIALS
        self.trials = trials
        self.milestones = milestones
        self.reduction_factor = reduction_factor
        self.tokens = {name: trial.tokens for name, trial in trials.items()}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        known = self.trials[trial.config["trial"]]
        tokens = figures_of(self.folder / known.name)["tokens"]
        start = {"kind": "start", "trial": known.name, "number": known.number, "settings": known.settings}
        self.journal.append({**start, "tokens": tokens})

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        name = trial.config["trial"]
        if ended := result.get("ended"):
            if ended != INTERRUPTED:
                self.journal.append(self.end(name, ended, result["reason"]))
            return
        tokens = result["tokens"]
        rung = reached(self.milestones, tokens)
        report = {
            "kind": "report", "trial": name, "tokens": tokens, "loss": result["loss"],
            "perplexity": result["perplexity"], "rung": rung if rung > self.tokens[name] else None,
        }  # fmt: skip
        self.tokens[name] = tokens
        # a report and the stop that it led to are one write: no kill comes between them
        self.journal.append(report, *([self.stop(name, tokens)] if result.get("done") else []))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        if self.journal.directory.stop_requested():
            return
        error = trial.get_error()
        lines = str(error).strip().splitlines() if error else []
        self.journal.append(self.end(trial.config["trial"], FAILED, ": ".join(["its process ended", *lines[-1:]])))

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self.journal.retry()

    def end(self, name: str, status: str, reason: str, **how: float) -> dict[str, Any]:
        """How a trial ended, with the figures of its checkpoints."""
        figures = figures_of(self.folder / name, **how)
        return {"kind": "end", "trial": name, "status": status, "reason": reason, **figures}

    def stop(self, name: str, tokens: int) -> dict[str, Any]:
        rung = reached(self.milestones, tokens)
        reason = f"not among the best 1 in {self.reduction_factor} at {rung:,} tokens"
        return self.end(name, STOPPED, reason, up_to_tokens=tokens)

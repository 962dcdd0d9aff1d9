"""Records of a search → a sentence for each change, and a line that moves on a terminal."""

from __future__ import annotations

from typing import Any

from pipeline.search.naming import describe
from pipeline.search.standing import FAILED, LOST, Standing, Trial
from pipeline.training.monitor import Record
from pipeline.training.progress import MovingLine, bar


class SearchProgress(MovingLine):
    """Shows how far a search is: trials that start, reach a rung, end; between these, in a pipe, now and then."""

    def __init__(self, num_trials: int | None, **how: Any) -> None:
        super().__init__(**how)
        self.num_trials = num_trials or 0  # as far as is known

    def show(self, record: Record, standing: Standing) -> None:
        """Print what ``record`` tells a person, the search now standing at ``standing``."""
        self.num_trials = max(self.num_trials, len(standing.trials))
        said = sentence(record, standing, self.num_trials)
        if said:
            self.say(said)
        if record["kind"] != "interrupted" and (self.is_terminal or not said):
            self.move(moving(record, standing, self.num_trials))


def sentence(record: Record, standing: Standing, num_trials: int) -> str:
    """What changed, in one line; empty for a validation between two rungs."""
    if record["kind"] not in ("start", "report", "pause", "failure", "end"):
        return ""
    trial = standing.trials[record["trial"]]
    name = f"trial {trial.number}/{num_trials}: {describe(trial.settings)}"
    if record["kind"] == "start":
        tokens = record["tokens"]
        return f"{name}: " + (f"goes on after {tokens:,} tokens" if tokens else "starts")
    if record["kind"] == "report":
        return f"{name}: {figure(record, standing)} after {record['tokens']:,} tokens" if record["rung"] else ""
    if record["kind"] == "pause":
        return f"{name}: pauses at {record['rung']:,} tokens"
    if record["kind"] == "failure":
        return f"{name}: {record['reason']}; it goes on from its last checkpoint"
    return f"{name}: {ending(record, standing)} ({standing.num_ended}/{num_trials} trials ended)"


def ending(end: Record, standing: Standing) -> str:
    """How a trial ended: ``stopped after 44,512 tokens with perplexity 31.90, not among the best 1 in 3 …``."""
    result = f"{end['status']} after {end['tokens']:,} tokens"
    if end["status"] not in (LOST, FAILED) and end["perplexity"] is not None:
        result += f" with {figure(end, standing)}"
    return ", ".join(filter(None, [result, end["reason"]]))


def figure(record: Record, standing: Standing) -> str:
    best = " (best so far)" if record["perplexity"] == standing.best_perplexity else ""
    return f"perplexity {record['perplexity']:,.2f}{best}"


def moving(record: Record, standing: Standing, num_trials: int) -> str:
    """Trials that have ended, the best so far, and the latest validation of each that runs."""
    best = f"best perplexity {standing.best_perplexity:,.2f}" if standing.best_perplexity is not None else ""
    running = [trial for trial in standing.trials.values() if trial.is_running]
    shown = ", ".join(f"{trial.number}: {latest(trial)}" for trial in running)
    line = f"{bar(standing.num_ended / num_trials)} {standing.num_ended}/{num_trials} trials ended"
    return "  ".join(filter(None, [line, best, f"running {shown}" if running else ""]))


def latest(trial: Trial) -> str:
    if not trial.reports:
        return "no validation yet"
    return f"{trial.reports[-1]['perplexity']:,.1f} after {trial.tokens:,} tokens"

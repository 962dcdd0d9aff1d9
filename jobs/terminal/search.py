"""Records of a search → a table that is kept up to date on a terminal, or a line for each change in a pipe.

 31% ██████               9 of 24 trials begun: 2 running, 5 paused, 2 done   best perplexity 4.21 (trial 3)
4,412,000 of about 14,100,000 tokens  0:41:07 left
  trial  perplexity  place in its rung      tokens  settings
      8        5.02  2nd of 8 at 288,000   312,000  optimizer.lr=0.0012 model.hidden_size=128
      9                                          0  optimizer.lr=0.0101 model.hidden_size=256
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from jobs.terminal.progress import MovingLine, bar, duration
from pipeline.search.importance import loss_at
from pipeline.search.journal import WAITING_FOR_ROOM
from pipeline.search.lives import Life
from pipeline.search.naming import describe
from pipeline.search.plan import SearchPlan
from pipeline.search.rungs import reached
from pipeline.search.standing import DONE, FAILED, GENERATION, LOST, PAUSED, RUNNING, STOPPED, Standing, Trial
from pipeline.training.monitor import Record

ORDER = (RUNNING, PAUSED, DONE, STOPPED, LOST, FAILED)
MOST_ROWS = 12
WIDTHS = (7, 12, 26, 14)  # of trial, perplexity, place, tokens


@contextmanager
def continued_by(command: str, progress: MovingLine) -> Iterator[None]:
    """Close ``progress`` at the end. If the search was asked to stop, say which ``command`` continues it.

    Raises:
        SystemExit: for such a search, with the exit code of its signal.
    """
    from pipeline.cluster.search import InterruptedSearchError

    try:
        yield
    except InterruptedSearchError as interrupted:
        progress.say(f"{interrupted}; to continue:\n  {command}")
        raise SystemExit(128 + interrupted.signum) from None
    finally:
        progress.close()


class SearchProgress(MovingLine):
    """Shows how far a search is: trials that start, reach a rung, pause, continue, end; in between, the table.

    ``plan``, once it is known, says how much there is to do.
    """

    def __init__(self, num_trials: int | None = None, **how: Any) -> None:
        super().__init__(**how)
        self.num_trials = num_trials or 0  # as far as is known
        self.plan: SearchPlan | None = None
        self.num_lines = 0
        self.began: tuple[float, int] | None = None  # the time, and the tokens trained before this sitting

    def begin(self, plan: SearchPlan) -> None:
        """Take the ``plan``, from which on it is known how much there is to do."""
        self.plan = plan
        self.num_trials = max(self.num_trials, plan.num_trials)

    def show(self, record: Record, standing: Standing) -> None:
        """Print what ``record`` says to a person; ``standing`` is where the search now stands."""
        if self.began is None:
            self.began = time.monotonic(), standing.num_tokens
        self.num_trials = max(self.num_trials, len(standing.trials))
        said = sentence(record, standing, self.num_trials)
        if said:
            self.say(said)
        if record["kind"] != "interrupted" and (self.is_terminal or not said):
            self.move_table(standing)

    def move_table(self, standing: Standing) -> None:
        """Show the table on a terminal, or only its head in a pipe."""
        head = self.head(standing)
        if not self.is_terminal:
            self.move(self.done(standing), "  ".join(head))
            return
        columns, rows = shutil.get_terminal_size()
        head[0] = f"{bar(self.done(standing))} {head[0]}"
        lines = [*head, *table(standing, self.levels)][: max(1, min(MOST_ROWS + 4, rows - 1))]
        self.take_away()
        print("\n".join(line[: columns - 1] for line in lines), end="", file=self.stream, flush=True)
        self.num_lines = len(lines)

    def say(self, sentence: str) -> None:
        self.take_away()
        super().say(sentence)

    def take_away(self) -> None:
        """Clear the table, leaving the cursor where it began."""
        if self.num_lines:
            up = f"\x1b[{self.num_lines - 1}A" if self.num_lines > 1 else ""
            print(f"\r{up}\x1b[J", end="", file=self.stream, flush=True)
        self.num_lines = 0

    def clear(self) -> None:
        self.take_away()

    def close(self) -> None:
        if self.num_lines:
            print(file=self.stream, flush=True)
        self.num_lines = 0

    @property
    def levels(self) -> list[int]:
        return [tokens for tokens, _ in self.plan.levels] if self.plan is not None else []

    def done(self, standing: Standing) -> float:
        """Return the share that is done, by tokens; by the time if nothing else ends the search."""
        if self.plan is None:
            return 0.0
        if (hours := self.plan.hours) and (left := self.plan.hours_left(standing, time.time())) is not None:
            return 1 - left / hours
        return standing.num_tokens / max(1, standing.num_tokens + self.plan.tokens_left(standing))

    def head(self, standing: Standing) -> list[str]:
        """Return how far it is: trials by their state and the best so far; tokens and time."""
        left = self.plan.tokens_left(standing) if self.plan is not None else 0
        number = max(self.plan.num_trials if self.plan is not None else 0, self.num_trials)
        begun = f"{len(standing.trials)} of {number} trials"
        states = Counter(trial.status for trial in standing.trials.values())
        shown = ", ".join(f"{states[status]} {status}" for status in ORDER if states[status])
        best = best_of(standing)
        parts = [f"{begun}: {shown or 'none yet'}"]
        if best is not None:
            parts.append(f"best perplexity {best.best_perplexity:,.2f} (trial {best.number})")
        tokens = f"{standing.num_tokens:,}" + (f" of about {standing.num_tokens + left:,}" if left else "") + " tokens"
        return ["  ".join(parts), "  ".join(filter(None, [tokens, self.time_left(standing, left)]))]

    def time_left(self, standing: Standing, tokens_left: int) -> str:
        """Return the time that the rest takes at the speed of this sitting; empty if that cannot be said yet."""
        if self.plan is not None and (hours := self.plan.hours_left(standing, time.time())) is not None:
            return f"{duration(hours * 3600)} left"
        if self.began is None:
            return ""
        started, tokens_before = self.began
        done = standing.num_tokens - tokens_before
        seconds = time.monotonic() - started
        return f"about {duration(tokens_left * seconds / done)} left" if done > 0 and tokens_left > 0 else ""


def sentence(record: Record, standing: Standing, num_trials: int) -> str:
    """Return what changed, in one line; empty for a validation between two rungs."""
    if record["kind"] == GENERATION:
        return generation(record, standing)
    if record["kind"] == WAITING_FOR_ROOM:
        return str(record["text"])
    if record["kind"] not in ("start", "report", "pause", "failure", "end"):
        return ""
    trial = standing.trials[record["trial"]]
    name = f"trial {trial.number}/{num_trials}: {describe(Life.of(trial).now)}"
    if record["kind"] == "start":
        tokens, num_refused = record["tokens"], record.get("num_refused", 0)
        refused = f", after {num_refused:,} {'draws that were' if num_refused > 1 else 'draw that was'} refused"
        starts = "starts" + (refused if num_refused else "")
        if trial.num_starts > 1:
            starts = "continues, before its first validation"
        return f"{name}: " + (f"continues after {tokens:,} tokens" if tokens else starts)
    if record["kind"] == "report":
        return f"{name}: {figure(record, standing)} after {record['tokens']:,} tokens" if record["rung"] else ""
    if record["kind"] == "pause":
        return f"{name}: pauses at {record['rung']:,} tokens"
    if record["kind"] == "failure":
        return f"{name}: {record['reason']}; it continues from its last checkpoint"
    return f"{name}: {ending(record, standing)} ({standing.num_ended}/{num_trials} trials ended)"


def generation(record: Record, standing: Standing) -> str:
    """Return ``at 100,000 tokens trial 3 takes the checkpoint of 1 and continues with optimizer.lr=0.0012; …``."""
    taken = [
        f"trial {standing.trials[exploit['trial']].number} takes the checkpoint of "
        f"{standing.trials[exploit['donor']].number} and continues with {describe(exploit['settings'])}"
        for exploit in record["exploits"]
    ]
    return f"at {record['rung']:,} tokens " + ("; ".join(taken) or "no trial takes another's checkpoint")


def ending(end: Record, standing: Standing) -> str:
    """Return how a trial ended: ``stopped after 44,512 tokens with perplexity 31.90, not among the best 1 in 3 …``."""
    result = f"{end['status']} after {end['tokens']:,} tokens"
    if end["status"] not in (LOST, FAILED) and end["perplexity"] is not None:
        result += f" with {figure(end, standing)}"
    return ", ".join(filter(None, [result, end["reason"]]))


def figure(record: Record, standing: Standing) -> str:
    best = " (best so far)" if record["perplexity"] == standing.best_perplexity else ""
    return f"perplexity {record['perplexity']:,.2f}{best}"


def best_of(standing: Standing) -> Trial | None:
    """Return the trial with the lowest perplexity so far."""
    having = [trial for trial in standing.drawn if trial.best_perplexity is not None]
    return min(having, key=lambda trial: trial.best_perplexity or 0.0, default=None)


def table(standing: Standing, levels: Sequence[int]) -> list[str]:
    """Return a line for each running trial, with its place among those that came as far, below a heading."""
    names = ("trial", "perplexity", "place in its rung", "tokens")
    lines = [row(*names, "settings")]
    for trial in standing.in_state(RUNNING):
        figure = f"{trial.reports[-1]['perplexity']:,.2f}" if trial.reports else ""
        lines.append(row(str(trial.number), figure, place(trial, standing, levels), f"{trial.tokens:,}",
                         describe(Life.of(trial).now)))  # fmt: skip
    return lines if len(lines) > 1 else []


def row(*cells: str) -> str:
    *figures, settings = cells
    return "".join(f"{cell:>{width}}" for cell, width in zip(figures, WIDTHS, strict=True)) + f"  {settings}"


def place(trial: Trial, standing: Standing, levels: Sequence[int]) -> str:
    """Return ``2nd of 8 at 288,000``: by its best loss when it reached its highest rung; empty before the first."""
    level = reached(levels, trial.tokens)
    if not level:
        return ""
    losses = sorted(loss for other in standing.drawn if (loss := loss_at(other.reports, level)) is not None)
    own = loss_at(trial.reports, level)
    return f"{ordinal(losses.index(own) + 1)} of {len(losses)} at {level:,}" if own in losses and own else ""


def ordinal(number: int) -> str:
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"

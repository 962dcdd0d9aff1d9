"""Where a search stands: what the records of its journal add up to.

start → running → (paused → promoted →)* … → ended
                ↘ cut off (its driver was killed, its process died): it waits, and continues first
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline import config as configuration

if TYPE_CHECKING:
    from pipeline.training.monitor import Record  # imports torch, which must not delay what is refused at once

# failed: its process died too often, its disk was full, …; the next start of the search tries it again
DONE, STOPPED, LOST, FAILED = "done", "stopped", "lost", "failed"
GENERATION = "generation"  # the kind of a record that is about several trials (see ``schedulers.pbt``)
STATES = RUNNING, PAUSED, WAITING, ENDED = "running", "paused", "waiting", "ended"


class Past(NamedTuple):
    """What a trial reported, and whether it was lost, before it first took the checkpoint of another (see PBT)."""

    reports: list[Record]
    is_lost: bool


@dataclass
class Trial:
    """One trial as the journal knows it."""

    name: str
    number: int  # of the draw, from 1
    settings: dict[str, Any]
    origin: str = "drawn"  # or "tried first", or "confirms" another
    confirms: str | None = None  # the trial whose settings it has, with another seed
    seed_offset: int = 0  # of one that confirms, to train.seed
    num_refused: int = 0  # draws before this one that were refused
    reports: list[Record] = field(default_factory=list)
    best_loss: float = math.inf  # of its reports that are finite, nats per token
    end: Record | None = None
    state: str = WAITING
    paused_at: int | None = None  # the rung at which it was last paused
    num_starts: int = 0  # times that it began or continued
    num_failures: int = 0  # times that its process was lost in this sitting, with no new checkpoint in between
    saved_tokens: int = 0  # of its last checkpoint when its process was last lost
    details: dict[str, Any] = field(default_factory=dict)  # what its scheduler notes (see PBT)
    past: Past | None = None  # if it took the checkpoint of another, whose reports then count as its own

    @property
    def tokens(self) -> int:
        """The tokens of its last report; 0 before the first."""
        return self.reports[-1]["tokens"] if self.reports else 0

    @property
    def status(self) -> str:
        """How it ended, or its state."""
        return self.end["status"] if self.end is not None else self.state

    @property
    def by_itself(self) -> Past:
        """What came of the ``settings`` that were drawn for it."""
        return self.past or Past(self.reports, self.status == LOST)

    def failures_before(self, saved_tokens: int) -> int:
        """``num_failures`` if its last checkpoint is now that after ``saved_tokens``."""
        return 0 if saved_tokens > self.saved_tokens else self.num_failures

    @property
    def best_perplexity(self) -> float | None:
        """The lowest of its reports, and of the end that an earlier version wrote; None: there is none."""
        figures = [report["perplexity"] for report in self.reports]
        if self.end is not None and self.end.get("perplexity") is not None:
            figures.append(self.end["perplexity"])
        return min(figures, default=None)

    @property
    def is_whole(self) -> bool:
        """Whether it can be the best: as far as is known, its settings bring a run to its end."""
        return self.best_perplexity is not None and self.status not in (LOST, FAILED)


@dataclass
class Standing:
    """Where a search stands: what its records add up to."""

    trials: dict[str, Trial] = field(default_factory=dict)
    format: int | None = None
    seconds_before: float = 0.0  # of earlier sittings
    sitting_began: float | None = None
    last_record_at: float | None = None
    num_tokens: int = 0  # that all trials have trained on, as far as their reports say
    drawn: list[Trial] = field(default_factory=list)  # the trials without those that confirm others
    _by_state: dict[str, dict[str, Trial]] = field(default_factory=lambda: {state: {} for state in STATES})

    @classmethod
    def of(cls, records: Iterable[Record]) -> Standing:
        standing = cls()
        for record in records:
            standing.apply(record)
        return standing

    def apply(self, record: Mapping[str, Any]) -> Trial | None:
        """Take in one more record; return the trial that it is about, if there is one."""
        kind = record["kind"]
        if kind == "search":
            self.format = record["format"]
        elif kind == "sitting":
            self.begin_sitting(record.get("time"))
        if "time" in record:
            self.last_record_at = record["time"]
        if kind == GENERATION:
            self._go_on(record)
        if "trial" not in record:
            return None
        if kind == "start" and record["trial"] not in self.trials:
            self._add(record)
        trial = self.trials[record["trial"]]
        if kind == "start":
            trial.num_starts += 1
            self._move(trial, RUNNING)
        elif kind == "report":
            self.num_tokens += record["tokens"] - trial.tokens
            trial.reports.append(dict(record))
            trial.best_loss = min(trial.best_loss, record["loss"])
        elif kind == "pause":
            self._move(trial, PAUSED)
            trial.paused_at = record["rung"]
        elif kind == "interrupted" or (kind == "promote" and trial.state == PAUSED):
            self._move(trial, WAITING)
        elif kind == "failure":
            self._move(trial, WAITING)
            saved = record.get("saved", 0)  # earlier versions do not say
            trial.num_failures, trial.saved_tokens = trial.failures_before(saved) + 1, saved
        elif kind == "end":
            self._move(trial, ENDED, dict(record))
            if not trial.reports and record.get("perplexity"):  # of an earlier version, which had no reports
                trial.best_loss = math.log(record["perplexity"])
        return trial

    def _move(self, trial: Trial, state: str, end: Record | None = None) -> None:
        self._by_state[trial.state].pop(trial.name, None)
        self._by_state[state][trial.name] = trial
        trial.state, trial.end = state, end

    def _go_on(self, record: Mapping[str, Any]) -> None:
        """Apply a generation: some trials take over the state of others, and all that it promotes continue."""
        from pipeline.search.lives import Life

        for exploit in record["exploits"]:
            trial, donor = self.trials[exploit["trial"]], self.trials[exploit["donor"]]
            how = {name: exploit[name] for name in ("tokens", "donor", "settings")}
            trial.details = {**trial.details, **Life.of(donor).taken_over(**how).as_details()}
            trial.past = trial.by_itself
            trial.reports, trial.best_loss = list(donor.reports), donor.best_loss
        for name in record["promoted"]:
            self._move(self.trials[name], WAITING)

    def _add(self, record: Mapping[str, Any]) -> None:
        names = ("origin", "confirms", "seed_offset", "num_refused", "details")
        known = {name: record[name] for name in names if name in record}
        settings = {configuration.name_now(path): value for path, value in record["settings"].items()}
        trial = Trial(record["trial"], record["number"], settings, **known)
        self.trials[trial.name] = trial
        if trial.confirms is None:
            self.drawn.append(trial)

    def begin_sitting(self, when: float | None = None, *, retries_failed: bool = True) -> None:
        """No trial runs yet, even if it ran when the last driver ended; those that failed are tried again."""
        if self.sitting_began is not None and self.last_record_at is not None:
            self.seconds_before += max(0.0, self.last_record_at - self.sitting_began)
        self.sitting_began = when
        for trial in self.trials.values():
            trial.num_failures = 0
            if trial.state == RUNNING or (retries_failed and trial.status == FAILED):
                self._move(trial, WAITING)

    def in_state(self, state: str) -> list[Trial]:
        """The trials that are ``RUNNING``, ``PAUSED``, ``WAITING`` or ``ENDED``, the earliest there first."""
        return list(self._by_state[state].values())

    @property
    def num_ended(self) -> int:
        return len(self._by_state[ENDED])

    @property
    def num_refused(self) -> int:
        """Draws that were refused: by the schema, for their size, or as repetitions."""
        return sum(trial.num_refused for trial in self.trials.values())

    @property
    def best_perplexity(self) -> float | None:
        """The lowest so far, of all trials."""
        figures = [trial.best_perplexity for trial in self.trials.values()]
        return min((figure for figure in figures if figure is not None), default=None)


def started(trial: Trial) -> Record:
    """What a ``start`` record says of ``trial``."""
    record: Record = {"kind": "start", "trial": trial.name, "number": trial.number, "settings": trial.settings}
    record |= {"origin": trial.origin, "num_refused": trial.num_refused}
    beside = {"confirms": trial.confirms, "seed_offset": trial.seed_offset, "details": trial.details}
    return record | (beside if trial.confirms is not None else {})

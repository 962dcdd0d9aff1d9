"""The whole logic of a search: the records so far → what runs next, and what becomes of a trial that reports.

    next_action(free_slots)  → Run a trial (a new one, one that was cut off, one that is promoted) | Wait | End
    report(trial, …)         → continue | pause | stop
    ended(trial, status)     | interrupted(trial) | failed(trial, reason)

Each call makes records and hands them to ``write`` before it returns. The engine knows only what these records add up
to, so one that is given the records of another decides as the other would have. It knows neither Ray nor files, takes
the time from ``clock`` alone, and can be driven by recorded curves.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeline.config import SearchConfig
from pipeline.search import confirm
from pipeline.search.actions import Action, End, Run, Wait
from pipeline.search.candidates import Candidates, Drawn
from pipeline.search.journal import EARLIER
from pipeline.search.naming import name_of
from pipeline.search.rungs import reached
from pipeline.search.samplers import sampler_of
from pipeline.search.schedulers import CONTINUE, PAUSE, STOP, Decision, Scheduler, scheduler_of
from pipeline.search.space import Space
from pipeline.search.standing import FAILED, LOST, RUNNING, STOPPED, WAITING, Standing, Trial, started
from pipeline.training.monitor import Record

Write = Callable[..., None]  # takes records, as Journal.append


def rules_of(settings: SearchConfig, format: int | None) -> SearchConfig:
    """The ``settings`` with which a search continues; one of an earlier version keeps the rules of that version."""
    if format != EARLIER:
        return settings
    scheduler = "asha_stopping" if settings.scheduler == "asha" else settings.scheduler
    return settings.model_copy(update={"scheduler": scheduler, "algorithm": "random", "try_first": []})


class Engine:
    """A search that continues from ``records``."""

    def __init__(
        self,
        settings: SearchConfig,
        space: Space,
        budget_tokens: int,
        *,
        records: Sequence[Record] = (),
        write: Write = lambda *records: None,
        candidates: Candidates | None = None,
        clock: Callable[[], float] = time.time,
        retries_failed: bool = True,
    ) -> None:
        """Begin a sitting.

        Args:
            budget_tokens: tokens that a trial trains on if nothing stops it.
            records: what ``read_journal`` returns.
            write: called with the records that are made, those of one call together.
            candidates: decides which draws are taken (see there); None: all but repetitions.
            retries_failed: whether trials that failed in an earlier sitting are tried again.
        """
        format = next((record["format"] for record in records if record["kind"] == "search"), None)
        self.settings = rules_of(settings, format)
        self.space = space
        self.budget_tokens = budget_tokens
        self.scheduler: Scheduler = scheduler_of(self.settings, budget_tokens)
        self.candidates = candidates or Candidates()
        self.candidates.begin(self.settings, sampler_of(self.settings, space), is_earlier=format == EARLIER)
        self.write = write
        self.clock = clock
        self.is_short = False  # whether tokens ran short when something to run was last looked for
        self.standing = Standing()
        for record in records:
            self._apply(record)
        if records and records[-1]["kind"] == "report":
            self._decide_again(records[-1])
        self.standing.begin_sitting(clock(), retries_failed=retries_failed)
        self.has_begun = self.is_over = False

    @property
    def milestones(self) -> list[int]:
        """Numbers of tokens at which every trial must validate and report."""
        return self.scheduler.milestones

    def next_action(self, free_slots: int) -> Action:
        """What to begin now, with room for ``free_slots`` more trials.

        Raises:
            UserError: 1,000 draws in a row were refused.
        """
        running = self.standing.in_state(RUNNING)
        ends = self.ends()
        if ends and self.has_begun and not self.is_over:
            self.is_over = True
            self._write({"kind": "over", "reason": ends, "time": self.clock()})
        if not ends:
            if free_slots <= 0:
                return Wait()
            self.is_short = False
            trial = self._cut_off() or self._promoted() or self._drawn()
            if trial is None and not running:
                trial = self._next_generation() or self._promoted(closing=True)
            if trial is None and all(one.confirms for one in running):
                trial = self._confirming()
            if trial is not None:
                self._write({**started(trial), "tokens": trial.tokens})
                return Run(self.standing.trials[trial.name])
            lack = self.candidates.lack(self.standing)
            ends = "search.max_total_tokens has no room for more" if self.is_short else lack
        return Wait() if running else End(ends)

    def report(
        self, name: str, *, tokens: int, loss: float, perplexity: float, seconds: float | None = None, **more: Any
    ) -> Decision:
        """What becomes of the trial called ``name``, which validated after ``tokens`` with ``loss`` nats per token.

        A report that an earlier sitting took is not taken again.
        """
        trial = self.standing.trials[name]
        if trial.state != RUNNING:
            return PAUSE
        if tokens <= trial.tokens:
            return CONTINUE
        rung = reached(self.milestones, tokens)
        rung = rung if rung > trial.tokens else 0
        record = {
            "kind": "report", "trial": name, "tokens": tokens, "loss": loss, "perplexity": perplexity,
            "rung": rung or None, "seconds": seconds, **more,
        }  # fmt: skip
        if not (math.isfinite(loss) and math.isfinite(perplexity)):
            self._write(self._end(trial, LOST, f"the validation perplexity is not finite after {tokens:,} tokens"))
            return STOP
        self._apply(record)
        decision, decided = self._decided(trial, rung)
        self.write(record, *decided)
        return decision

    def _decided(self, trial: Trial, rung: int) -> tuple[Decision, list[Record]]:
        """What becomes of ``trial``, which has just reached ``rung`` (0: none), and the records of this, applied."""
        if trial.confirms is not None or trial.tokens >= self.budget_tokens:
            return CONTINUE, []  # it ends by itself
        needless = self.candidates.needless(trial, self.standing)
        decision = Decision("stop", needless) if needless else self.scheduler.at_rung(trial, rung) if rung else CONTINUE
        records: list[Record] = [dict(record) for record in decision.records]
        if decision.kind == "pause":
            records.append({"kind": "pause", "trial": trial.name, "rung": rung})
        elif decision.kind == "stop":
            records.append(self._end(trial, STOPPED, decision.reason))
        else:
            if rung and self.scheduler.promotes:
                records.append(self._promotion(trial, rung))
            if self.out_of_time() or (rung and not self.affords(0)):  # it continues when there is more
                records.append({"kind": "interrupted", "trial": trial.name})
                decision = PAUSE
        for record in records:
            self._apply(record)
        return decision, records

    def _decide_again(self, report: Record) -> None:
        """Decide on ``report`` as at its time: a power cut may have come between a report and its decision."""
        when, clock = report.get("time", self.clock()), self.clock
        self.clock = lambda: when
        _, decided = self._decided(self.standing.trials[report["trial"]], report["rung"] or 0)
        self.clock = clock
        if decided:
            self.write(*({**record, "time": when} for record in decided))

    def ended(self, name: str, status: str, reason: str = "", **figures: Any) -> None:
        """The trial called ``name`` is ``done`` or ``lost``, or it ``failed`` for a reason that would recur.

        Args:
            figures: perplexity, tokens and seconds that count instead of those of its reports.
        """
        trial = self.standing.trials[name]
        if trial.state in (RUNNING, WAITING):
            self._write(self._end(trial, status, reason, **figures))

    def failed(self, name: str, reason: str, *, max_failures: int, saved_tokens: int = 0) -> None:
        """The process of the trial called ``name`` was lost: it resumes from its checkpoint, ``max_failures`` times.

        ``saved_tokens``: those of that checkpoint; one that is new since the last time begins the count anew.
        """
        if (trial := self.standing.trials[name]).state != RUNNING:
            return
        if trial.failures_before(saved_tokens) >= max_failures:
            self.ended(name, FAILED, reason)
        else:
            known = {"tokens": trial.tokens, "saved": saved_tokens, "reason": reason}
            self._write({"kind": "failure", "trial": name, **known})

    def interrupted(self, name: str) -> None:
        """The trial called ``name`` saved and left, as the search was asked to stop: it continues next time."""
        trial = self.standing.trials[name]
        if trial.state == RUNNING:
            self._write({"kind": "interrupted", "trial": name})

    def ends(self) -> str:
        """Why nothing more is begun, although there may be work left; empty if more may begin."""
        return "search.max_hours is used up" if self.out_of_time() else ""

    @property
    def seconds(self) -> float:
        """Time that the search has taken, over all its sittings."""
        began = self.standing.sitting_began
        return self.standing.seconds_before + (0.0 if began is None else max(0.0, self.clock() - began))

    def out_of_time(self) -> bool:
        hours = self.settings.max_hours
        return hours is not None and self.seconds >= hours * 3600

    def _cut_off(self) -> Trial | None:
        """The earliest drawn trial that was cut off, or is promoted and waits for room; those that are needless end."""
        for trial in self.standing.in_state(WAITING):
            if needless := self.candidates.needless(trial, self.standing):
                self._write(self._end(trial, STOPPED, needless))
        waiting = [trial for trial in self.standing.in_state(WAITING) if trial.confirms is None]
        first = min(waiting, key=lambda trial: trial.number, default=None)
        return first if first is not None and self.fits(self._leg(first)) else None

    def _promoted(self, *, closing: bool = False) -> Trial | None:
        trial = None if self.is_short else self.scheduler.promotion(closing=closing)
        if trial is None or not self.fits(self._leg(trial)):
            return None
        self._write(self._promotion(trial, trial.paused_at or 0))
        return trial

    def _promotion(self, trial: Trial, rung: int) -> Record:
        until = self.scheduler.next_milestone(max(trial.tokens, rung))
        return {"kind": "promote", "trial": trial.name, "rung": rung, "until": until}

    def _drawn(self) -> Trial | None:
        """A new trial, if there is to be one."""
        drawn: Drawn | None = None if self.is_short else self.candidates.draw(self.standing)
        if drawn is None or not self.fits(self.scheduler.next_milestone(0)):
            return None
        name = name_of(drawn.number, drawn.settings)
        return Trial(name, drawn.number, drawn.settings, origin=drawn.origin, num_refused=drawn.num_refused)

    def _next_generation(self) -> Trial | None:
        """The first trial that a population's next generation lets continue, if there is one."""
        if self.is_short:  # trials that wait for more tokens would not be in it
            return None
        record = self.scheduler.generation(self.standing, self.space, self.candidates.why_not)
        if record is None:
            return None
        self._write(record)
        return self._cut_off()

    def _confirming(self) -> Trial | None:
        """The next trial that trains one of the best with another seed, if there is to be one."""
        trial = confirm.next_trial(self.settings, self.standing)
        if trial is not None:
            self.is_short = not self.affords(self._leg(trial), reserved=0)
        return None if self.is_short else trial

    def _leg(self, trial: Trial) -> int:
        """Tokens from where ``trial`` is to where it is compared next, or ends."""
        next_one = self.budget_tokens if trial.confirms else self.scheduler.next_milestone(trial.tokens)
        return max(0, next_one - trial.tokens)

    def fits(self, tokens: int) -> bool:
        """As ``affords``, but remember what does not fit, so that nothing smaller takes its place."""
        self.is_short = self.is_short or not self.affords(tokens)
        return not self.is_short

    def affords(self, tokens: int, *, reserved: int | None = None) -> bool:
        """Whether ``search.max_total_tokens`` has room for ``tokens`` more than what runs and what is reserved."""
        most = self.settings.max_total_tokens
        if most is None:
            return True
        if reserved is None:
            reserved = confirm.reserved_tokens(self.settings, self.standing, self.budget_tokens)
        running = sum(self._leg(trial) for trial in self.standing.in_state(RUNNING))
        return self.standing.num_tokens + running + tokens + reserved <= most

    def _end(self, trial: Trial, status: str, reason: str, **figures: Any) -> Record:
        known = {
            "perplexity": trial.best_perplexity,
            "tokens": trial.tokens,
            "seconds": next((r["seconds"] for r in reversed(trial.reports) if r.get("seconds") is not None), 0.0),
        }
        return {"kind": "end", "trial": trial.name, "status": status, "reason": reason, **known, **figures}

    def _write(self, *records: Mapping[str, Any]) -> None:
        if not self.has_begun:
            self.has_begun = True
            self._write({"kind": "sitting", "time": self.clock()})
        self.write(*records)
        for record in records:
            self._apply(record)

    def _apply(self, record: Mapping[str, Any]) -> None:
        trial = self.standing.apply(record)
        if trial is not None:
            self.scheduler.apply(record, trial)

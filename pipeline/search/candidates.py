"""From draws to trials: what is tried first, what is refused and drawn again, and when there is nothing left to draw.

A draw is refused if the schema or the corpus does not allow its settings together, if its model has more than
``search.max_parameters``, or if it repeats a trial: trials are exact, so the same settings give the same figure.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from pipeline.config import SearchConfig
from pipeline.errors import UserError
from pipeline.search.samplers import Sampler
from pipeline.search.standing import Standing, Trial

MOST_REFUSED = 1_000  # draws in a row
DEFAULT_TRIALS = 8
REPEATED = "was tried already"
DRAWN, TRIED_FIRST = "drawn", "tried first"


@dataclass(frozen=True)
class Drawn:
    """The settings of a new trial, and how many draws before them were refused."""

    number: int
    settings: dict[str, Any]
    origin: str
    num_refused: int = 0


@dataclass
class Seen:
    """What is known of earlier trials: their numbers, their settings (see ``as_key``), and the draws made for them."""

    numbers: set[int] = field(default_factory=set)
    settings: set[str] = field(default_factory=set)
    num_draws: int = 0


class Candidates:
    """Chooses the settings of the next trial of a search.

    Args of the constructor:
        why_not: settings → why no trial can have them; empty if one can.
        first: settings that are tried before any is drawn.
    """

    def __init__(
        self, why_not: Callable[[Mapping[str, Any]], str] = lambda settings: "", first: Sequence[dict[str, Any]] = ()
    ) -> None:
        self.why_not = why_not
        self.first = list(first)
        self.is_exhausted = False
        self._standing: Standing | None = None
        self._seen = Seen()

    def begin(self, settings: SearchConfig, sampler: Sampler, *, is_earlier: bool) -> None:
        """Draw with ``sampler``; ``is_earlier``: as earlier versions did, one draw for each number, never refused."""
        self.settings = settings
        self.sampler = sampler
        self.is_earlier = is_earlier

    @property
    def most(self) -> float:
        """How many trials there may be, without those that confirm others."""
        settings = self.settings
        if settings.num_trials is not None:
            return settings.num_trials
        is_bounded = settings.algorithm == "grid" or settings.max_total_tokens or settings.max_hours
        return float("inf") if is_bounded else DEFAULT_TRIALS

    def needless(self, trial: Trial, standing: Standing) -> str:
        """Why a trial that was begun need not go to its end; empty if it should."""
        return ""

    def lack(self, standing: Standing) -> str:
        """Why there are fewer trials than ``search.num_trials``; empty if there are as many, or can be."""
        number = len(standing.drawn)
        is_less = self.is_exhausted and number < (self.settings.num_trials or 0)
        return f"search.space has no settings left to try after {number:,} trials" if is_less else ""

    def draw(self, standing: Standing) -> Drawn | None:
        """The next trial; None if there is to be none.

        Raises:
            UserError: 1,000 draws in a row were refused; it gives the reason for the last.
        """
        drawn = standing.drawn
        if self.is_exhausted or len(drawn) >= self.most:
            return None
        seen = self._look_at(standing)
        if self.is_earlier:
            number = next(number for number in count(1) if number not in seen.numbers)
            draws = self.sampler.draws(standing, number=number, num_before=number - 1)
            return Drawn(number, next(draws), DRAWN)
        number = len(drawn) + 1
        for settings in self.first:
            if as_key(settings) not in seen.settings:
                return Drawn(number, settings, TRIED_FIRST)
        return self._drawn(standing, number, seen.num_draws, seen.settings)

    def _look_at(self, standing: Standing) -> Seen:
        """What is known of the trials so far; only those since the last call are looked at."""
        if self._standing is not standing:
            self._standing, self._seen = standing, Seen()
        for trial in standing.drawn[len(self._seen.numbers) :]:
            self._seen.numbers.add(trial.number)
            self._seen.settings.add(as_key(trial.settings))
            self._seen.num_draws += 1 + trial.num_refused if trial.origin == DRAWN else 0
        return self._seen

    def _drawn(self, standing: Standing, number: int, num_before: int, tried: set[str]) -> Drawn | None:
        reason = ""
        draws = self.sampler.draws(standing, number=number, num_before=num_before)
        for num_refused, settings in enumerate(draws):
            is_repeated = as_key(settings) in tried
            why_not = REPEATED if is_repeated else self.why_not(settings)
            if not why_not:
                return Drawn(number, settings, DRAWN, num_refused)
            reason = reason if is_repeated else why_not
            if num_refused + 1 >= MOST_REFUSED:
                if reason:
                    raise UserError(
                        f"search.space: {MOST_REFUSED:,} draws in a row were refused, the last because {reason}"
                    )
                break  # a small space, all of which was tried
        self.is_exhausted = True
        return None


def as_key(settings: Mapping[str, Any]) -> str:
    """The settings as text, the same for equal settings: 1.0 is 1."""
    plain = {
        path: int(value) if isinstance(value, float) and value.is_integer() else value
        for path, value in settings.items()
    }
    return json.dumps(plain, sort_keys=True)

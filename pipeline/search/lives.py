"""The history of a trial's model: the settings it began with, their changes, and whose checkpoints it took.

Only population-based training changes a trial's settings and hands checkpoints over (see ``schedulers.pbt``). A life
belongs to a model, not to a place in the population: a trial that takes another's checkpoint takes over its past.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.config import Config
from pipeline.search.corpora import of_trial
from pipeline.search.standing import GENERATION, Trial
from pipeline.training.monitor import Record


@dataclass(frozen=True)
class Life:
    """The history of a model; a run with these settings and ``train.changes`` goes through it from the beginning."""

    settings: Mapping[str, Any]  # by dotted path, at the beginning
    changes: Sequence[Mapping[str, Any]] = ()  # as train.changes
    taken: Sequence[Mapping[str, Any]] = ()  # {from: trial, tokens: N}, the earliest first

    @classmethod
    def of(cls, trial: Trial) -> Life:
        """The life of ``trial`` so far."""
        return cls(**trial.details["life"]) if "life" in trial.details else cls(trial.settings)

    @property
    def overrides(self) -> dict[str, Any]:
        """By dotted path, the settings of a run that goes through it."""
        return {**self.settings, **({"train.changes": list(self.changes)} if self.changes else {})}

    @property
    def now(self) -> dict[str, Any]:
        """The settings at its end."""
        settings = dict(self.settings)
        for change in self.changes:
            settings |= change["settings"]
        return settings

    @property
    def ancestry(self) -> str:
        """``003 at 100,000; 001 at 200,000``: whose checkpoints it took after how many tokens; empty: nobody's."""
        return "; ".join(f"{step['from'].partition('-')[0]} at {step['tokens']:,}" for step in self.taken)

    def taken_over(self, *, tokens: int, donor: str, settings: Mapping[str, Any]) -> Life:
        """The life of a trial that takes the checkpoint of ``donor``, whose life this is, and then has ``settings``."""
        change = {"tokens": tokens, "settings": dict(settings)}
        return Life(self.settings, [*self.changes, change], [*self.taken, {"from": donor, "tokens": tokens}])

    def as_details(self) -> dict[str, Any]:
        """This life as ``Trial.details`` holds it."""
        return {"life": asdict(self)}


def config_of(config: Config, trial: Trial, folder: Path) -> Config:
    """The whole configuration of the run of ``trial`` in ``folder``; ``config``: that before its settings."""
    values = {**Life.of(trial).overrides, "run.directory": str(folder)}
    if trial.seed_offset:
        values["train.seed"] = (values.get("train.seed", config.train.seed) + trial.seed_offset) % 2**32
    return of_trial(config, values)


def exploits_of(records: Iterable[Record]) -> list[Mapping[str, Any]]:
    """Who took what from whom, each with ``trial``, ``donor``, ``tokens``, the new ``settings``, and both losses."""
    return [exploit for record in records if record["kind"] == GENERATION for exploit in record["exploits"]]

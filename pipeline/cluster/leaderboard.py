"""What a search comes to: ``leaderboard.csv``, ``best.yaml``, and each trial's figures for TensorBoard's HPARAMS."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import config as configuration
from pipeline.cluster.journal import FAILED, LOST, Standing
from pipeline.cluster.trial import TRIALS
from pipeline.config import Config
from pipeline.errors import UserError
from pipeline.files import write_file
from pipeline.training.directory import RunDirectory
from pipeline.training.monitor import write_hparams

LEADERBOARD, BEST = "leaderboard.csv", "best.yaml"


@dataclass(frozen=True)
class Row:
    """One trial on the leaderboard: its best perplexity (None: it came to none), and how far it was trained."""

    trial: str
    settings: dict[str, Any]
    perplexity: float | None
    tokens: int
    seconds: float
    status: str
    reason: str

    @property
    def is_whole(self) -> bool:
        """Whether it can be the best: its settings bring a run to its end."""
        return self.perplexity is not None and self.status not in (LOST, FAILED)


def leaderboard(standing: Standing) -> list[Row]:
    """A row for each trial that has ended, the lowest perplexity first, lost and failed ones last.

    Raises:
        UserError: no trial has a figure to be the best by, with the reason of the first.
    """
    names = ("perplexity", "tokens", "seconds", "status", "reason")
    rows = [
        Row(trial.name, trial.settings, **{name: trial.end[name] for name in names})
        for trial in standing.trials.values()
        if trial.end is not None
    ]
    rows.sort(key=lambda row: (not row.is_whole, row.perplexity is None, row.perplexity or 0.0))
    if not rows or not rows[0].is_whole:
        reasons = [f"{row.trial} {row.status} after {row.tokens:,} tokens, {row.reason}" for row in rows[:1]]
        raise UserError("; ".join([f"search: none of {len(rows)} trials ended well", *reasons]))
    return rows


def save(directory: Path, rows: Sequence[Row], config: Config, *, sample_tokens: int) -> None:
    """Write what the ``rows`` of a finished search say.

    Args:
        config: of a trial before its sample.
        sample_tokens: ``run.sample_tokens`` of the best, which trials go without.

    Raises:
        UnwritableError: a file that could not be written; the former one is as it was.
    """
    write_file(directory / LEADERBOARD, as_csv(rows))
    own = {"run.directory": str(directory / "best"), "run.sample_tokens": sample_tokens}
    best = configuration.with_values(config, {**rows[0].settings, **own})
    write_file(directory / BEST, configuration.to_yaml(best, without=["search"]))
    for row in rows:
        if row.perplexity is not None:
            write_hparams(RunDirectory(directory / TRIALS / row.trial), row.settings, perplexity=row.perplexity)


def as_csv(rows: Sequence[Row]) -> str:
    paths = list(rows[0].settings)
    stream = io.StringIO()
    table = csv.writer(stream)
    table.writerow(["rank", "perplexity", *paths, "tokens", "seconds", "status", "trial", "reason"])
    for rank, row in enumerate(rows, start=1):
        settings = [row.settings[path] for path in paths]
        table.writerow([rank, row.perplexity, *settings, row.tokens, row.seconds, row.status, row.trial, row.reason])
    return stream.getvalue()

"""The results of a search: ``leaderboard.csv`` and ``best.yaml``."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import config as configuration
from pipeline.config import Config
from pipeline.errors import UserError
from pipeline.files import write_file
from pipeline.search.confirm import Confirmed, confirmed
from pipeline.search.corpora import has_other_tokens, of_trial
from pipeline.search.lives import Life
from pipeline.search.standing import FAILED, LOST, PAUSED, Standing, Trial

LEADERBOARD, BEST = "leaderboard.csv", "best.yaml"
WHERE_VALIDATED = "train.evaluate_at_tokens"


@dataclass(frozen=True)
class Row:
    """One trial on the leaderboard: its best perplexity (None: it has none), and how far it was trained.

    ``status``: done, stopped, paused (it may still be promoted), waiting (it continues next), running, lost or failed.
    """

    trial: str
    settings: dict[str, Any]
    perplexity: float | None
    tokens: int
    seconds: float
    status: str
    reason: str
    confirmed: Confirmed | None = None  # the figures of its settings with other seeds
    life: Life | None = None  # where its settings changed on the way

    @property
    def is_whole(self) -> bool:
        """Whether it can be the best: its settings bring a run to its end."""
        return self.perplexity is not None and self.status not in (LOST, FAILED)


def row_of(trial: Trial, confirmed: Confirmed | None = None) -> Row:
    """What the leaderboard says of ``trial``."""
    seconds = next((report["seconds"] for report in reversed(trial.reports) if report.get("seconds") is not None), 0.0)
    if (end := trial.end) is None:
        reason = f"paused at {trial.paused_at:,} tokens" if trial.status == PAUSED and trial.paused_at else ""
        end = {"perplexity": trial.best_perplexity, "tokens": trial.tokens, "seconds": seconds, "reason": reason}
    figures = {name: end[name] for name in ("perplexity", "tokens", "seconds", "reason")}
    life = Life.of(trial)
    return Row(trial.name, life.now, status=trial.status, confirmed=confirmed, life=life, **figures)


def rows_of(standing: Standing) -> list[Row]:
    """A row for each trial but those that only confirm others: the best first, lost and failed ones last.

    The best has the lowest perplexity; if some were trained with other seeds, it has the lowest mean over these, and
    settings with which one of these runs was lost come after the others.
    """
    found = confirmed(standing)
    rows = [row_of(trial, found.get(trial.name)) for trial in standing.drawn]
    return sorted(rows, key=place)


def place(row: Row) -> tuple[bool, bool, bool, bool, float]:
    """What rows are sorted by."""
    figure = row.confirmed.perplexity if row.confirmed is not None else row.perplexity
    is_lost = row.confirmed is not None and row.confirmed.num_lost > 0
    return not row.is_whole, row.confirmed is None, is_lost, figure is None, figure or 0.0


def leaderboard(standing: Standing) -> list[Row]:
    """``rows_of`` a search that has ended.

    Raises:
        UserError: no trial has a figure by which it could be the best; it gives the reason of the first.
    """
    rows = rows_of(standing)
    if not rows or not rows[0].is_whole:
        reasons = [f"{row.trial} {row.status} after {row.tokens:,} tokens, {row.reason}" for row in rows[:1]]
        raise UserError("; ".join([f"search: none of {len(rows)} trials ended well", *reasons]))
    return rows


def save(
    directory: Path, rows: Sequence[Row], config: Config, *, sample_tokens: int, pins: Mapping[str, Any] | None = None
) -> None:
    """Write what the ``rows`` of a finished search say.

    Args:
        config: that of a trial before its own settings are applied.
        sample_tokens: ``run.sample_tokens`` of the best; trials write no samples.
        pins: further settings of the best by dotted path, with which its run repeats the trial, bit for bit.

    Raises:
        UnwritableError: a file could not be written; the former one is unchanged.
    """
    write_file(directory / LEADERBOARD, as_csv(rows))
    own: dict[str, Any] = {"run.directory": str(directory / "best"), "run.sample_tokens": sample_tokens, **(pins or {})}
    settings = rows[0].life.overrides if rows[0].life is not None else rows[0].settings
    trial = of_trial(config, settings)
    if WHERE_VALIDATED in own:  # in addition to where it validated by its own settings
        own[WHERE_VALIDATED] = sorted({*trial.train.evaluate_at_tokens, *own[WHERE_VALIDATED]})
    best = configuration.with_values(trial, own)
    write_file(directory / BEST, configuration.to_yaml(best, without=["search", "compare"]))


def as_csv(rows: Sequence[Row]) -> str:
    """The rows as a table; a setting that a trial does not have is left empty."""
    paths = list(dict.fromkeys(path for row in rows for path in row.settings))
    means = ["mean", "mean_low", "mean_high", "seeds"] if any(row.confirmed for row in rows) else []
    if any(row.confirmed.num_lost for row in rows if row.confirmed):
        means.append("seeds_lost")
    taken = ["taken"] if any(row.life is not None and row.life.taken for row in rows) else []
    stream = io.StringIO()
    table = csv.writer(stream)
    figure = "perplexity_per_byte" if has_other_tokens(paths) else "perplexity"
    table.writerow(["rank", figure, *means, *paths, "tokens", "seconds", "status", "trial", "reason", *taken])
    for rank, row in enumerate(rows, start=1):
        settings = [row.settings.get(path, "") for path in paths]
        over_seeds: list[Any] = [""] * len(means)
        if (c := row.confirmed) is not None:
            mean = c.perplexity if c.num_seeds else ""
            over_seeds = [mean, c.low, c.high, c.num_seeds, c.num_lost][: len(means)]
        figures = [row.tokens, row.seconds, row.status, row.trial, row.reason]
        ancestry = [row.life.ancestry if row.life is not None else ""] if taken else []
        table.writerow([rank, row.perplexity, *over_seeds, *settings, *figures, *ancestry])
    return stream.getvalue()

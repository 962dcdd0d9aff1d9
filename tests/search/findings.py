"""A search that has ended, built from its records, for tests of what is reported about it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline import config as configuration
from pipeline.config import Config
from pipeline.search.report import Findings
from pipeline.search.space import check_space
from pipeline.search.standing import Standing

RUNGS, BUDGET = [100, 300], 900


def searched(space: dict[str, Any], **changes: Any) -> Config:
    return configuration.with_values(configuration.load(), {"search.space": space, **changes})


def records_of(trials: Sequence[tuple[Mapping[str, Any], Sequence[float]]]) -> list[dict[str, Any]]:
    """The journal of trials that report these losses at the rungs and the budget, or pause where their losses end."""
    records: list[dict[str, Any]] = [{"kind": "search", "format": 2}, {"kind": "sitting", "time": 1.0}]
    for number, (settings, losses) in enumerate(trials, start=1):
        name = f"{number:03d}"
        records.append({"kind": "start", "trial": name, "number": number, "settings": dict(settings), "tokens": 0,
                        "time": 10.0 * number})  # fmt: skip
        for tokens, loss in zip([*RUNGS, BUDGET], losses, strict=False):
            rung = tokens if tokens in RUNGS else None
            records.append({"kind": "report", "trial": name, "tokens": tokens, "loss": loss, "rung": rung,
                            "perplexity": math.exp(loss), "time": 10.0 * number + tokens / 100})  # fmt: skip
        if len(losses) > len(RUNGS):
            records.append({"kind": "end", "trial": name, "status": "done", "reason": "", "tokens": BUDGET,
                            "perplexity": math.exp(min(losses)), "seconds": 9.0})  # fmt: skip
        else:
            records.append({"kind": "pause", "trial": name, "rung": RUNGS[len(losses) - 1]})
    return records


def findings(
    space: dict[str, Any], trials: Sequence[tuple[Mapping[str, Any], Sequence[float]]], **changes: Any
) -> Findings:
    """The findings of such a search."""
    config = searched(space, **changes)
    return Findings(config, check_space(config), RUNGS, BUDGET, Standing.of(records_of(trials)))

"""A search that has no journal yet: the records of one, made from the directories of its trials.

Searches of earlier versions left the record to Ray Tune. A trial that is nowhere said to have ended continues from its
last checkpoint, is compared at its rungs again by the validations in its own record, and so ends as it did before.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

from pipeline import config as configuration
from pipeline import status
from pipeline.config import Config
from pipeline.data.shards import PreparedCorpus
from pipeline.errors import UserError
from pipeline.search.journal import EARLIER
from pipeline.search.leaderboard import LEADERBOARD
from pipeline.search.naming import TRIALS
from pipeline.search.standing import DONE, LOST, STOPPED
from pipeline.search.validations import figures_of
from pipeline.training.manifest import CONFIG
from pipeline.training.selection import newest, survey

NUMBERED = re.compile(r"(?P<number>\d{3,})-|[0-9a-f]+_(?P<counted>\d{5})$")


def records_of_trials(directory: Path, config: Config, corpus: PreparedCorpus) -> list[dict[str, Any]]:
    """Records of the search in ``directory``, from its trials' folders, without trials whose settings are damaged."""
    records: list[dict[str, Any]] = []
    listed = statuses(directory / LEADERBOARD)
    for folder in sorted((directory / TRIALS).glob("*")):
        numbered = NUMBERED.match(folder.name)
        try:
            trial = configuration.load(config_of(folder))
        except UserError:
            continue
        if numbered is None:
            continue
        number = int(numbered["number"]) if numbered["number"] else int(numbered["counted"]) + 1
        settings = {path: configuration.get(trial, path) for path in config.search.space}
        figures = figures_of(folder)
        start = {"kind": "start", "trial": folder.name, "number": number, "settings": settings}
        records.append({**start, "tokens": figures["tokens"]})
        if (how := listed.get(folder.name)) and not survey(folder).damaged:
            how = (
                {"status": STOPPED, "reason": ""}
                if how["status"] == DONE and not reached_its_end(trial, corpus)
                else how
            )
            records.append({"kind": "end", "trial": folder.name, **how, **figures})
    return [{"kind": "search", "format": EARLIER}, *records] if records else []


def config_of(folder: Path) -> Path:
    """The file with a trial's settings: in its newest checkpoint, where it has a checksum, or else in its folder.

    Raises:
        UserError: none of its checkpoints is intact.
    """
    found = newest(folder)
    return (folder if found is None else found[0]) / CONFIG


def reached_its_end(trial: Config, corpus: PreparedCorpus) -> bool:
    """Whether a trial was trained to the end of its budget: earlier leaderboards also called stopped ones "done"."""
    try:
        return bool(status.ended(trial, corpus))
    except UserError:
        return False


def statuses(path: Path) -> dict[str, dict[str, str]]:
    """Trial → status and reason, of trials that a leaderboard lists as ended for good; empty if it cannot be read."""
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            lines = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error):
        return {}
    return {
        str(line.get("trial")): {"status": str(line["status"]), "reason": str(line.get("reason") or "")}
        for line in lines
        if line.get("status") in (DONE, STOPPED, LOST)
    }

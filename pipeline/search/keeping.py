"""Which checkpoints of a search stay on the disk: of the best ``search.keep`` trials, and of all that may continue."""

from __future__ import annotations

import shutil
from pathlib import Path

from pipeline.config import SearchConfig
from pipeline.search import confirm
from pipeline.search.journal import EARLIER
from pipeline.search.leaderboard import rows_of
from pipeline.search.naming import TRIALS
from pipeline.search.standing import DONE, ENDED, LOST, STOPPED, Standing


def superfluous(standing: Standing, settings: SearchConfig) -> list[str]:
    """The trials whose checkpoints are no longer needed; those of a failed one are, as it is tried again."""
    if standing.format == EARLIER:  # earlier versions kept all
        return []
    top, _ = confirm.wanted(settings)
    # any of those that are confirmed may turn out to be the best
    number = max(settings.keep, top) if confirm.is_left(settings, standing) else settings.keep
    kept = {row.trial for row in rows_of(standing)[:number] if row.is_whole}
    ended = [trial for trial in standing.in_state(ENDED) if trial.status in (DONE, STOPPED, LOST)]
    return [trial.name for trial in ended if trial.name not in kept]


class Keeper:
    """Removes what is superfluous, each once."""

    def __init__(self, directory: Path, settings: SearchConfig) -> None:
        self.directory = directory
        self.settings = settings
        self.removed: set[str] = set()

    def clear(self, standing: Standing) -> None:
        """Remove the checkpoints that are of no use now; a disk that refuses keeps them."""
        for name in superfluous(standing, self.settings):
            if name not in self.removed:
                self.removed.add(name)
                shutil.rmtree(self.directory / TRIALS / name / "checkpoints", ignore_errors=True)

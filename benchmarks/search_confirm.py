"""Whether a replay of ``search.py`` is what really happens: one search with real training, and the same one replayed.

    python benchmarks/search_confirm.py --corpus FOLDER --directory DIR      # continues where it stopped

The engine draws a few trials of the grid with ``tpe`` and ``asha``, one at a time, each trained in this process on the
characters of War and Peace. The recorded curves then drive the engine with the same seed. Both must draw, report,
pause, promote and end the same trials in the same order, with losses that agree to the digits of the recording.
"""

from __future__ import annotations

import argparse
import itertools
import math
from pathlib import Path
from typing import Any

from search_grid import BUDGET, CURVES, POINTS, SETTINGS, SPACE, prepared, recorded
from search_in_process import InThisProcess
from search_sides import PATHS

from pipeline import config as configuration
from pipeline.search.actions import Run
from pipeline.search.candidates import Candidates
from pipeline.search.engine import Engine
from pipeline.search.journal import begin_journal, read_journal
from pipeline.search.schedulers import CONTINUE
from pipeline.search.space import check_space
from pipeline.training.directory import RunDirectory

DIGITS = 5  # of a recorded loss


def decided(records: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """What was drawn, reported and decided, in order.

    Token counts are left out: a trial validates after the first update that begins at or past a point, and the
    recording gives the point itself.
    """
    kinds = ("start", "report", "pause", "promote", "end")
    names = ("kind", "trial", "settings", "loss", "rung", "status")
    return [tuple(record.get(name) for name in names) for record in records if record["kind"] in kinds]


def in_earnest(config: configuration.Config, directory: Path) -> list[tuple[Any, ...]]:
    """The search with real training."""
    with RunDirectory(str(directory)).locked() as owned:
        begin_journal(owned.path, read_journal(owned.path))
        search = InThisProcess(config, owned, budget_tokens=BUDGET)
        while search.step():
            print(f"{search.engine.standing.num_tokens:,} tokens", flush=True)
        return decided(read_journal(owned.path))


def replayed(config: configuration.Config, curves: dict[tuple[Any, ...], list[float]]) -> list[tuple[Any, ...]]:
    """The same search over the recorded curves."""
    records: list[dict[str, Any]] = []
    engine = Engine(
        config.search, check_space(config), BUDGET, candidates=Candidates(), write=lambda *new: records.extend(new)
    )
    while isinstance(action := engine.next_action(1), Run):
        trial = action.trial
        losses = curves[tuple(trial.settings[path] for path in PATHS)]
        for tokens, loss in zip(POINTS, losses, strict=True):
            if tokens <= trial.tokens:
                continue
            if engine.report(trial.name, tokens=tokens, loss=loss, perplexity=math.exp(loss)) != CONTINUE:
                break
        else:
            engine.ended(trial.name, "done")
    return decided(records)


def differences(trained: list[tuple[Any, ...]], replay: list[tuple[Any, ...]]) -> list[str]:
    """Each place where the two differ, with losses rounded as in the recording."""

    def rounded(event: tuple[Any, ...] | None) -> tuple[Any, ...]:
        values = event or ()
        return tuple(round(value, DIGITS) if isinstance(value, float) else value for value in values)

    pairs = itertools.zip_longest(trained, replay)
    return [f"{one} / {other}" for one, other in pairs if rounded(one) != rounded(other)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", required=True, type=Path, metavar="FOLDER", help="with train.txt and valid.txt")
    parser.add_argument("--directory", required=True, type=Path, metavar="DIR")
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    arguments.directory.mkdir(parents=True, exist_ok=True)
    own = {
        "search.space": SPACE, "search.num_trials": arguments.trials, "search.seed": arguments.seed,
        "search.try_first": [], "train.evaluate_at_tokens": POINTS[:-1],
    }  # fmt: skip
    config = prepared(arguments.corpus, arguments.directory, {**SETTINGS, **own})
    trained = in_earnest(config, arguments.directory / "search")
    found = differences(trained, replayed(config, recorded(CURVES)))
    best = min(loss for kind, *_, loss, _, _ in trained if kind == "report")
    print(f"{len(trained)} events of {arguments.trials} trials, the best loss {best:.5f}")
    print(f"{len(found)} differ from the replay", *found, sep="\n")


if __name__ == "__main__":
    main()

"""Score the runs of a comparison on Ray, each once. A run that has its score needs no checkpoint any more.

<run.directory>/scores/<split>/<name of the run>.json
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from pipeline import resources
from pipeline.cluster.tasks import Tasks
from pipeline.cluster.train import Plan
from pipeline.compare import scores
from pipeline.compare.plan import Comparison
from pipeline.config import Config
from pipeline.data.shards import open_prepared
from pipeline.errors import UserError
from pipeline.search.journal import JOURNAL
from pipeline.search.naming import TRIALS
from pipeline.search.standing import DONE, Standing, Trial
from pipeline.training import checkpoint
from pipeline.training.directory import RunDirectory
from pipeline.training.selection import folders

SCORES = "scores"
MOST_NAMED = 3  # runs in a message
Say = Callable[[str], None]


def compared_trials(comparison: Comparison, standing: Standing) -> list[Trial]:
    """Those of the compared runs that trained well."""
    runs = [
        comparison.run_of(one, standing, tokens=tokens, seed=seed)
        for one in comparison.sizes
        for tokens in comparison.lengths
        for seed in comparison.compare.seeds
    ]
    return [trial for trial in runs if trial is not None and trial.status == DONE]


def check_scorable(comparison: Comparison, standing: Standing, directory: RunDirectory, *, split: str) -> None:
    """Raise ``UserError`` if a compared run has neither a score nor a checkpoint here, as in a copy of a directory."""
    trials = compared_trials(comparison, standing)
    check_kept(directory, places_of(trials, directory, split), split=split)


def check_kept(directory: RunDirectory, places: Mapping[str, Path], *, split: str) -> None:
    """Raise ``UserError`` as ``check_scorable``; ``places``: where the score of each run is."""
    runs = directory.path / TRIALS
    gone = [name for name, place in places.items() if not place.exists() and not folders(runs / name)]
    if not gone:
        return
    named = ", ".join(gone[:MOST_NAMED]) + (", …" if len(gone) > MOST_NAMED else "")
    number = f"{len(gone)} runs are" if len(gone) > 1 else "a run is"
    raise UserError(
        f"run.directory: {number} done by {directory.path / JOURNAL}, but there is neither a score of the {split} "
        f"split nor a checkpoint of {named}; copy {SCORES}/{split}/ from where it was trained, or {TRIALS}/ if the "
        f"comparison did not end there, as runs are scored when all are done. A run whose lines are taken out of "
        f"{JOURNAL} is trained again"
    )


def places_of(trials: Iterable[Trial], directory: RunDirectory, split: str) -> dict[str, Path]:
    """Where the score of each run is, by its name."""
    return {trial.name: directory.path / SCORES / split / f"{trial.name}.json" for trial in trials}


def score_all(
    comparison: Comparison,
    plan: Plan,
    config: Config,
    directory: RunDirectory,
    standing: Standing,
    *,
    split: str,
    tasks: Tasks,
    say: Say,
) -> dict[str, scores.Scored]:
    """The score of each trained model on the ``split``, by the name of its run; earlier scores are read.

    Finalists that are not compared are scored too: they may be compared one day, on a machine without their runs.

    Raises:
        UserError: as ``check_scorable``, or a score was altered.
    """
    places = places_of(compared_trials(comparison, standing), directory, split)
    check_kept(directory, places, split=split)
    former = [name for name, place in places.items() if not scores.is_current(place)]
    again = [name for name in former if RunDirectory(directory.path / TRIALS / name).checkpoints.exists()]
    num_kept = len(former) - len(again)
    missing = {name: place for name, place in places.items() if name in again or not place.exists()}
    if again:
        say("scores that another version made in another way are made again")
    if num_kept:
        say("scores that another version made in another way are used as they are, as their runs are not here")
    others = places_of(comparison.finalists(standing), directory, split)
    missing |= {name: place for name, place in others.items() if is_left(directory, name, place)}
    if missing:
        say(f"scoring {len(missing)} trained models on the {split} split")
    tasks(score_one, [(directory.path / TRIALS / name, place, config, plan, split) for name, place in missing.items()])
    found = {name: read_score(place) for name, place in places.items()}
    if 0 < num_kept < len(places) and config.data.layout == "documents":  # all that the methods differ in
        say("the loss by position in the context is left out, as these scores have it of other positions")
        found = {name: replace(score, depths=[]) for name, score in found.items()}
    return found


def is_left(directory: RunDirectory, name: str, place: Path) -> bool:
    """Whether a run that need not be scored has no score yet, but an intact checkpoint here."""
    if place.exists():
        return False
    try:
        checkpoint.find(directory.path / TRIALS / name)
    except UserError:
        return False
    return True


def read_score(place: Path) -> scores.Scored:
    """Read a score that was written. Raises ``UserError`` if the file was altered."""
    try:
        return scores.Scored.of_json(json.loads(place.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{place}: is not what a comparison wrote; delete it to have the model scored again") from None


def score_one(folder: Path, place: Path, config: Config, plan: Plan, split: str) -> None:
    """A task: score the run in ``folder``."""
    import torch

    torch.set_num_threads(plan.cpus_per_worker)
    scores.score_run(folder, place, open_prepared(config.data.directory), worker_of(plan), split=split)


def worker_of(plan: Plan) -> resources.Worker:
    """What the task of a ``plan`` has to work with."""
    return resources.Worker(
        resources.resolve_device("cuda" if plan.use_gpu else "cpu"), num_threads=plan.cpus_per_worker
    )

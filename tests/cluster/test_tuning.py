"""How many trials Ray Tune is given to wait at once, and what becomes of them when a search is asked to stop."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.execution.tune_controller import _get_max_pending_trials
from ray.tune.experiment import Trial
from ray.tune.search import Searcher, SearchGenerator

from pipeline.cluster import tuning
from pipeline.cluster.tuning import TUNE_SETTINGS, Conductor, Decides, Draws, Watches
from pipeline.search.engine import Engine
from pipeline.search.journal import Journal, begin_journal, read_journal
from pipeline.search.standing import RUNNING, WAITING
from pipeline.training.directory import RunDirectory
from tests.search.curves import BUDGET, SPACE, settings_of


def conductor_in(folder: Path, *, most_at_once: int = 1, most_waiting: int = 1, max_failures: int = 0) -> Conductor:
    begin_journal(folder, [])
    return Conductor(
        lambda journal: Engine(
            settings_of(scheduler="none"), SPACE, BUDGET, records=read_journal(folder), write=journal.append
        ),
        Journal(RunDirectory(folder)),
        most_at_once=lambda: most_at_once,
        most_waiting=lambda: most_waiting,
        max_failures=max_failures,
    )


def drawn(conductor: Conductor, number: int) -> list[str]:
    """The ids of those of the next ``number`` trials that Tune is given, from 1."""
    first = len(conductor.names) + 1
    return [name for name in map(str, range(first, first + number)) if isinstance(Draws(conductor).suggest(name), dict)]


def test_trials_wait_for_all_nodes_to_come_but_no_more(tmp_path: Path) -> None:
    conductor = conductor_in(tmp_path, most_at_once=5, most_waiting=3)
    watches = Watches(conductor, {"CPU": 1})
    assert drawn(conductor, 9) == ["1", "2", "3"]
    watches.on_trial_start(1, [], SimpleNamespace(trial_id="2"))
    assert drawn(conductor, 9) == ["4"]
    for tune_id in "134":
        watches.on_trial_start(1, [], SimpleNamespace(trial_id=tune_id))
    assert drawn(conductor, 9) == ["5"]  # the cluster has room for no more
    conductor.error("5", "its process could not be started")
    assert drawn(conductor, 9) == ["6"]


def test_one_trial_waits_where_no_nodes_come(tmp_path: Path) -> None:
    conductor = conductor_in(tmp_path, most_at_once=5, most_waiting=1)
    assert drawn(conductor, 9) == ["1"]
    conductor.result("1", {"tokens": 100, "loss": 1.0, "perplexity": 2.7, "seconds": 1.0})
    assert drawn(conductor, 9) == ["2"]


def test_a_lost_trial_that_has_saved_since_continues_as_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conductor, folders = conductor_in(tmp_path, max_failures=1), list[Path]()
    saved = iter((100, 300, 300, 500, 500, 500))

    def figures_of(folder: Path) -> dict[str, Any]:
        folders.append(folder)
        return {"tokens": next(saved)}

    monkeypatch.setattr(tuning, "figures_of", figures_of)
    for number in "123456":
        assert drawn(conductor, 1) == [number]
        conductor.error(number, "its node is gone")
    trials = [conductor.engine.standing.trials[name] for name in conductor.names.values()]
    assert [trial.number for trial in trials] == [1, 1, 1, 2, 2, 3]
    assert [trial.status for trial in trials[2::2]] == ["failed", "failed"]
    assert trials[5].status == "waiting"
    assert folders == [tmp_path / "trials" / trial.name for trial in trials]


def test_tune_itself_would_let_a_single_trial_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = SearchGenerator(Draws(conductor_in(tmp_path, most_at_once=5, most_waiting=3)))
    monkeypatch.delenv("TUNE_MAX_PENDING_TRIALS_PG", raising=False)
    assert _get_max_pending_trials(generator) == 1
    for name, value in TUNE_SETTINGS.items():
        monkeypatch.setenv(name, value)
    assert _get_max_pending_trials(generator) == 1_000_000


def test_trials_that_wait_when_a_search_is_stopped_wait_no_longer(tmp_path: Path) -> None:
    conductor = conductor_in(tmp_path, most_at_once=5, most_waiting=2)
    first, second = drawn(conductor, 2)
    trials: Any = [SimpleNamespace(trial_id=first, status=Trial.RUNNING)]
    trials += [SimpleNamespace(trial_id=second, status=Trial.PENDING)]
    stopped: list[str] = []

    def stop(trial: Any) -> None:
        trial.status = Trial.TERMINATED
        stopped.append(trial.trial_id)

    controller = SimpleNamespace(get_trials=lambda: trials, stop_trial=stop)
    decides = Decides(conductor)
    assert decides.choose_trial_to_run(controller) is trials[1]
    assert stopped == []
    conductor.journal.directory.request_stop()
    assert decides.choose_trial_to_run(controller) is None
    assert stopped == [second]
    standing = conductor.engine.standing
    assert [standing.trials[conductor.names[name]].state for name in (first, second)] == [RUNNING, WAITING]
    assert Draws(conductor).suggest("3") == Searcher.FINISHED

"""Population-based training on Ray equals that without Ray, even if it was stopped; jobs.train replays its best."""

import csv
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs import search as job
from jobs.shared.cli import run_job
from pipeline import config as configuration
from pipeline import launch
from pipeline.cluster.rules import with_budget
from pipeline.cluster.search import settings_of
from pipeline.config import Config
from pipeline.search.journal import begin_journal, read_journal
from pipeline.search.lives import exploits_of
from pipeline.training.directory import RunDirectory
from tests.cluster.interruptions import interrupting
from tests.search.test_exploits import BUDGET, SETTINGS, InThisProcess, search_in
from tests.training.test_resume import assert_bitwise_equal, end_state


@pytest.mark.ray
@pytest.mark.slow
def test_a_population_on_ray_equals_one_without_ray(
    make_config: Callable[..., Config], tmp_path: Path, ray_cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {**SETTINGS, "cluster.backend": "ray", "cluster.cpus_per_worker": 1, "search.max_tokens": BUDGET}
    config = make_config({**values, "run.directory": str(tmp_path / "search")})
    (tmp_path / "mine.yaml").write_text(configuration.to_yaml(config))
    interrupting(monkeypatch, signal.SIGTERM, after=["generation", "start"])
    with pytest.raises(SystemExit) as left:
        run_job(job.main, ["--config", str(tmp_path / "mine.yaml")])
    assert left.value.code == 143
    directory = Path(str(config.run.directory))
    assert not (directory / "best.yaml").exists()
    run_job(job.main, ["--config", str(tmp_path / "mine.yaml")])
    with (directory / "leaderboard.csv").open() as stream:
        table = list(csv.DictReader(stream))
    assert [line["status"] for line in table] == ["done"] * 4

    alone = with_budget(configuration.with_values(config, {"run.directory": str(tmp_path / "alone")}))
    with search_in(alone).locked() as held:
        held.config.write_text(settings_of(alone))
        begin_journal(held.path, [])
        other = InThisProcess(alone, held, budget_tokens=BUDGET)
        while other.step():
            pass
    generations = [
        [record for record in read_journal(path) if record["kind"] == "generation"] for path in (directory, held.path)
    ]
    without_times = [[{**record, "time": 0} for record in each] for each in generations]
    assert without_times[0] == without_times[1]
    for line in table:
        ours, theirs = (
            configuration.with_values(config, {"run.directory": str(path / "trials" / line["trial"])})
            for path in (directory, held.path)
        )
        assert_bitwise_equal(end_state(ours), end_state(theirs))
    # the best trial, replayed with what it took
    best = configuration.load(directory / "best.yaml", ["cluster.backend=local"])
    assert best.train.evaluate_at_tokens == [500, 1000, 1500]
    assert (best.cluster.num_workers, best.cluster.cpus_per_worker, best.cluster.device) == (1, 1, "cpu")
    assert launch.train(best, launch.in_process)["perplexity"] == float(table[0]["perplexity"])
    trial = configuration.with_values(config, {"run.directory": str(directory / "trials" / table[0]["trial"])})
    assert_bitwise_equal(end_state(best), end_state(trial))
    taken = {exploit["trial"] for exploit in exploits_of(read_journal(directory))}
    assert {line["trial"] for line in table if line["taken"]} == taken
    assert RunDirectory(directory / "best").metrics.exists()

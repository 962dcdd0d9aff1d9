"""A search whose files were damaged while it was stopped: refused by name, or it comes to the same numbers."""

import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.cluster.journal import JOURNAL, Standing, begin_journal, read_journal
from pipeline.cluster.leaderboard import leaderboard, save
from pipeline.cluster.recorder import Recorder
from pipeline.cluster.search import check_same_search, settings_of, with_budget
from pipeline.cluster.trial import Runner
from pipeline.config import Config
from pipeline.errors import UserError
from pipeline.training.monitor import read
from tests.cluster.test_trial import RUNGS, OfTune, runner_of
from tests.damage import flipped
from tests.test_damage import NO_EFFECT, REFUSED, SET_ASIDE, files_of, many


def go_on(runner: Runner, config: Config) -> list[tuple[Any, ...]]:
    """Train the trials that have not ended, as a search does, and write its results; what its leaderboard says."""
    directory = runner.directory
    with directory.locked():
        check_same_search(directory, config)
        records = read_journal(directory.path)
        begin_journal(directory.path, records)
        recorder = Recorder(directory, runner.trials, RUNGS, reduction_factor=3)
        ended = {name for name, trial in Standing.of(records).trials.items() if trial.end is not None}
        for name, trial in runner.trials.items():
            if name not in ended:
                tune = OfTune(name)
                recorder.on_trial_start(0, [], tune)
                result = runner.run(trial, lambda figures, tune=tune: recorder.on_trial_result(0, [], tune, figures))
                recorder.on_trial_result(0, [], tune, result)
        rows = leaderboard(Standing.of(read_journal(directory.path)))
        save(directory.path, rows, with_budget(config), sample_tokens=0)
    return [(row.trial, row.perplexity, row.tokens, row.status, *row.settings.items()) for row in rows]


@many(6, 300)
def test_a_search_that_goes_on(make_config: Callable[..., Config], tmp_path: Path, number: int) -> None:
    config = make_config({"train.max_tokens": 1200, "train.checkpoint_every_steps": 4, "model.num_layers": 1})
    runner = runner_of(config, {"optimizer.lr": 0.01}, {"optimizer.lr": 0.02})
    search, copy, source = runner.directory.path, tmp_path / "copy", random.Random(number)
    done, stopped = runner.trials.values()
    with runner.directory.locked():
        runner.directory.config.write_text(settings_of(config))
        begin_journal(search, [])
        recorder = Recorder(runner.directory, runner.trials, RUNGS, reduction_factor=3)
        for trial in (done, stopped):
            recorder.on_trial_start(0, [], OfTune(trial.name))
        recorder.on_trial_result(0, [], OfTune(done.name), runner.run(done, lambda figures: None))
        runner.run(stopped, lambda figures: runner.directory.request_stop())
    shutil.copytree(search, copy)
    expected = go_on(runner, config)
    assert [row[3] for row in expected] == ["done", "done"]
    best = (search / "best.yaml").read_bytes()
    files = [path.relative_to(copy) for path in files_of(copy)]
    files.sort(key=lambda name: name.name != JOURNAL)  # it comes first
    outcomes = Counter[str]()
    for index in range(number):
        shutil.rmtree(search)
        shutil.copytree(copy, search)
        name = files[index * 11 % len(files)]
        data = (copy / name).read_bytes()
        (search / name).write_bytes(flipped(data, source.randrange(8 * len(data))))
        try:
            assert go_on(runner, config) == expected, name
        except UserError as error:
            assert name.name in str(error), name  # noqa: PT017
            outcomes[REFUSED] += 1
            continue
        assert (search / "best.yaml").read_bytes() == best
        told = [r for r in read(search / "trials" / stopped.name / "metrics.jsonl") if r["kind"] == "warning"]
        outcomes[SET_ASIDE if told else NO_EFFECT] += 1
    print(f"\n{number:,} bits of {len(files)} files: {dict(outcomes)}")
    assert outcomes[REFUSED]
    assert outcomes[SET_ASIDE]

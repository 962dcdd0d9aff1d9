"""A search over tiny models, its leaderboard, and what it hands to jobs.train."""

import csv
import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs import search as job
from jobs.cli import run_job
from pipeline import config as configuration
from pipeline import launch
from pipeline.cluster.search import describe, rungs, search
from pipeline.cluster.space import parse_space
from pipeline.config import Config, SearchConfig
from pipeline.training.monitor import read
from pipeline.training.progress import MovingLine

SPACE = {"optimizer.lr": {"loguniform": [1e-3, 1e-1]}, "model.hidden_size": [4, 8]}


@pytest.mark.ray
def test_a_search_ranks_its_trials_and_its_best_trains(
    make_config: Callable[..., Config], tmp_path: Path, ray_cluster: None
) -> None:
    config = make_config(
        {"cluster.backend": "ray", "search.space": SPACE, "search.num_trials": 4, "search.max_tokens": 9000,
         "train.evaluate_every_steps": 1000}
    )  # fmt: skip
    said: list[str] = []
    rows = search(config, say=said.append)
    assert len(rows) == 4
    figures = [row.perplexity for row in rows]
    assert figures == sorted(figures)  # type: ignore[type-var]
    assert len(said) == 4
    directory = Path(str(config.run.directory))
    with (directory / "leaderboard.csv").open() as stream:
        table = list(csv.DictReader(stream))
    assert [float(line["perplexity"]) for line in table] == figures
    assert float(table[0]["optimizer.lr"]) == rows[0].settings["optimizer.lr"]
    # every trial was compared at the first rung, and the best went on to the end of its budget
    for row in rows:
        steps = [r["tokens"] for r in read(directory / "trials" / row.trial / "metrics.jsonl") if r["kind"] == "valid"]
        assert 1000 <= steps[0] < 1000 + 60
    assert max(row.tokens for row in rows) >= 9000
    best = configuration.load(directory / "best.yaml")
    assert best.model.hidden_size == rows[0].settings["model.hidden_size"]
    assert best.run.directory == str(directory / "best")
    local = configuration.with_values(best, {"cluster.backend": "local"})
    assert launch.train(local, launch.in_process)["perplexity"] == pytest.approx(figures[0], rel=1e-5)
    # the same command again has nothing left to do and says the same
    assert search(config) == rows
    with pytest.raises(ValueError, match="holds a search with other settings"):
        search(configuration.with_values(config, {"search.seed": 9}))


@pytest.mark.ray
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_search_says_so_and_goes_on(
    make_config: Callable[..., Config], tmp_path: Path, ray_cluster: None, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], signum: int,
) -> None:  # fmt: skip
    values = {"cluster.backend": "ray", "search.space": {"optimizer.lr": [0.01, 0.02]}, "search.num_trials": 3,
              "search.max_concurrent": 1, "search.scheduler": "none", "search.max_tokens": 3000}  # fmt: skip
    config = make_config(values)
    (tmp_path / "mine.yaml").write_text(configuration.to_yaml(config))
    directory, before = Path(str(config.run.directory)), signal.getsignal(signum)
    say = MovingLine.say

    def say_and_interrupt(line: MovingLine, sentence: str) -> None:
        say(line, sentence)
        if sentence.startswith("trial 1/3"):
            signal.raise_signal(signum)

    monkeypatch.setattr(MovingLine, "say", say_and_interrupt)
    with pytest.raises(SystemExit) as left:
        run_job(job.main, ["--config", str(tmp_path / "mine.yaml")])
    assert left.value.code == 128 + signum
    printed = capsys.readouterr()
    assert printed.err.splitlines()[-3:] == [
        "stopping (again to stop at once)",
        "stopped with 1 of 3 trials done; to continue:",
        f"  python -m jobs.search --config {tmp_path / 'mine.yaml'}",
    ]
    assert "train the best" not in printed.out
    assert not (directory / "best.yaml").exists()
    assert signal.getsignal(signum) == before
    run_job(job.main, ["--config", str(tmp_path / "mine.yaml"), "--json"])
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["trials"] == 3
    with (directory / "leaderboard.csv").open() as stream:
        assert [int(line["tokens"]) >= 3000 for line in csv.DictReader(stream)] == [True] * 3


def test_rungs_are_tokens_below_the_budget() -> None:
    assert rungs(SearchConfig(), 9000) == [1000, 3000]
    assert rungs(SearchConfig(grace_tokens=2000, reduction_factor=2), 9000) == [2000, 4000, 8000]


@pytest.mark.parametrize(
    ("space", "sentence"),
    [
        ({"model.hiden_size": [1, 2]}, "search.space.model.hiden_size: not a setting that can be searched"),
        ({"tokenizer.kind": ["char", "byte"]}, "search.space.tokenizer.kind: not a setting that can be searched"),
        ({"train.bptt": {"loguniform": 3}}, "search.space.train.bptt: must be a list or one of"),
        ({"train.bptt": {"normal": [1, 2]}}, "search.space.train.bptt: must be a list or one of"),
        ({"train.bptt": [0]}, "search.space.train.bptt: train.bptt: input should be greater"),
        ({"train.bptt": []}, "search.space.train.bptt: has no value to choose from"),
        ({"optimizer.lr": {"uniform": ["low", 1]}}, "search.space.optimizer.lr: uniform is between two numbers"),
        ({"optimizer.lr": {"uniform": [1, 0.1]}}, "search.space.optimizer.lr: uniform is from a lower to a higher"),
        ({"optimizer.lr": {"loguniform": [0, 1]}}, "search.space.optimizer.lr: loguniform is between numbers above 0"),
        ({"train.bptt": {"randint": [1.5, 9]}}, "search.space.train.bptt: randint is between whole numbers"),
    ],
)
def test_a_space_that_makes_no_sense(space: dict[str, object], sentence: str) -> None:
    config = configuration.with_values(configuration.load(), {"search.space": space})
    with pytest.raises(ValueError, match=sentence.replace(".", r"\.")):
        parse_space(config)


def test_bounds_as_a_person_writes_them(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "search:\n  space:\n    optimizer.lr: {loguniform: [1e-4, 1e-2]}\n    optimizer.eps: [1e-8, 1e-6]\n"
        "    model.dropout: {uniform: [0, 5e-1]}\n    train.bptt: {randint: [1e1, 1e2]}\n"
    )
    space = parse_space(configuration.load(path))
    assert (space["optimizer.lr"].lower, space["optimizer.lr"].upper) == (1e-4, 1e-2)
    assert space["optimizer.eps"].categories == [1e-8, 1e-6]
    assert (space["model.dropout"].lower, space["model.dropout"].upper) == (0.0, 0.5)
    assert (space["train.bptt"].lower, space["train.bptt"].upper) == (10, 100)


def test_every_value_that_a_trial_may_draw_is_checked() -> None:
    space = {
        "optimizer.name": ["sgd", "adamw", "foo"],
        "model.hidden_size": {"randint": [-5, 20]},
        "model.dropout": {"uniform": [0.1, 1.5]},
        "train.bptt": {"randint": [1, 3]},
    }
    config = configuration.with_values(configuration.load(), {"search.space": space})
    with pytest.raises(ValueError, match=r"search\.space") as refused:
        parse_space(config)
    assert str(refused.value).splitlines() == [
        "search.space.optimizer.name: optimizer.name: input should be 'sgd', 'adam', 'adamw', 'rmsprop' or 'muon', "
        "not 'foo'",
        "search.space.model.hidden_size: model.hidden_size: must be a whole number of at least 1, or a list of them, "
        "not -5",
        "search.space.model.dropout: model.dropout: input should be less than 1, not 1.5",
    ]


def test_values_are_checked_beside_the_others_that_a_trial_may_draw() -> None:
    space = {"model.num_layers": [1, 3], "model.hidden_size": [8, [8, 9, 10]]}
    config = configuration.with_values(configuration.load(), {"search.space": space})  # of 2 layers
    assert set(parse_space(config)) == set(space)
    space["model.hidden_size"] = [8, [8, 9]]
    with pytest.raises(ValueError, match=r"^search.space.model.hidden_size: model.hidden_size: 2 sizes, \[8, 9\], for"):
        parse_space(configuration.with_values(config, {"search.space": space}))


def test_settings_as_a_person_types_them() -> None:
    assert describe({"optimizer.lr": 0.00123456, "model.hidden_size": 128}) == (
        "optimizer.lr=0.00123 model.hidden_size=128"
    )

"""A tiny comparison from end to end, without Ray's processes and with them; interrupted, it ends the same."""

from __future__ import annotations

import json
import math
import shutil
import signal
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from jobs import compare as job
from jobs.shared.cli import run_job
from pipeline import config as configuration
from pipeline.cluster.compare import MAY_DIFFER, ComparisonRules, finish, rules_of
from pipeline.cluster.continued import check_same_search
from pipeline.cluster.search import settings_of
from pipeline.cluster.train import Plan
from pipeline.cluster.trial import Runner
from pipeline.compare.findings import Findings
from pipeline.compare.page import PAGE
from pipeline.compare.scores import Scored
from pipeline.compare.sentences import sentences
from pipeline.config import Config
from pipeline.data.prepare import prepare_in_process
from pipeline.data.training_data import training_data
from pipeline.errors import UserError
from pipeline.files import write_file
from pipeline.search.actions import Run
from pipeline.search.journal import COMPARISON, Journal, begin_journal, kind_of, read_journal
from pipeline.search.schedulers import CONTINUE
from pipeline.training.directory import RunDirectory
from pipeline.training.horizon import tokens_after, total_steps
from pipeline.training.loop import INTERRUPTED, LeaveError
from tests.cluster.interruptions import interrupting

VALUES = {
    "compare.variants": {"lstm": {"model.cell": "lstm"}, "gru": {"model.cell": "gru", "optimizer.lr": 0.02}},
    "compare.seeds": [1, 2], "compare.tokens": 600, "compare.parameters": 40_000, "compare.rounds": 3,
    "compare.window_lengths": [5, 10], "compare.contexts": [4, 20], "model.dropout": 0.1, "train.keep_checkpoints": 9,
}  # fmt: skip


class Here:
    """A comparison whose runs are trained in this process, one after another, as trials of the same engine."""

    def __init__(self, config: Config) -> None:
        self.config, self.directory = config, RunDirectory(str(config.run.directory))
        self.rules: ComparisonRules = rules_of(config, prepare_in_process(config), Plan(1, 1, False))

    def train(self, *, stop_after: int | None = None) -> None:
        """Train the runs that are left; ask for a stop after ``stop_after`` validations."""
        directory, left = self.directory, stop_after
        check_same_search(directory, self.config, what=COMPARISON, may_differ=MAY_DIFFER)
        with directory.locked():
            write_file(directory.config, settings_of(self.config))
            begin_journal(directory.path, read_journal(directory.path), of=COMPARISON)
            engine = self.rules.engine(directory, Journal(directory).append)
            runner = Runner(self.rules.config, directory, self.rules.plan, self.rules.milestones(directory))
            while isinstance(action := engine.next_action(1), Run):
                name = action.trial.name

                def report(figures: dict[str, Any], name: str = name) -> None:
                    nonlocal left
                    told = {key: figures[key] for key in ("tokens", "loss", "perplexity", "seconds")}
                    if engine.report(name, **told) != CONTINUE:
                        raise LeaveError
                    if left is not None and (left := left - 1) <= 0:
                        directory.request_stop()

                ended = runner.run(action.trial, report, after_tokens=action.trial.tokens)
                if ended["ended"] == INTERRUPTED:
                    engine.interrupted(name)
                    return
                engine.ended(name, ended["ended"], ended["reason"])

    def finish(self, *, draws: bool = True, say: Callable[[str], None] = lambda sentence: None) -> Findings:
        """Score and measure the runs; ``draws``: also draw the pictures, which take most of the time."""
        with pytest.MonkeyPatch.context() as patch, self.directory.locked():
            patch.setattr("pipeline.compare.scores.NUM_ROWS", 4)
            patch.setattr("pipeline.compare.scores.LONGEST_CONTEXT", 20)
            patch.setattr("pipeline.compare.speed.ROUND_SECONDS", 0.0)
            if not draws:
                patch.setattr("pipeline.compare.page.pictures_of", lambda found: ({}, "none are drawn"))
            return finish(self.rules, self.config, self.directory, tasks=in_turn, say=say)

    def weights(self) -> dict[str, bytes]:
        """Run and checkpoint → weights."""
        paths = sorted(self.directory.path.glob("trials/*/checkpoints/*/weights.safetensors"))
        return {str(path.relative_to(self.directory.path)): path.read_bytes() for path in paths}


def in_turn(function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
    return [function(*each) for each in arguments]


def losses(found: Findings) -> dict[str, list[float]]:
    return {row.name: row.losses for row in found.main.rows}


def test_a_comparison_interrupted_and_continued_ends_the_same(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    whole = Here(make_config({**VALUES, "run.directory": str(tmp_path / "whole")}))
    whole.train()
    expected = whole.finish(draws=False)
    parts = Here(make_config({**VALUES, "run.directory": str(tmp_path / "parts")}))
    parts.train(stop_after=3)
    assert len(parts.weights()) < len(whole.weights())
    parts.train(stop_after=20)
    parts.train()
    found = parts.finish()
    assert parts.weights() == whole.weights()
    assert len(found.main.rows) == 2
    assert losses(found) == losses(expected)
    assert {row.name: row.curves for row in found.main.rows} == {row.name: row.curves for row in expected.main.rows}
    for heading in ("What was compared", "At equal tokens", "Loss over size and tokens"):
        assert sentences(found)[heading] == sentences(expected)[heading]
    # each run has its own learning rate and seed, and the same number of tokens
    directory = parts.directory.path
    for folder in sorted((directory / "trials").iterdir()):
        trial = configuration.load(folder / "config.yaml")
        assert trial.optimizer.lr == (0.02 if trial.model.cell == "gru" else 0.01)
        assert trial.train.max_tokens == 600
        assert not trial.compare.variants
    assert len({score for row in found.main.rows for score in row.losses}) == 4
    assert kind_of(read_journal(directory)) == COMPARISON
    check_files(directory)
    # the same command again trains, scores and measures nothing
    files = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file() and path.name != "owner"}
    again = Here(parts.config)
    again.train()
    again.finish()
    assert {path: path.read_bytes() for path in files} == files
    # one more seed trains two more runs
    more = Here(configuration.with_values(parts.config, {"compare.seeds": [1, 2, 3]}))
    more.train()
    assert len(list((directory / "trials").iterdir())) == 6
    assert all(len(found) == 3 for found in losses(more.finish(draws=False)).values())
    refuse_others(parts)


def check_files(directory: Path) -> None:
    page = (directory / PAGE).read_text(encoding="utf-8")
    assert page.count("<svg") == 6
    assert "Where a recurrent model wins here" not in page  # because there is no Transformer
    scores = [Scored.of_json(json.loads(path.read_text())) for path in sorted((directory / "scores/valid").iterdir())]
    assert len(scores) == 4
    for score in scores:
        assert sum(score.unit_nats) == pytest.approx(score.nats)
        assert sum(part.nats for part in score.frequencies) == pytest.approx(score.nats)
        assert sum(part.tokens for part in score.frequencies) == score.tokens
    costs = json.loads((directory / "costs.json").read_text())["measured"]
    for cost in costs.values():
        assert cost["training"]["low"] <= cost["training"]["median"] <= cost["training"]["high"]
        assert set(cost["contexts"]) == {"4", "20"}
        assert (
            len({after["state_bytes"] for after in cost["contexts"].values()}) == 1
        )  # a recurrent state does not grow


def refuse_others(here: Here) -> None:
    """Check that the directory is refused for another corpus, for a search, and a run's for a comparison."""
    other = configuration.with_values(here.config, {"corpus.valid_fraction": 0.2})
    with pytest.raises(
        UserError, match=r"^corpus\.valid_fraction: this comparison was started with 0\.1 and cannot continue"
    ):
        check_same_search(here.directory, other, what=COMPARISON, may_differ=MAY_DIFFER)
    with pytest.raises(UserError, match="holds a comparison, not a search"):
        check_same_search(here.directory, here.config)
    run = sorted((here.directory.path / "trials").iterdir())[0]
    with pytest.raises(UserError, match="holds a run, not a comparison"):
        check_same_search(RunDirectory(run), here.config, what=COMPARISON, may_differ=MAY_DIFFER)
    costs = here.directory.path / "costs.json"
    costs.write_text("[]")
    with pytest.raises(UserError, match=r"costs\.json: is not what a comparison wrote"):
        here.finish()


def test_a_run_worse_than_guessing_is_left_out(make_config: Callable[..., Config], tmp_path: Path) -> None:
    """If one seed has a finite loss above that of guessing, its variant keeps only the other seed."""
    here = Here(make_config({**VALUES, "run.directory": str(tmp_path / "run"), "compare.tokens": 200}))
    here.train()
    here.finish(draws=False)
    vocab_size = here.rules.comparison.vocab_size
    assert vocab_size is not None
    place = sorted((here.directory.path / "scores/valid").iterdir())[0]
    score = json.loads(place.read_text())
    place.write_text(json.dumps({**score, "nats": score["tokens"] * math.log(vocab_size * 10)}))
    (row,) = [row for row in here.finish(draws=False).main.rows if row.lost]
    assert (list(row.scores), list(row.lost)) == ([2], [1])
    assert row.lost[1] == f"perplexity {vocab_size * 10:.4g}, above that of guessing among {vocab_size} types"


def test_figures_of_another_version_are_made_again(make_config: Callable[..., Config], tmp_path: Path) -> None:
    """A file without the number of its method is of the first versions, which measured documents differently."""
    here = Here(make_config({**VALUES, "run.directory": str(tmp_path / "run"), "compare.tokens": 200}))
    here.train()
    here.finish(draws=False)
    costs, (scored, *_) = here.directory.path / "costs.json", sorted((here.directory.path / "scores/valid").iterdir())
    for path in (costs, scored):
        values = json.loads(path.read_text())
        assert values.pop("method") == 2
        path.write_text(json.dumps(values))
    told: list[str] = []
    undrawn = f"{here.directory.path / PAGE}: none are drawn"
    here.finish(draws=False, say=told.append)
    assert told[:2] == [
        "scores that another version made in another way are made again",
        "scoring 1 trained models on the valid split",
    ]
    assert told[2] == f"{costs} was measured by another version, in another way: all models are measured again"
    assert all(json.loads(path.read_text())["method"] == 2 for path in (costs, scored))
    told.clear()
    here.finish(draws=False, say=told.append)
    assert told == [undrawn]
    scored.write_text(json.dumps(values))
    shutil.rmtree(here.directory.path / "trials" / scored.stem)  # as on a machine to which only scores were copied
    told.clear()
    here.finish(draws=False, say=told.append)
    assert told == [
        "scores that another version made in another way are used as they are, as their runs are not here", undrawn,
    ]  # fmt: skip


@pytest.mark.ray
@pytest.mark.slow
def test_a_comparison_on_ray_is_interrupted_and_goes_on(
    make_config: Callable[..., Config], tmp_path: Path, ray_cluster: None, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    values = {**VALUES, "cluster.backend": "ray", "run.directory": str(tmp_path / "ray"), "compare.seeds": [1]}
    config = make_config(values)
    (tmp_path / "mine.yaml").write_text(configuration.to_yaml(config))
    interrupting(monkeypatch, signal.SIGINT, after=["end"])
    command = ["--config", str(tmp_path / "mine.yaml"), "search.max_concurrent=1", "--json"]
    with pytest.raises(SystemExit) as left:
        run_job(job.main, command)
    assert left.value.code == 130
    assert not (tmp_path / "ray" / PAGE).exists()
    assert "to continue:\n  python -m jobs.compare --config" in capsys.readouterr().err
    run_job(job.main, command)
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    alone = Here(make_config({**VALUES, "run.directory": str(tmp_path / "alone"), "compare.seeds": [1]}))
    alone.train()
    expected = {row.name: row.confirmed.perplexity for row in alone.finish(draws=False).main.rows}
    assert {row["variant"]: row["perplexity"] for row in result["rows"]} == expected
    assert result["sentences"]["What was compared"][0].startswith("2 variants of 39,480 parameters (from 39,291 to")
    assert (tmp_path / "ray" / PAGE).exists()


def test_every_variant_has_epochs_enough_for_its_tokens(make_config: Callable[..., Config], tmp_path: Path) -> None:
    """A variant, or a draw of the search, that cuts documents off sooner has fewer tokens in an epoch."""
    (tmp_path / "lines.txt").write_text("the cat sat on a mat and saw one dog\n" * 60)
    config = make_config({
        **VALUES, "corpus.train": [str(tmp_path / "lines.txt")], "corpus.document": "line",
        "data.layout": "documents", "train.bptt": 40, "compare.variants": {"whole": {}, "cut": {"train.bptt": 12}},
        "compare.search": {"train.batch_size": [3, 20], "num_trials": 2}, "compare.tokens": 4_000,
    })  # fmt: skip
    corpus = prepare_in_process(config)
    rules = rules_of(config, corpus, Plan(1, 1, False))
    for one, draw in product(rules.comparison.sizes, rules.comparison.draws):
        settings = rules.comparison.compared(one, draw, tokens=4_000, seed=1)
        run = configuration.with_values(rules.config, settings)
        data = training_data(run, corpus, rank=0, world_size=1)
        assert tokens_after(total_steps(run.train, data), data) >= 4_000


def test_bad_input_writes_nothing(
    make_config: Callable[..., Config], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config({**VALUES, "cluster.backend": "ray", "compare.variants": {"lstm": {}}})
    (tmp_path / "mine.yaml").write_text(configuration.to_yaml(config))
    with pytest.raises(SystemExit) as left:
        run_job(job.main, ["--config", str(tmp_path / "mine.yaml")])
    assert left.value.code == 2
    assert capsys.readouterr().err == (
        "error: compare.variants: a comparison needs two variants at least, not 1 (lstm)\n"
    )
    assert not Path(str(config.run.directory)).exists()
    assert not Path(str(config.data.directory)).exists()


def test_a_dry_run_says_the_widths(make_config: Callable[..., Config], tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "mine.yaml").write_text(configuration.to_yaml(make_config({**VALUES, "cluster.backend": "ray"})))
    run_job(job.main, ["--config", str(tmp_path / "mine.yaml"), "--dry-run"])
    printed = capsys.readouterr().out
    assert "\nruns: 4\n" in printed
    assert "\ntokens_of_all_runs: 2,400\n" in printed
    assert "lstm at 39,480: model.hidden_size=" in printed

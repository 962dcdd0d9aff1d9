"""A comparison continued from a copy of its journal and scores alone, as on another machine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.compare import preview
from pipeline import config as configuration
from pipeline.cluster.continued import check_same_corpus
from pipeline.cluster.scoring import check_scorable
from pipeline.config import Config
from pipeline.data.shards import open_prepared
from pipeline.errors import UserError
from pipeline.search.actions import Run
from pipeline.search.journal import COMPARISON, JOURNAL, Journal, begin_journal, read_journal
from pipeline.search.standing import Standing
from tests.compare.test_comparison import VALUES, Here, losses

FINALISTS = {"num_trials": 2, "num_finalists": 2, "max_tokens": 60, "optimizer.lr": {"choice": [0.01, 0.002]}}
VARIANTS = {"lstm": {"model.cell": "lstm"}, "gru": {"model.cell": "gru"}}


def settings_in(folder: Path, text: str, seeds: list[int]) -> dict[str, Any]:
    """The settings of a comparison that has all that it needs in ``folder``."""
    folder.mkdir(exist_ok=True)
    for split in ("train", "valid"):
        (folder / f"{split}.txt").write_text(text)
    return {
        **VALUES, "compare.variants": VARIANTS, "compare.search": FINALISTS, "compare.tokens": 180,
        "compare.seeds": seeds, "corpus.train": [str(folder / "train.txt")],
        "corpus.valid": [str(folder / "valid.txt")], "corpus.valid_fraction": 0.0,
        "data.directory": str(folder / "data"), "run.directory": str(folder / "run"),
    }  # fmt: skip


def begin(config: Config) -> Here:
    """Train all runs, with a journal that says on which corpus."""
    here = Here(config)
    here.train()
    corpus = open_prepared(config.data.directory)
    fingerprints = {"corpus": corpus.fingerprint, "tokens": corpus.tokens_fingerprint}
    begin_journal(here.directory.path, read_journal(here.directory.path), of=COMPARISON, **fingerprints)
    return here


def checked(here: Here) -> None:
    """Check the directory as the command does before it trains."""
    records = read_journal(here.directory.path)
    check_same_corpus(records, open_prepared(here.config.data.directory), what=COMPARISON)
    check_scorable(here.rules.comparison, Standing.of(records), here.directory, split="valid")


def test_a_copy_of_journal_and_scores_continues_with_more_seeds(
    make_config: Callable[..., Config], tiny_text: Path, tmp_path: Path
) -> None:
    """The text may lie elsewhere; scores suffice for runs that are done; runs without both are refused beforehand."""
    text = tiny_text.read_text()
    first = begin(make_config(settings_in(tmp_path / "first", text, [1])))
    first.finish(draws=False)
    # finalists that were overtaken have scores as well, in case they are compared later
    assert len(list((first.directory.path / "scores/valid").iterdir())) == 4
    second = Here(make_config(settings_in(tmp_path / "second", text, [1, 2])))
    second.directory.path.mkdir()
    shutil.copy(first.directory.path / JOURNAL, second.directory.path)
    with pytest.raises(UserError, match=r"^run\.directory: 2 runs are done by \S+, but there is neither a score of "):
        checked(second)
    shutil.copytree(first.directory.path / "scores", second.directory.path / "scores")
    checked(second)
    second.train()
    found = second.finish(draws=False)
    assert len(list((second.directory.path / "trials").iterdir())) == 2
    whole = begin(make_config(settings_in(tmp_path / "whole", text, [1, 2])))
    assert losses(found) == losses(whole.finish(draws=False))
    other = Here(make_config(settings_in(tmp_path / "other", text.swapcase(), [1])))
    other.directory.path.mkdir()
    shutil.copy(first.directory.path / JOURNAL, other.directory.path)
    with pytest.raises(UserError, match=r"^data\.directory: \S+ holds another corpus than the one that the trials"):
        checked(other)


def test_a_dry_run_refuses_runs_that_are_neither_scored_nor_here(
    make_config: Callable[..., Config], tiny_text: Path, tmp_path: Path
) -> None:
    """A journal alone, as if copied: each of its two runs needs a score or a checkpoint."""
    config = make_config({**settings_in(tmp_path / "copy", tiny_text.read_text(), [1]), "compare.search": {}})
    here = Here(config)
    with here.directory.locked():
        begin_journal(here.directory.path, [], of=COMPARISON)
        engine = here.rules.engine(here.directory, Journal(here.directory).append)
        while isinstance(action := engine.next_action(1), Run):
            engine.report(action.trial.name, tokens=180, loss=1.0, perplexity=2.7, seconds=1.0)
            engine.ended(action.trial.name, "done")
    with pytest.raises(UserError, match=r"^run\.directory: 2 runs are done by \S+, but there is neither a score of "):
        preview(config)
    done = [record["trial"] for record in read_journal(here.directory.path) if record["kind"] == "end"]
    (here.directory.path / "scores/valid").mkdir(parents=True)
    (here.directory.path / f"scores/valid/{done[0]}.json").touch()
    with pytest.raises(UserError, match=r"^run\.directory: a run is done by \S+, but there is neither a score of "):
        preview(config)
    (here.directory.path / "trials" / done[1] / "checkpoints/step-00000001").mkdir(parents=True)
    assert preview(config)["runs"] == 2


def test_a_run_whose_lines_were_taken_out_of_the_journal_is_trained_again(
    make_config: Callable[..., Config], tiny_text: Path, tmp_path: Path
) -> None:
    """It gets a number of its own: names may be cut before the setting in which two runs differ."""
    values = settings_in(tmp_path / "run", tiny_text.read_text(), [1])
    here = begin(make_config(values))
    journal = here.directory.path / JOURNAL
    done = [record["trial"] for record in read_journal(here.directory.path) if record["kind"] == "end"]
    lines = [line for line in journal.read_text().splitlines() if f'"{done[-2]}"' not in line]
    journal.write_text("\n".join(lines) + "\n")
    shutil.rmtree(here.directory.path / "trials" / done[-2])
    here.train()
    number = max(record["number"] for record in read_journal(here.directory.path) if record["kind"] == "start")
    assert number == len(done) + 1
    assert len(list((here.directory.path / "trials").iterdir())) == len(done)
    assert all(len(found) == 1 for found in losses(here.finish(draws=False)).values())


def test_scores_of_documents_made_in_two_ways_are_not_mixed(make_config: Callable[..., Config], tmp_path: Path) -> None:
    """Those of the first versions, copied without their runs, have the loss at positions beyond a document's end."""
    text = "the cat sat on a mat\n" * 40
    layout = {"corpus.document": "line", "data.layout": "documents", "compare.search": {}}
    config = make_config({**settings_in(tmp_path / "first", text, [1]), **layout})
    first = Here(config)
    first.train()
    first.finish(draws=False)
    for place in (first.directory.path / "scores/valid").iterdir():
        values = json.loads(place.read_text())
        assert values.pop("method") == 2
        values["depths"] += [{"first": 100, "last": 200, "nats": 900.0, "tokens": 300}]
        place.write_text(json.dumps(values))
    shutil.rmtree(first.directory.path / "trials")
    told: list[str] = []
    both = Here(configuration.with_values(config, {"compare.seeds": [1, 2]}))
    both.train()
    found = both.finish(say=told.append)
    assert "the loss by position in the context is left out, as these scores have it of other positions" in told
    assert [row.parts("depths") for row in found.main.rows] == [[], []]
    assert all(row.parts("frequencies") for row in found.main.rows)

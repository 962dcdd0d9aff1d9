"""The columns that ``jobs.evaluate --surprisal`` writes, and what it refuses."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from jobs import evaluate, ngram
from jobs.shared.cli import run_job
from pipeline import launch
from pipeline.config import Config

STIMULI = "the dog sat by the river\nthe cat saw\na mat by the zebra\n"
BASE = ["level", "text", "document", "position", "nats", "unknown"]


@pytest.fixture
def folder(make_config: Callable[..., Config], tmp_path: Path) -> Path:
    """Runs of one model of words and of two of characters, and stimuli."""
    changes: dict[str, dict[str, Any]] = {
        "words": {
            "tokenizer.kind": "word",
            "tokenizer.eos": "line",
            "corpus.valid_fraction": 0.2,
            "data.directory": str(tmp_path / "words-data"),
        },
        "one": {},
        "two": {"train.seed": 2},
    }
    for name, values in changes.items():
        config = make_config({"train.max_steps": 3, "run.directory": str(tmp_path / name), **values})
        launch.train(config, launch.in_process)
    (tmp_path / "stimuli.txt").write_text(STIMULI)
    return tmp_path


def table(folder: Path, capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[list[dict[str, Any]], str]:
    """The rows of the table that a command writes, and what it prints."""
    path = folder / "rows.parquet"
    text = ["--text", str(folder / "stimuli.txt"), "--by-line", "--surprisal", str(path)]
    run_job(evaluate.main, [*text, *argv, "--json"])
    *printed, line = capsys.readouterr().out.splitlines()
    rows = pq.read_table(path)
    assert json.loads(line)["columns"] == rows.column_names
    return [row for row in rows.to_pylist() if row["level"] == "word"], "\n".join(printed)


def test_a_table_has_the_columns_that_are_asked_for(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ["--run", str(folder / "words")]
    rows, _ = table(folder, capsys, *run)
    assert list(rows[0]) == [*BASE, "entropy_nats", "rank", "nats_lag1", "nats_lag2", "length"]
    assert [row["nats_lag1"] for row in rows[:3]] == [None, rows[0]["nats"], rows[1]["nats"]]
    assert [row["length"] for row in rows[:7]] == [3, 3, 3, 2, 3, 5, None]
    rows, _ = table(folder, capsys, *run, "--columns", "rank", "rank")
    assert list(rows[0]) == [*BASE, "rank"]
    rows, _ = table(
        folder, capsys, *run, "--columns", "frequency", "word-entropy", "--ngram", "2", "--adapt", "sentence"
    )
    assert list(rows[0]) == [
        *BASE, "word_entropy_nats", "word_entropy_missing_nats", "word_entropy_mass", "entropy_reduction_nats",
        "nats_before_learning", "nats_after_learning", "training_count", "log_frequency", "ngram_nats", "ngram_order",
    ]  # fmt: skip
    assert rows[0]["nats_before_learning"] == pytest.approx(rows[0]["nats"])
    assert rows[0]["nats_after_learning"] < rows[0]["nats_before_learning"]
    reduction = rows[0]["word_entropy_nats"] - rows[1]["word_entropy_nats"]
    assert rows[0]["entropy_reduction_nats"] == pytest.approx(reduction)
    zebra = next(row for row in rows if row["unknown"] == "zebra")
    assert (zebra["text"], zebra["training_count"], zebra["ngram_order"]) == ("<unk>", None, 0)
    known = [row for row in rows if row["unknown"] is None and row["text"] != "<eos>"]
    assert all(1 / 40 < math.exp(row["log_frequency"]) < 1 / 10 for row in known)
    assert all(row["training_count"] > 100 for row in known)


def test_ngrams_of_the_corpus_and_of_a_file_are_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_job(ngram.main, ["--data", str(folder / "data"), "--order", "3", "--to", str(folder / "three.arpa")])
    capsys.readouterr()
    run = ["--run", str(folder / "one"), "--columns", "length"]
    of_corpus, _ = table(folder, capsys, *run, "--ngram", "3")
    of_file, _ = table(folder, capsys, *run, "--ngram", str(folder / "three.arpa"))
    assert [row["ngram_nats"] for row in of_file] == pytest.approx([row["ngram_nats"] for row in of_corpus], rel=1e-6)
    assert [row["ngram_order"] for row in of_file] == [row["ngram_order"] for row in of_corpus]
    assert [row["unknown"] for row in of_corpus if row["ngram_order"] == 0] == ["zebra"]
    # the entropy of whole words, expanded
    rows, _ = table(folder, capsys, "--run", str(folder / "one"), "--columns", "word-entropy", "--word-mass", "0.01")
    assert all(row["word_entropy_mass"] > 0.01 and row["word_entropy_missing_nats"] > 0 for row in rows)


def test_several_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alone = [table(folder, capsys, "--run", str(folder / name))[0] for name in ("one", "two", "words")]
    runs = [str(folder / name) for name in ("one", "two")]
    rows, printed = table(folder, capsys, "--runs", *runs)
    assert "rows.parquet: 53 tokens and 14 words" in printed
    for row, one, two in zip(rows, *alone[:2], strict=True):
        assert (row["nats_one"], row["nats_two"]) == (one["nats"], two["nats"])
        assert row["nats"] == pytest.approx((one["nats"] + two["nats"]) / 2)
        assert (row["entropy_nats_one"], row["length"]) == (one["entropy_nats"], one["length"])
    rows, printed = table(folder, capsys, "--runs", *runs, str(folder / "words"), "--columns", "lags")
    assert "no rows of tokens, which differ from run to run" in printed
    words, ends = ([row for row in rows if (row["text"] == "<eos>") == is_end] for is_end in (False, True))
    assert [row["nats_one"] for row in words] == [row["nats"] for row in alone[0]]
    assert [row["nats_words"] for row in rows] == [row["nats"] for row in alone[2]]
    assert {(row["nats"], row["nats_one"]) for row in ends} == {(None, None)}
    # the held-out texts of the two runs begin at different places
    with pytest.raises(SystemExit) as caught:
        run_job(evaluate.main, ["--runs", runs[0], str(folder / "words"), "--surprisal", str(folder / "x.tsv")])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: --runs: one has ")
    assert "the words of several runs must be the same" in error
    assert not (folder / "x.tsv").exists()


def test_options_that_contradict_each_other_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, rows = ["--run", str(folder / "one")], ["--surprisal", str(folder / "x.tsv")]
    one, words = str(folder / "one"), str(folder / "words")
    (folder / "not.arpa").write_text("no n-grams")
    for options, sentence in (
        ([*run, "--columns", "rank"], "--columns: is for the words of --surprisal; give that as well"),
        ([*run, *rows, "--columns", "none"], "--columns: invalid choice: 'none'"),
        ([*run, *rows, "--word-mass", "1"], "--word-mass: 1.0 is not between 0 and 1"),
        ([*run, *rows, "--word-mass", "0.5"], "--word-mass: is for --columns word-entropy; give that as well"),
        ([*run, *rows, "--ngram", "6"], "--ngram: an order of 6 is not from 1 to 5"),
        ([*run, *rows, "--ngram", "none.arpa"], "--ngram: none.arpa: cannot be read"),
        ([*run, *rows, "--ngram", str(folder / "not.arpa")], "not.arpa: is not a file of n-grams"),
        ([*run, *rows, "--adapt", "sentence", "--dynamic-lr", "0"], "--dynamic-lr: 0.0 is not in (0, 1,000]"),
        ([*run, *rows, "--adapt", "sentence", "--format", "neural-complexity"], "have columns of their own"),
        (["--runs", one, words], "--runs: several runs at once are for --surprisal and --benchmark"),
        (["--runs", one, one, *rows], "--runs: the same directory twice"),
        (["--runs", one, words, *rows, "--exact"], "--exact: takes one model; give it with --run"),
        (["--runs", one, words, *rows, "--dynamic", "sgd"], "--dynamic: takes one model; give it with --run"),
        ([*run, "--runs", one], "not allowed with argument"),
    ):
        with pytest.raises(SystemExit) as caught:
            run_job(evaluate.main, options)
        error = capsys.readouterr().err
        assert caught.value.code == 2
        assert sentence in error
        assert error.count("\n") == 1
        assert not (folder / "x.tsv").exists()

"""``jobs.evaluate`` does everything that one command asks for, and says what it counts."""

import itertools
import json
import shutil
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pyarrow.parquet as pq
import pytest

from jobs import evaluate
from jobs.evaluate import measures
from jobs.shared.cli import run_job
from pipeline import launch
from pipeline.config import Config
from pipeline.errors import Notice, UserError
from pipeline.training.checkpoint import Loaded


@pytest.fixture
def run(make_config: Callable[..., Config], tmp_path: Path) -> str:
    """The directory of a run with very little held-out text, with pairs and stimuli beside it."""
    config = make_config({"train.max_steps": 3, "corpus.valid_fraction": 0.01})
    launch.train(config, launch.in_process)
    (tmp_path / "pairs.jsonl").write_text('{"good": "the cat sat", "bad": "vym vvy yvm"}\n')
    (tmp_path / "stimuli.txt").write_text("the dog sat by the river\nthe cat saw\n\nthe dog sat by the river\n")
    return str(config.run.directory)


def measured(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[dict[str, Any], str]:
    """The result of a command, and what it printed before it."""
    run_job(evaluate.main, [*argv, "--json"])
    *printed, result = capsys.readouterr().out.splitlines()
    return json.loads(result), "\n".join(printed)


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    with pytest.raises(SystemExit) as caught:
        run_job(evaluate.main, list(argv))
    assert caught.value.code == 2
    return capsys.readouterr().err


def test_every_combination_of_measures(run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "rows.tsv"
    measures = [
        ["--surprisal", str(table)],
        ["--pairs", str(tmp_path / "pairs.jsonl")],
        ["--bleu", "3", "--prompt-tokens", "9", "--continuation-tokens", "9"],
    ]
    figures: list[list[str]] = [[], ["--breakdown", "--exact"], ["--cache"]]
    alone = [measured(capsys, "--run", run, *options) for options in [*measures, *figures]]
    for chosen in itertools.product([False, True], [False, True], [False, True], range(3)):
        options = [option for measure, is_on in zip(measures, chosen[:3], strict=True) if is_on for option in measure]
        table.unlink(missing_ok=True)
        result, printed = measured(capsys, "--run", run, *options, *figures[chosen[3]])
        asked = [*(part for part, is_on in zip(alone, chosen[:3], strict=False) if is_on)]
        if not asked or chosen[3]:
            asked.append(alone[3 + chosen[3]])
        expected: dict[str, Any] = {}
        for part, _ in asked:
            expected |= part
        assert result == expected
        assert printed == "\n\n".join(text for _, text in asked)
        assert table.exists() == chosen[0]


def test_it_says_which_tokens_it_counts(run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = ["--run", run, "--text", str(tmp_path / "stimuli.txt")]
    table = ["--surprisal", str(tmp_path / "rows.csv")]
    result, printed = measured(capsys, *text, "--streams", "1")
    assert "stimuli.txt: 62 of 63 tokens scored (nothing comes before the first) in 1 stream\n" in printed
    assert (result["tokens"], result["text_tokens"]) == (62, 63)
    result, printed = measured(capsys, *text, *table)
    assert "rows.csv: 63 tokens and 15 words (the first too, scored after '\\n')" in printed
    assert (result["surprisal_tokens"], result["surprisal_words"]) == (63, 15)
    result, printed = measured(capsys, *text, *table, "--by-line", "--breakdown")
    assert "rows.csv: 59 tokens and 15 words (the first of each document too, scored after '\\n')" in printed
    assert "stimuli.txt: 59 tokens scored in 3 documents\n" in printed  # line ends do not count, nor do empty lines
    assert result["tokens"] == result["text_tokens"] == sum(group["tokens"] for group in result["by_position"]) == 59
    assert result["words"] == 15


def test_white_space_between_words_counts_by_the_chosen_convention(
    run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = ["--run", run, "--text", str(tmp_path / "stimuli.txt"), "--by-line"]
    sums = {}
    for convention in ("corrected", "preceding", "none"):
        table = str(tmp_path / f"{convention}.parquet")
        result, _ = measured(capsys, *text, "--surprisal", table, "--word-boundary", convention)
        assert result["word_boundary"] == convention
        rows = pq.read_table(table).to_pylist()
        assert rows[0].keys() >= {"level", "text", "document", "position", "nats", "unknown", "entropy_nats"}
        sums[convention] = [sum(row["nats"] for row in rows if row["level"] == level) for level in ("token", "word")]
    tokens, words = sums["preceding"]
    assert words == pytest.approx(tokens)
    assert sums["corrected"][0] == sums["none"][0] == tokens
    assert sums["none"][1] < words
    assert len({words for _, words in sums.values()}) == 3
    measured(capsys, *text, "--surprisal", str(tmp_path / "default.parquet"))
    assert pq.read_table(tmp_path / "default.parquet") == pq.read_table(tmp_path / "corrected.parquet")


def test_a_table_that_is_read_as_plain_text_is_noted(run: str, tmp_path: Path) -> None:
    table = tmp_path / "stimuli.CSV"
    table.write_text("item,sentence\n1,the dog sat\n2,the cat saw\n")
    with pytest.warns(Notice, match=r"^--text: \S+\.CSV is read as plain text, header and all; --stimuli"):
        evaluate.main(["--run", run, "--text", str(table), "--by-line"])


def test_impossible_combinations_are_refused_before_anything_is_measured(
    run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = ["--surprisal", str(tmp_path / "rows.tsv")]
    for options, sentence in (
        ([*table, "--bleu", "3", "--top-p", "7"], "--top-p: 7.0 is not in (0, 1]"),
        ([*table, "--pairs", str(tmp_path / "none.jsonl")], "none.jsonl: cannot be read"),
        ([*table, "--cache", "--cache-weight", "1"], "--cache-weight: 1.0 is not in [0, 1)"),
        ([*table, "--cache", "--breakdown"], "--exact, --breakdown: do not work with --cache and --dynamic"),
        ([*table, "--tune"], "--tune: there is nothing to tune without --cache or --dynamic"),
        (["--surprisal", str(tmp_path / "rows.xlsx")], "rows.xlsx must end with .parquet, .csv, .tsv"),
        (["--word-boundary", "none"], "--word-boundary: is for the words of --surprisal; give that as well"),
        (["--by-line"], "--by-line: says how --text is read; give that as well"),
        (["--by-line", "--text", "x", "--bleu", "3"], "--by-line: separate lines are not running text"),
        (["--top-k", "3"], "--top-k: is for --bleu; give that as well"),
        (["--prompt-tokens", "9", *table], "--prompt-tokens: is for --bleu"),
        (["--cache-theta", "0.3"], "--cache-theta: is for --cache; give that as well"),
        (["--dynamic-lr", "0.1", "--cache"], "--dynamic-lr: is for --dynamic or --adapt; give one as well"),
        (["--dynamic", "sgd", "--dynamic-epsilon", "0.1"], "--dynamic-epsilon: is for --dynamic rms; give that"),
        ([*table, "--adapt", "sentence", "--dynamic-segment", "5"], "--dynamic-segment: is for --dynamic, without"),
        (["--cache", "--tune", "--cache-window", "5"], "--cache-window: is what --tune finds; leave it out"),
        (["--dynamic", "sgd", "--tune", "--dynamic-lr", "0.1"], "--dynamic-lr: is what --tune finds; leave it out"),
        (["--pairs", "x", "--text", "y"], "--text: --pairs and --benchmark have texts of their own; leave it out"),
        (["--pairs", "x", "--split", "test"], "--split: --pairs and --benchmark have texts of their own"),
        ([*table, "--streams", "4"], "--streams: is for perplexity; the other measures read one stream"),
        ([*table, "--burn-in", "4"], "--burn-in: is for perplexity, which is not asked for"),
        (["--text", str(tmp_path / "stimuli.txt"), "--by-line", "--burn-in", "4"], "--burn-in: is for streams, but"),
        (
            ["--stimuli", str(tmp_path / "stimuli.txt"), "--burn-in", "4"],
            "--burn-in: is for streams, but each of these texts",
        ),
        ([*table, "--pairs", str(tmp_path / "pairs.jsonl"), "--text", str(tmp_path / "none.txt")], "no file matches"),
        ([*table, "--bleu", "3", "--prompt-tokens", "90000"], "--bleu: the text has "),
    ):
        assert sentence in refused(capsys, "--run", run, *options)
        assert not (tmp_path / "rows.tsv").exists()
    for module in ("sacrebleu", "sacrebleu.metrics"):
        monkeypatch.setitem(sys.modules, module, None)
    assert "--bleu: needs sacrebleu" in refused(capsys, "--run", run, *table, "--bleu", "3")
    assert not (tmp_path / "rows.tsv").exists()


def test_running_text_is_asked_of_no_run_on_documents(
    run_on_documents: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for options in (["--bleu", "3"], ["--cache"], ["--dynamic", "sgd"]):
        expected = (
            f"error: {options[0]}: continues from one text to the next, but this run reads data.layout=documents\n"
        )
        assert refused(capsys, "--run", run_on_documents, *options) == expected
    assert refused(capsys, "--run", run_on_documents, "--burn-in", "5").startswith("error: --burn-in: is for streams")


@pytest.mark.parametrize("layouts", [("streams", "documents"), ("documents", "streams"), ("documents", "documents")])
def test_runs_of_two_layouts_are_compared_on_separate_texts_alone(
    monkeypatch: pytest.MonkeyPatch, layouts: tuple[str, str]
) -> None:
    """In running text one of them would be scored as it was not trained."""
    tokenizer, model = SimpleNamespace(fingerprint="a"), SimpleNamespace(device="cpu")
    runs = [
        SimpleNamespace(config=SimpleNamespace(data=SimpleNamespace(layout=one)), tokenizer=tokenizer, model=model)
        for one in layouts
    ]
    loaded, other = (cast(Loaded, one) for one in runs)
    monkeypatch.setattr(measures, "load", lambda *_: other)
    plain = {"compare": "B", "by_line": False, "stimuli": None}
    for given in ({"by_line": True}, {"stimuli": "x"}):
        assert measures.load_other(loaded, Namespace(**{**plain, **given})) is other
    if layouts[0] == layouts[1]:
        assert measures.load_other(loaded, Namespace(**plain)) is other
    else:
        with pytest.raises(
            UserError, match=f"^--compare: B was trained with data.layout={layouts[1]}, not {layouts[0]}"
        ):
            measures.load_other(loaded, Namespace(**plain))


def test_a_corpus_that_is_read_late_is_asked_for_at_once(
    make_config: Callable[..., Config], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is measured before it is read would be lost: by --breakdown, --tune, and gradients for the rule rms."""
    config = make_config({"train.max_steps": 2, "corpus.valid_fraction": 0.0})
    launch.train(config, launch.in_process)
    (tmp_path / "pairs.jsonl").write_text('{"good": "the cat sat", "bad": "vym vvy yvm"}\n')
    (tmp_path / "text.txt").write_text("the dog sat by the river\n")
    command = ["--run", str(config.run.directory), "--pairs", str(tmp_path / "pairs.jsonl")]
    command += ["--text", str(tmp_path / "text.txt")]
    with pytest.raises(UserError, match=r"^--tune: the prepared corpus has no valid split \(corpus\.valid"):
        evaluate.main([*command, "--dynamic", "sgd", "--tune"])
    shutil.rmtree(str(config.data.directory))
    table = ["--surprisal", str(tmp_path / "rows.tsv")]
    for options in (["--breakdown"], ["--dynamic", "rms"], [*table, "--adapt", "sentence", "--dynamic", "rms"]):
        with pytest.raises(UserError, match="no prepared corpus"):
            evaluate.main([*command, *options])
    assert capsys.readouterr().out == ""
    evaluate.main([*command, "--dynamic", "sgd"])  # needs none

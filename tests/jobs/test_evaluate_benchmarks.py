"""``jobs.evaluate`` on stimuli, regions and benchmarks: what it writes, prints and refuses."""

import csv
import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from jobs import evaluate
from jobs.evaluate.benchmarks import remarks
from jobs.shared.cli import run_job
from pipeline import launch
from pipeline.config import Config
from pipeline.evaluate.benchmarks import Figure, Outcome
from tests.benchmark_samples import SAMPLES


@pytest.fixture
def run(make_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The directory of a run, inside the test's working folder, which also has stimuli."""
    monkeypatch.chdir(tmp_path)
    config = make_config({"train.max_steps": 3})
    launch.train(config, launch.in_process)
    Path("stimuli.csv").write_text("item,condition,sentence\n1,a,the cat sat\n1,b,the dog ran\n")
    Path("words.tsv").write_text("zone\tword\n1\tthe\n2\told river\n3\tsat\n")
    Path("regions.txt").write_text("the cat | sat on | a mat\nthe dog | ran\n")
    return str(config.run.directory)


def measured(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[dict[str, Any], list[str]]:
    """The result of a command, and the lines that it printed before it."""
    run_job(evaluate.main, [*argv, "--json"])
    *printed, result = capsys.readouterr().out.splitlines()
    return json.loads(result), printed


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    with pytest.raises(SystemExit) as caught:
        run_job(evaluate.main, list(argv))
    assert caught.value.code == 2
    return capsys.readouterr().err


def rows_of(path: str) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file, delimiter="\t" if path.endswith(".tsv") else ","))


def test_stimuli_become_a_table_with_their_labels(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    result, printed = measured(capsys, "--run", run, "--stimuli", "stimuli.csv", "--surprisal", "out.tsv")
    assert printed == ["out.tsv: 22 tokens and 6 words (the first of each document too, scored after '\\n')"]
    words = [row for row in rows_of("out.tsv") if row["level"] == "word"]
    assert [(row["row"], row["item"], row["condition"], row["text"]) for row in words] == [
        ("1", "1", "a", "the"), ("1", "1", "a", "cat"), ("1", "1", "a", "sat"),
        ("2", "1", "b", "the"), ("2", "1", "b", "dog"), ("2", "1", "b", "ran"),
    ]  # fmt: skip
    assert result["words"] == 6
    # the same figures as for the same lines as a text
    Path("lines.txt").write_text("the cat sat\nthe dog ran\n")
    measured(capsys, "--run", run, "--text", "lines.txt", "--by-line", "--surprisal", "lines.parquet")
    lines = [row for row in pq.read_table("lines.parquet").to_pylist() if row["level"] == "word"]
    assert [float(row["nats"]) for row in words] == pytest.approx([row["nats"] for row in lines])
    # and the perplexity is that of the lines
    perplexities = [
        measured(capsys, "--run", run, *what)[0]["perplexity"]
        for what in (["--stimuli", "stimuli.csv"], ["--text", "lines.txt", "--by-line"])
    ]
    assert perplexities[0] == pytest.approx(perplexities[1])


def test_one_word_per_row_keeps_its_borders(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    measured(capsys, "--run", run, "--stimuli", "words.tsv", "--surprisal", "out.csv")
    words = [row for row in rows_of("out.csv") if row["level"] == "word"]
    assert [(row["row"], row["zone"], row["text"]) for row in words] == [
        ("1", "1", "the"), ("2", "2", "old river"), ("3", "3", "sat")
    ]  # fmt: skip


def test_the_format_of_neural_complexity(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--run", run, "--stimuli", "stimuli.csv", "--surprisal"]
    measured(capsys, *argv, "out.tsv")
    result, _ = measured(capsys, *argv, "out.txt", "--format", "neural-complexity")
    assert result["words"] == 6
    words = [row for row in rows_of("out.tsv") if row["level"] == "word"]
    head, *lines = Path("out.txt").read_text().splitlines()
    assert head == "word sentid sentpos wlen surp entropy entred"
    assert [line.split(" ")[:4] for line in lines] == [
        [row["text"], row["document"], row["position"], str(len(row["text"]))] for row in words
    ]
    bits = [float(line.split(" ")[4]) for line in lines]
    assert bits == pytest.approx([float(row["nats"]) / math.log(2) for row in words])


def test_regions_have_the_sum_of_their_words(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    result, printed = measured(capsys, "--run", run, "--regions", "regions.txt", "--surprisal", "regions.tsv")
    assert printed == ["regions.tsv: 5 regions of 2 texts"]
    assert (result["regions"], result["texts"], result["unknown_words"]) == (5, 2, 0)
    found = rows_of("regions.tsv")
    assert [(row["row"], row["region"], row["text"], row["words"]) for row in found] == [
        ("1", "1", "the cat", "2"), ("1", "2", "sat on", "2"), ("1", "3", "a mat", "2"),
        ("2", "1", "the dog", "2"), ("2", "2", "ran", "1"),
    ]  # fmt: skip
    Path("plain.txt").write_text("the cat sat on a mat\nthe dog ran\n")
    measured(capsys, "--run", run, "--stimuli", "plain.txt", "--surprisal", "words.csv")
    nats = [float(row["nats"]) for row in rows_of("words.csv") if row["level"] == "word"]
    sums = [sum(nats[:2]), sum(nats[2:4]), sum(nats[4:6]), sum(nats[6:8]), nats[8]]
    assert [float(row["nats"]) for row in found] == pytest.approx(sums)


def test_every_benchmark_prints_a_table(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name, write in SAMPLES.items():
        write(Path(name))
    named = [f"{name}={name}" for name in SAMPLES]
    result, printed = measured(capsys, "--run", run, "--benchmark", *named)
    assert [found["name"] for found in result["benchmarks"]] == list(SAMPLES)
    assert "perplexity" not in result
    for found in result["benchmarks"]:
        (of_run,) = found["runs"]
        assert of_run["run"] == run
        assert len(of_run["figures"]) == len(found["figures"])
        assert [figure["mean"] for figure in found["figures"]] == [figure["value"] for figure in of_run["figures"]]
    assert printed[0] == "BLiMP, whole sentences (Warstadt et al. 2020): 134 items"
    assert printed[1].split() == ["run", "95", "%", "interval", "items", "LSTM", "5-gram", "TXL", "GPT-2"]
    assert printed[2].split()[0] == "all"
    assert printed[2].split()[-4:] == ["69.8", "61.2", "69.6", "83.0"]
    assert printed[2].split()[1] == f"{100 * result['benchmarks'][0]['figures'][0]['mean']:.1f}"
    assert "wh_island" not in "\n".join(printed)
    assert "LSTM, 5-gram, TXL, GPT-2: Warstadt et al. 2020, corrected results" in "\n".join(printed)
    _, in_parts = measured(capsys, "--run", run, "--benchmark", "blimp=blimp", "--breakdown")
    assert any(line.split()[0] == "wh_island" for line in in_parts)


def test_several_runs_have_a_column_each_and_their_mean(
    run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], make_config: Callable[..., Config]
) -> None:
    SAMPLES["syntaxgym"](Path("suites"))
    other = make_config({"train.max_steps": 3, "train.seed": 2, "run.directory": str(tmp_path / "other")})
    launch.train(other, launch.in_process)
    shutil.copytree(run, "third")
    runs = [run, "other", "third"]
    alone = [
        measured(capsys, "--run", each, "--benchmark", "syntaxgym=suites")[0]["benchmarks"][0]["runs"][0]["figures"]
        for each in runs
    ]
    result, printed = measured(capsys, "--runs", *runs, "--benchmark", "syntaxgym=suites")
    (found,) = result["benchmarks"]
    assert [one["figures"] for one in found["runs"]] == alone
    assert alone[0] == alone[2]
    assert printed[1].split()[:5] == ["run", "other", "third", "mean", "±"]
    for together, values in zip(found["figures"], zip(*alone, strict=True), strict=True):
        numbers = [figure["value"] for figure in values]
        mean = sum(numbers) / 3
        assert together["mean"] == pytest.approx(mean)
        assert together["deviation"] == pytest.approx(math.sqrt(sum((x - mean) ** 2 for x in numbers) / 2))


def test_options_that_contradict_each_other_are_refused(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    SAMPLES["syntaxgym"](Path("suites"))
    Path("inside.txt").write_text("the c|at\n")
    table = ["--surprisal", "out.tsv"]
    for options, sentence in (
        (["--regions", "regions.txt"], "--regions: says what --surprisal sums; give that as well"),
        (["--regions", "inside.txt", *table], "--regions: inside.txt row 1 has the border of a region inside a word"),
        (["--regions", "regions.txt", "--stimuli", "words.tsv", *table], "--regions: already names the stimuli"),
        (["--stimuli", "stimuli.csv", "--cache"], "--stimuli: is not running text"),
        (["--stimuli", "none.csv", *table], "none.csv: cannot be read"),
        (["--format", "neural-complexity"], "--format: says how --surprisal is written"),
        (
            ["--format", "neural-complexity", "--surprisal", "x.parquet"],
            "--format: neural-complexity has lines of words",
        ),
        (["--benchmark", "nosuch=suites"], "--benchmark: nosuch=suites: is not NAME=FOLDER with one of the names"),
        (["--benchmark", "blimp=suites"], "are missing; 67 files are expected"),
        (["--benchmark", "syntaxgym=suites", "syntaxgym=suites"], "--benchmark: syntaxgym=suites is named twice"),
    ):
        assert sentence in refused(capsys, "--run", run, *options)
        assert not Path("out.tsv").exists()
    for options, sentence in (
        (["--runs", run, run, "--benchmark", "syntaxgym=suites"], "--runs: the same directory twice"),
        (["--runs", run, "none", "--benchmark", "syntaxgym=suites"], "none"),
        (["--run", run, "--runs", run], "not allowed with"),
        (["--runs", run, "--pairs", "x"], "--pairs: takes one model; give it with --run"),
    ):
        assert sentence in refused(capsys, *options)


def test_the_program_of_the_document_draws_its_figure(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The Python shown in docs/psycholinguistics.md draws a figure from the table that the command writes."""
    measured(capsys, "--run", run, "--stimuli", "stimuli.csv", "--surprisal", "table.tsv")
    text = (Path(__file__).parents[2] / "docs" / "psycholinguistics.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, Any] = {}
    exec(program, names)
    assert Path("surprisal.png").read_bytes().startswith(b"\x89PNG")
    assert list(names["words"].condition) == ["a"] * 3 + ["b"] * 3
    assert names["words"].bits.to_numpy() == pytest.approx(names["words"].nats / math.log(2), rel=1e-3)


@pytest.mark.parametrize("levels", [[0, 1, 2], [1, 1, 2]])
def test_ties_are_told_also_of_a_benchmark_without_a_figure_of_all_items(levels: list[int]) -> None:
    figures = [Figure("", level, 0.5, 0.4, 0.6, 10, ties) for level, ties in zip(levels, (5, 3, 2), strict=True)]
    (told,) = remarks(["run"], [Outcome(figures, 100, 0)], [])[1:]
    assert told == f"run: {5 if levels[0] == 0 else 8} ties, which are wrong"

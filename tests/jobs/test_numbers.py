"""Every number on a command line: a value that is not a number, not finite or absurdly large is refused at once."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from jobs import compress, context, evaluate, generate, gradients, units
from jobs.shared.cli import run_job
from jobs.shared.numbers import number, seed, whole
from pipeline import launch
from pipeline.config import Config

JOBS = [compress, context, evaluate, generate, gradients, units]
RUN = ["--run", "nowhere"]  # refused only if the options are not


def refused(capsys: pytest.CaptureFixture[str], job: ModuleType, *argv: str) -> str:
    with pytest.raises(SystemExit) as caught:
        run_job(job.main, list(argv))
    error = capsys.readouterr().err
    assert caught.value.code == 2
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error.removeprefix("error: ").rstrip("\n")


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.__name__)
def test_every_option_refuses_values_that_are_not_its_kind_of_number(
    job: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong: dict[Any, dict[str, str]] = {
        number: {"nan": "nan is not a finite number", "1e400": "1e400 is not a finite number",
                 "inf": "inf is not a finite number", "x": "'x' is not a number"},
        whole: {"1.5": "'1.5' is not a whole number", "nan": "'nan' is not a whole number",
                "9" * 20: f"{'9' * 20} is not between -2,147,483,647 and 2,147,483,647",
                "9" * 5000: f"'{'9' * 39}…' is not a whole number"},
        seed: {"1.5": "'1.5' is not a whole number", "9" * 20: f"{'9' * 20} is not between"},
    }  # fmt: skip
    for action in job.argument_parser()._actions:
        assert action.type not in (int, float), f"{action.option_strings}: takes nan, or numbers of any size"
        for text, sentence in wrong.get(action.type, {}).items():
            option = action.option_strings[0]
            assert refused(capsys, job, *RUN, option, text).startswith(f"{option}: {sentence}")


@pytest.mark.parametrize(
    ("job", "options", "sentence"),
    [
        (generate, ["--repetition-penalty", "1e-40"], "--repetition-penalty: 1e-40 is not in [1e-06, 1,000,000]"),
        (generate, ["--repetition-penalty", "1e300"], "--repetition-penalty: 1e+300 is not in [1e-06, 1,000,000]"),
        (generate, ["--top-k", "-3"], "--top-k: -3 is below 1"),
        (generate, ["--beams", "2", "--length-penalty", "1e300"], "--length-penalty: 1e+300 is not between -10 and 10"),
        (generate, ["--beams", "2000000000"], "--beams: 2000000000 is not between 1 and 1,000"),
        (generate, ["--samples", "2000000000"], "--samples: 2000000000 texts for each prompt are more than 1,000,000"),
        (evaluate, ["--seed", "-1"], "--seed: -1 is below 0"),
        (evaluate, ["--streams", "0"], "--streams: 0 is below 1"),
        (compress, ["--tokens", "2000000000"], "--tokens: 2000000000 is not between 1 and 1,000,000"),
        (gradients, ["--share", "1e300"], "--share: must be between 0 and 1, not 1e+300"),
        (units, ["--tokens", "2000000000"], "--tokens: 2000000000 is not between 100 and 1,000,000"),
        (context, ["--changed-tokens", "0", "--change", "shuffled"], "--changed-tokens: 0 is below 1"),
    ],
)
def test_numbers_out_of_range_are_refused(
    job: ModuleType, options: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(capsys, job, *RUN, *options).startswith(sentence)


def test_very_large_or_small_numbers_are_taken_or_refused_in_a_sentence(
    make_config: Callable[..., Config], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config({"train.max_steps": 3, "corpus.valid_fraction": 0.02})
    launch.train(config, launch.in_process)
    directory = str(config.run.directory)

    def result_of(job: Any, *argv: str) -> Any:
        run_job(job.main, ["--run", directory, *argv, "--json"])
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    def text_with(*options: str) -> str:
        return str(result_of(generate, "--prompt", "the ", "--tokens", "20", *options)["text"])

    likeliest = text_with("--temperature", "0")
    for temperature in ("1e-38", "1e-40", "1e-320"):
        assert text_with("--temperature", temperature) == likeliest
        assert text_with("--temperature", temperature, "--repetition-penalty", "1e6", "--top-p", "1e-300")
    assert text_with("--top-k", "2000000000") == text_with()
    assert len(text_with("--temperature", "1e300")) == 24
    many, few = ("2000000000", "4")
    figures = [result_of(evaluate, "--streams", n, "--burn-in", many)["perplexity"] for n in (many, few)]
    assert figures[0] == pytest.approx(figures[1], rel=1e-3)
    assert result_of(evaluate, "--cache", "--cache-window", many)["tokens"] > 100
    assert result_of(evaluate, "--bleu", many, "--prompt-tokens", "200")["texts"] > 100
    for job, options, sentence in (
        (evaluate, ["--cache", "--cache-theta", "1e300"], "--cache-theta: 1e+300 is not in [0, 1,000]"),
        (evaluate, ["--dynamic", "sgd", "--dynamic-lr", "1e300"], "--dynamic-lr: 1e+300 is not in (0, 1,000]"),
        (evaluate, ["--dynamic", "rms", "--dynamic-epsilon", "1e-300"], "--dynamic-epsilon: 1e-300 is not in [1e-12,"),
        (evaluate, ["--bleu", "5", "--prompt-tokens", many], "--bleu: the text has "),
        (gradients, ["--length", many], f"--length: two windows of {many} steps"),
        (context, ["--longest", many], "--longest: 2,000,000,000 tokens before a target need a longer text than the "),
    ):
        assert refused(capsys, job, "--run", directory, *options).startswith(sentence)


def test_a_sentence_about_one_option_names_it_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, evaluate, *RUN, "--split", "x").startswith("--split: invalid choice: 'x'")
    assert refused(capsys, evaluate).startswith("python -m jobs.evaluate: one of the arguments --run --runs is")
    with pytest.raises(argparse.ArgumentTypeError):
        seed("1e3")
    assert seed("-9000000000") == -9_000_000_000


def test_two_dashes_are_not_a_value(capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("--seed", "--prompt", "--top-k"):  # argparse itself takes it for an empty list
        assert refused(capsys, generate, *RUN, f"{option}=--").startswith(f"{option}: expected a value, not --")

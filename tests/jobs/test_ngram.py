"""``jobs.ngram``: a model of a prepared corpus, its perplexity and its file."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs import ngram
from jobs.shared.cli import run_job
from pipeline.config import Config
from pipeline.data.prepare import prepare_in_process
from pipeline.ngram import read_arpa


def test_a_model_its_perplexity_and_its_file(
    make_config: Callable[..., Config], tiny_text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare_in_process(make_config({"tokenizer.kind": "word", "tokenizer.eos": "line"}))
    path = tmp_path / "model.arpa"
    run_job(ngram.main, ["--data", str(tmp_path / "data"), "--order", "2", "--to", str(path), "--json"])
    *printed, line = capsys.readouterr().out.splitlines()
    result, model = json.loads(line), read_arpa(path)
    assert printed[0] == f"n-grams of 22 words: 22 of 1, {model.num_ngrams[1]} of 2"
    assert "valid: perplexity" in printed[-2]
    assert printed[-1] == f"model: {path}"
    # words in random order, 12 per line: all are equally likely, and the end has probability 1/13
    expected = math.exp(12 / 13 * math.log(19 * 13 / 12) + math.log(13) / 13)
    assert result["perplexity"] == pytest.approx(expected, rel=0.05)
    assert (result["split"], result["unknown"]) == ("valid", 0)
    run_job(ngram.main, ["--data", str(tmp_path / "data"), "--order", "1", "--json"])
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["perplexity"] == pytest.approx(expected, rel=0.01)


def test_a_folder_without_a_corpus_is_named_by_its_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        run_job(ngram.main, ["--data", "nowhere"])
    assert (left.value.code, capsys.readouterr().err) == (
        2,
        "error: --data: no prepared corpus in nowhere (run jobs.prepare)\n",
    )

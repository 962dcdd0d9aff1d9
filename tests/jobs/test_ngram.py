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


def test_a_folder_without_a_corpus_is_named_by_its_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("mine-0123", "yours-4567"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "manifest.json").touch()
    for name, hint in (("nowhere", "run jobs.prepare"), ("data/mine", "did you mean data/mine-0123?")):
        with pytest.raises(SystemExit) as left:
            run_job(ngram.main, ["--data", name])
        sentence = f"error: --data: no prepared corpus in {name} ({hint})\n"
        assert (left.value.code, capsys.readouterr().err) == (2, sentence)


def test_many_words_without_discounts_are_not_said_to_be_too_few(
    make_config: Callable[..., Config], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # 10 words occur once, 2 twice, 9 three times and 50 four times: D for 2 would be below 0
    counts = [1] * 10 + [2] * 2 + [3] * 9 + [4] * 50
    text = tmp_path / "text.txt"
    text.write_text(" ".join(f"w{i}" for i, count in enumerate(counts) for _ in range(count)) + "\n")
    changes = {"corpus.train": [str(text)], "corpus.valid_fraction": 0, "tokenizer.kind": "word"}
    prepare_in_process(make_config({**changes, "tokenizer.eos": "line"}))
    found = ngram.main(["--data", str(tmp_path / "data"), "--order", "1"])
    assert found is not None
    assert found["orders_without_discounts"] == [1]
    printed = capsys.readouterr().out
    assert "note: how many 1-grams occur once to four times gives no discounts; 0.5, 1 and 1.5 are used" in printed

"""A model whose training text was brought to a normal form (``corpus.normalize``) reads whatever it is asked so."""

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs import evaluate, generate
from jobs.shared.cli import run_job
from pipeline import launch, load
from pipeline.config import Config
from pipeline.evaluate.benchmarks.base import Scorer
from pipeline.interface import Model

WHOLE = "elle est née à Orléans"
APART = unicodedata.normalize("NFD", WHOLE)  # accents as characters of their own, as some keyboards give them


@pytest.fixture
def run(make_config: Callable[..., Config], tmp_path: Path) -> str:
    """The directory of a run on text in NFC, which knows no accent by itself."""
    (tmp_path / "text.txt").write_text((APART + "\n") * 200, encoding="utf-8")
    changes = {"corpus.normalize": "NFC", "train.max_steps": 3, "run.sample_prompt": APART}
    config = make_config({"corpus.train": [str(tmp_path / "text.txt")], **changes})
    launch.train(config, launch.in_process)
    return str(config.run.directory)


def test_texts_in_two_forms_are_one_text(run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def result_of(job: Any, *argv: str) -> Any:
        run_job(job.main, ["--run", run, *argv, "--json"])
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    model = load(run)
    assert model.tokenizer.unknown_in(APART) == {"\u0301", "\u0300"}
    assert model.ids(APART).tolist() == model.tokenizer.encode(WHOLE).tolist()
    assert model.surprisal(APART)[0].total == model.surprisal(WHOLE)[0].total
    written = [result_of(generate, "--prompt", text, "--tokens", "9")["text"] for text in (WHOLE, APART)]
    assert written[0].removeprefix(WHOLE) == written[1].removeprefix(APART)

    figures = []
    for name, text in (("whole", WHOLE), ("apart", APART)):
        file = tmp_path / f"{name}.txt"
        file.write_text(text + "\n", encoding="utf-8")
        table = ["--surprisal", str(tmp_path / f"{name}.tsv")]
        figures.append(result_of(evaluate, "--stimuli", str(file), "--exact", *table))
        assert result_of(evaluate, "--text", str(file), "--by-line")["perplexity"] == figures[-1]["perplexity"]
        assert figures[-1].pop("surprisal") == table[1]
    assert figures[0] == figures[1]
    assert figures[0]["bits_per_byte"] > 0
    assert (tmp_path / "whole.tsv").read_bytes() == (tmp_path / "apart.tsv").read_bytes()

    (tmp_path / "pairs.jsonl").write_text(json.dumps({"good": APART, "bad": WHOLE}))
    assert result_of(evaluate, "--pairs", str(tmp_path / "pairs.jsonl"))["groups"][-1]["equal"] == 1
    check_benchmarks(model)


def check_benchmarks(model: Model) -> None:
    scorer = Scorer(model.model, model.tokenizer)
    assert len({*scorer.sentences([WHOLE, APART])}) == 1
    assert len({*scorer.continuations([(text[:2], text[2:].strip()) for text in ("ne " + WHOLE, "ne " + APART)])}) == 1
    assert scorer.num_unknown == 0

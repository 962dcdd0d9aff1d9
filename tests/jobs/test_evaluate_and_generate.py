"""What ``jobs.evaluate`` and ``jobs.generate`` report for one trained run, and what they refuse."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from jobs import evaluate, generate
from jobs.shared.cli import run_job
from pipeline import launch
from pipeline.config import Config
from tests.jobs.test_cli import refused


def test_evaluate_and_generate(
    make_config: Callable[..., Config],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = make_config({"train.max_steps": 30, "train.tf32": True})
    trained = launch.train(config, launch.in_process)
    directory = str(config.run.directory)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    run_job(evaluate.main, ["--run", directory, "--json"])
    assert torch.backends.cudnn.allow_tf32  # products are computed as in training
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["perplexity"] == pytest.approx(trained["perplexity"])
    assert result["bits_per_byte"] == pytest.approx(trained["bits_per_byte"])
    (tmp_path / "other.txt").write_text("the dog sat by the river\n" * 4)
    run_job(evaluate.main, ["--run", directory, "--text", str(tmp_path / "other.txt"), "--json"])
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["tokens"] == 99
    check_measures(directory, tmp_path, capsys)
    texts = []
    for seed in ("1", "1", "2"):
        run_job(generate.main, ["--run", directory, "--prompt", "the ", "--tokens", "40", "--seed", seed, "--json"])
        texts.append(json.loads(capsys.readouterr().out.splitlines()[-1])["text"])
    assert texts[0] == texts[1] != texts[2]
    assert len(texts[0]) == len("the ") + 40
    (tmp_path / "prompts.txt").write_text("the dog\nthe \n")
    files = ["--prompts", str(tmp_path / "prompts.txt"), "--output", str(tmp_path / "texts.jsonl")]
    run_job(generate.main, ["--run", directory, *files, "--tokens", "9", "--samples", "2", "--json"])
    rows = [json.loads(row) for row in (tmp_path / "texts.jsonl").read_text().splitlines()]
    written = capsys.readouterr().out
    assert rows == json.loads(written.splitlines()[-1])["texts"]
    places = [(1, 1), (2, 1), (1, 2), (2, 2)]
    assert [(row["prompt"], row["sample"]) for row in rows] == [(["the dog", "the "][p - 1], n) for p, n in places]
    headings = [f"[prompt {p}, sample {n}]\n" for p, n in places]
    texts = [heading + row["prompt"] + row["text"] + "\n" for heading, row in zip(headings, rows, strict=True)]
    assert written.startswith("\n".join(texts))
    run_job(generate.main, ["--run", directory, "--prompt", "the ", "--tokens", "3", "--samples", "2"])
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("[")] == [
        "[sample 1]",
        "[sample 2]",
    ]
    run_job(generate.main, ["--run", directory, "--prompt", "the ", "--tokens", "9", "--beams", "3", "--json"])
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["texts"][0]["log_probability"] < 0
    for options, sentence in (
        (["--beams", "0"], "--beams: 0 is not between 1 and 1,000"),
        (["--beams", "2", "--top-k", "3"], "--beams: a beam search draws nothing"),
        (["--prompt", ""], "--prompt: is empty"),
        (["--tokens", "0"], "--tokens: 0 is below 1"),
        (["--stop", ""], "--stop: an empty string is found everywhere"),
        (["--length-penalty", "0.5"], "--length-penalty: is for --beams; give that as well"),
        (["--interactive", "--samples", "2"], "--samples: a conversation has one text after each prompt"),
    ):
        assert sentence in refused(capsys, generate.main, "--run", directory, *options)
    assert "none of these characters: 'Ж'" in refused(capsys, generate.main, "--run", directory, "--prompt", "Жa")
    assert "--top-p: 1.5 is not in (0, 1]" in refused(capsys, generate.main, "--run", directory, "--top-p", "1.5")
    assert "has no test split" in refused(capsys, evaluate.main, "--run", directory, "--split", "test")
    assert "no checkpoint there" in refused(capsys, evaluate.main, "--run", str(tmp_path / "nothing"))
    assert "--text: no file matches no.txt" in refused(capsys, evaluate.main, "--run", directory, "--text", "no.txt")


def check_measures(directory: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Check the other measures of ``jobs.evaluate``."""

    def measured(*argv: str) -> Any:
        run_job(evaluate.main, ["--run", directory, *argv, "--json"])
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    plain = measured("--streams", "1", "--exact", "--breakdown", "--compare", directory)
    assert plain["relative_difference"] == 0
    assert plain["compare"]["p_value"] == 1
    assert plain["interval"][0] < plain["perplexity"] < plain["interval"][1]
    for groups in (plain["by_frequency"], plain["by_position"]):
        assert sum(group["tokens"] for group in groups) == plain["tokens"]
    adapted = measured("--cache", "--cache-window", "50", "--dynamic", "sgd", "--dynamic-lr", "0.01")
    assert adapted["plain_perplexity"] == pytest.approx(plain["perplexity"], rel=1e-5)
    assert adapted["cache"]["window"] == 50
    assert measured("--dynamic", "rms")["perplexity"] != pytest.approx(plain["perplexity"], rel=1e-7)
    assert measured("--cache", "--tune")["perplexity"] < plain["perplexity"] * 1.01
    rows = tmp_path / "rows.parquet"
    assert measured("--surprisal", str(rows))["tokens"] == plain["tokens"] + 1
    assert rows.exists()
    (tmp_path / "pairs.jsonl").write_text('{"good": "the cat sat", "bad": "vym vvy yvm"}\n')
    assert measured("--pairs", str(tmp_path / "pairs.jsonl"))["accuracy"] == 1
    lengths = ["--prompt-tokens", "20", "--continuation-tokens", "60", "--top-k", "5"]
    texts = [measured("--bleu", "5", *lengths) for _ in range(2)]
    assert texts[0] == texts[1]
    assert 0 <= texts[0]["bleu"] <= 100
    (tmp_path / "unknown.txt").write_text("ЖЖЖ")
    for options, sentence in (
        (["--text", str(tmp_path / "unknown.txt")], "--text: the model knows no char of"),
        (["--burn-in", "-1"], "--burn-in: -1 is below 0"),
        (["--bleu", "1"], "--bleu: 1 is below 2"),
        (["--bleu", "2", "--prompt-tokens", "0"], "--prompt-tokens: 0 is below 1"),
        (["--tune"], "--tune: there is nothing to tune"),
        (["--cache", "--streams", "4"], "--streams: --cache and --dynamic score on one stream"),
        (["--cache", "--cache-weight", "1"], "--cache-weight: 1.0 is not in [0, 1)"),
        (["--dynamic", "sgd", "--dynamic-lr", "0"], "--dynamic-lr: 0.0 is not in (0, 1,000]"),
        (["--pairs", str(tmp_path / "no.jsonl")], "no.jsonl: cannot be read"),
        (["--compare", str(tmp_path)], "no checkpoint there"),
    ):
        assert sentence in refused(capsys, evaluate.main, "--run", directory, *options)

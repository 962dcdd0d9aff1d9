"""benchmarks/records: what its rules refuse, when a target counts as reached, and a recipe run on a small text."""

import csv
import hashlib
import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parents[2] / "benchmarks" / "records"))  # scripts there import each other like that

import run
import timing
import tracks
from tracks import Track, broken_rules, load_recipe

from pipeline import config as configuration
from pipeline.config import Config
from pipeline.errors import UserError

TEXT = "the cat sat on the mat and the dog sat on the cat\n" * 60
PTB = tracks.tracks()["ptb-100"]


def config(**changes: object) -> Config:
    values = {"corpus.train": ["a.txt"], "tokenizer.kind": "word", "tokenizer.eos": "line"}
    return configuration.with_values(Config(), {**values, **changes})


@pytest.fixture
def small(tmp_path: Path) -> Track:
    """A track whose text is in ``tmp_path``; a bigram model of the text would have about 1.2 nats."""
    for name in ("train.txt", "valid.txt"):
        (tmp_path / name).write_text(TEXT)
    digest = hashlib.sha256(TEXT.encode()).hexdigest()
    peer = {"kind": "word_language_model", "hidden_size": 8, "dropout": 0.1, "tokens": 1000}
    return Track("small", {"train.txt": digest, "valid.txt": digest}, {"kind": "char"}, "nats", 2.0, peer)


def recipe(folder: Path, steps: int) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(
        "tokenizer: {kind: char}\nmodel: {hidden_size: 32, num_layers: 1}\noptimizer: {lr: 0.02}\n"
        f"train: {{bptt: 16, batch_size: 8, max_steps: {steps}, epochs: 9, evaluate_every_steps: {steps // 3}}}\n"
    )
    return path


def log(path: Path) -> list[dict[str, object]]:
    with path.open(newline="", encoding="utf-8") as stream:
        lines = list(csv.DictReader(stream))
    number = {"seed": int, "tokens": int, "nats": float, "bits_per_byte": lambda text: float(text) if text else None}
    return [{name: number[name](value) for name, value in line.items() if name in number} for line in lines]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, []),
        ({"model.attention": 1, "model.num_layers": 2}, ["model.attention"]),
        ({"model.cell": "transformer"}, ["model.cell"]),
        ({"train.initial_weights": "weights"}, ["train.initial_weights"]),
        ({"train.teacher": "runs/big"}, ["train.teacher"]),
        ({"tokenizer.min_count": 2}, ["tokenizer.min_count"]),
        ({"corpus.deduplicate": True}, ["corpus.deduplicate"]),
        ({"evaluate.burn_in": 0}, ["evaluate"]),
    ],
)
def test_the_rules_that_a_recipe_breaks_are_named(changes: dict[str, object], said: list[str]) -> None:
    assert [rule.split(":")[0] for rule in broken_rules(PTB, config(**changes))] == said


def test_a_size_that_the_track_fixes_must_be_that_size() -> None:
    track = tracks.tracks()["characters-1.30"]
    found = broken_rules(track, config(**{"tokenizer.kind": "char", "tokenizer.eos": "auto", "model.num_layers": 2}))
    assert found == ["model.hidden_size: must be 128, not 256"]


def test_another_text_is_refused_with_its_checksum(small: Track, tmp_path: Path) -> None:
    (tmp_path / "valid.txt").write_text(TEXT + "x")
    with pytest.raises(UserError, match=r"valid\.txt: is not the text of small: its SHA-256 is [0-9a-f]{64}"):
        load_recipe(small, recipe(tmp_path, 3), tmp_path, {})
    with pytest.raises(UserError, match=r"--text: missing; small needs a folder with train\.txt and valid\.txt"):
        load_recipe(small, recipe(tmp_path, 3), None, {})


def test_the_first_validation_at_the_target_counts() -> None:
    lines = [{"seed": 1, "tokens": n, "nats": nats} for n, nats in ((10, 5.0), (20, 4.6), (30, 4.7), (40, 4.5))]
    assert run.tokens_to_target(PTB, lines, 1) == 20  # exp(4.6) = 99.48
    assert run.tokens_to_target(PTB, lines[:1], 1) is None


def test_a_record_is_trained_logged_and_judged(
    small: Track, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def runs(steps: int, log: str) -> int:
        path = recipe(tmp_path, steps)
        arguments = f"small --text {tmp_path} --recipe {path} --to {tmp_path / log} --seeds 1,2".split()
        monkeypatch.setattr(sys, "argv", ["run.py", *arguments, "--log", str(tmp_path / f"{log}.csv")])
        with pytest.raises(SystemExit) as ended:
            run.main()
        return int(ended.value.code or 0)

    monkeypatch.setattr(run, "tracks", lambda: {"small": small})
    monkeypatch.setattr(tracks, "tracks", lambda: {"small": small})
    assert runs(90, "long") == 0
    assert "small: reached by all; at most " in capsys.readouterr().out
    lines = log(tmp_path / "long.csv")
    assert [line["seed"] for line in lines].count(1) >= 3
    # 2,999 targets make 8 streams of 374: 23 windows of 16 and one of 6 per epoch; 90 updates: 3 epochs and 18 windows
    assert lines[-1]["tokens"] == 8 * (3 * 374 + 18 * 16)
    assert runs(3, "short") == 1
    assert "small: not a record, 2 of 2 seeds miss the target" in capsys.readouterr().out


def test_a_round_of_either_side_counts_its_tokens(small: Track, tmp_path: Path) -> None:
    from argparse import Namespace

    from pipeline.data.prepare import prepare_in_process

    torch.set_num_threads(1)
    changes = {"data.directory": str(tmp_path / "data")}
    own = load_recipe(small, recipe(tmp_path, 3), tmp_path, changes)
    corpus = prepare_in_process(own)
    assert timing.ours(own, corpus, threads=1, windows=2)() == 2 * 8 * 16
    asked = Namespace(peer=None, threads=1, windows=2)
    assert timing.peer(small, own, corpus, asked)() == 2 * 20 * 35


@pytest.mark.parametrize("recipe", sorted(tracks.FOLDER.glob("*/2*.yaml")), ids=lambda path: path.stem)
def test_each_record_keeps_the_rules_and_its_log_reaches_the_target(recipe: Path) -> None:
    track = tracks.tracks()[recipe.parent.name]
    assert broken_rules(track, configuration.load(recipe)) == []
    lines = log(recipe.with_suffix(".csv"))
    needed = [run.tokens_to_target(track, lines, seed) for seed in tracks.SEEDS]
    assert None not in needed
    row = next(line for line in (tracks.FOLDER / "README.md").read_text(encoding="utf-8").splitlines()
               if f"{recipe.parent.name}/{recipe.name}" in line)  # fmt: skip
    assert f"{max(tokens for tokens in needed if tokens):,}" in row

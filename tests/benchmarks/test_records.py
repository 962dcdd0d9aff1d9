"""benchmarks/records: what its rules refuse, when a target counts as reached, and a recipe run on a small text."""

import hashlib
import math
import os
import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parents[2] / "benchmarks" / "records"))  # scripts there import each other like that

import run
import timing
import tracks
from tracks import Track, broken_rules, load_recipe, read_log

from pipeline import config as configuration
from pipeline.config import Config
from pipeline.errors import UserError

TEXT = "the cat sat on the mat and the dog sat on the cat\n" * 60
PTB, ENGLISH = (tracks.tracks()[name] for name in ("ptb-100", "english-1.466"))


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


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, []),
        ({"model.attention": 1, "model.num_layers": 2}, ["model.attention"]),
        ({"model.cell": "transformer"}, ["model.cell"]),
        ({"train.initial_weights": "weights"}, ["train.initial_weights"]),
        ({"train.teacher": "runs/big"}, ["train.teacher"]),
        ({"train.on_bad_window": "undo"}, ["train.on_bad_window"]),
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
    sizes = {"model.num_layers": 2, "model.hidden_size": 128, "model.last_hidden_size": 512}
    found = broken_rules(track, config(**{"tokenizer.kind": "char", "tokenizer.eos": "auto", **sizes}))
    assert found == ["model.last_hidden_size: must be None, not 512"]


def test_another_text_is_refused_with_its_checksum(small: Track, tmp_path: Path) -> None:
    (tmp_path / "valid.txt").write_text(TEXT + "x")
    with pytest.raises(UserError, match=r"valid\.txt: is not the text of small: its SHA-256 is [0-9a-f]{64}"):
        load_recipe(small, recipe(tmp_path, 3), tmp_path, {})
    with pytest.raises(UserError, match=r"--text: missing; small needs a folder with train\.txt and valid\.txt"):
        load_recipe(small, recipe(tmp_path, 3), None, {})


def test_the_first_validation_at_the_target_counts() -> None:
    lines = [{"seed": 1, "tokens": n, "nats": nats} for n, nats in ((10, 5.0), (20, 4.6), (30, 4.7), (40, 4.5))]
    assert PTB.tokens_to_target(lines, 1) == 20  # exp(4.6) = 99.48
    assert PTB.tokens_to_target(lines[:1], 1) is None
    assert PTB.tokens_to_target(lines, 2) is None


@pytest.mark.parametrize("nats", [math.nan, math.inf, 800.0, math.log(100) + 4e-6])
def test_a_loss_that_is_not_finite_or_only_rounds_to_the_target_misses_it(
    nats: float, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [{"seed": seed, "tokens": 10, "nats": nats} for seed in tracks.SEEDS]
    assert not run.verdict(PTB, lines, tracks.SEEDS)
    assert "ptb-100: not a record, 3 of 3 seeds miss the target" in capsys.readouterr().out


def test_a_run_without_the_figure_of_the_track_misses_the_target(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [{"seed": 1, "tokens": 10, "nats": 1.0, "bits_per_byte": None}]
    assert not run.verdict(ENGLISH, lines, [1, 2])  # seed 2 was never validated
    assert capsys.readouterr().out.count("inf at best; 1.466 or less never") == 2


def test_fewer_seeds_than_those_of_a_record_are_none(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [{"seed": seed, "tokens": 10 * seed, "nats": 4.5} for seed in (1, 2, 3)]
    assert run.verdict(PTB, lines, [2])
    assert "ptb-100: reached, at most 20 tokens; not a record yet, without seeds 1, 3" in capsys.readouterr().out
    assert run.verdict(PTB, lines, [1, 2, 3])
    assert "ptb-100: reached by all; at most 30 tokens" in capsys.readouterr().out


def test_runs_continue_only_with_the_recipe_that_they_began_with(small: Track, tmp_path: Path) -> None:
    short, folder = load_recipe(small, recipe(tmp_path, 3), tmp_path, {}), tmp_path / "runs"
    run.keep_recipe(folder, short)
    run.keep_recipe(folder, configuration.with_values(short, {"data.directory": "elsewhere", "cluster.num_workers": 2}))
    longer = configuration.with_values(short, {"train.max_steps": 6, "train.epochs": 10})
    with pytest.raises(UserError, match=r"began with another train\.epochs, train\.max_steps; use another --to"):
        run.keep_recipe(folder, longer)
    (tmp_path / "old" / "seed-1").mkdir(parents=True)
    with pytest.raises(UserError, match=r"has runs, but no recipe\.json with the recipe that they began with"):
        run.keep_recipe(tmp_path / "old", short)


def test_a_recipe_is_one_file(small: Track, tmp_path: Path) -> None:
    path = tmp_path / "above.yaml"
    path.write_text(f"base: {recipe(tmp_path, 3)}\ntrain: {{max_steps: 6}}\n")
    with pytest.raises(UserError, match=r"above\.yaml: base: a record is one file"):
        load_recipe(small, path, tmp_path, {})


def test_the_tokens_of_a_log_that_misses_the_target_are_refused(small: Track, tmp_path: Path) -> None:
    path = tmp_path / "recipe.csv"
    assert timing.tokens_in_log(small, path) is None
    lines = [{"seed": seed, "epoch": 1.0, "tokens": 10 * seed, "nats": 1.9} for seed in (1, 2, 3)]
    path.write_text(run.as_csv(lines))
    assert timing.tokens_in_log(small, path) == 30
    path.write_text(run.as_csv([*lines[:2], {**lines[2], "nats": 2.1}]))
    with pytest.raises(UserError, match=r"recipe\.csv: seed 3 does not reach 2\.0 in it"):
        timing.tokens_in_log(small, path)


def test_a_log_reaches_the_target_only_if_the_run_does(tmp_path: Path) -> None:
    """Figures rounded to five digits would: those of a perplexity of 100.0004 and of 1.466004 bits per byte."""
    for track, above in ((PTB, {"nats": math.log(100) + 4e-6}), (ENGLISH, {"bits_per_byte": 1.466 + 4e-6})):
        path = tmp_path / f"{track.name}.csv"
        lines = [{"seed": seed, "epoch": 1.0, "tokens": 10, "nats": 1.0, **above} for seed in tracks.SEEDS]
        path.write_text(run.as_csv(lines))
        with pytest.raises(UserError, match=r"seed 1 does not reach"):
            timing.tokens_in_log(track, path)
        assert all(track.figure(one) == track.figure(line) for one, line in zip(read_log(path), lines, strict=True))


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
    assert "small: reached, at most " in capsys.readouterr().out
    lines = read_log(tmp_path / "long.csv")
    assert [line["seed"] for line in lines].count(1) >= 3
    # 2,999 targets make 8 streams of 374: 23 windows of 16 and one of 6 per epoch; 90 updates: 3 epochs and 18 windows
    assert lines[-1]["tokens"] == 8 * (3 * 374 + 18 * 16)
    assert runs(3, "short") == 1
    assert "small: not a record, 2 of 2 seeds miss the target" in capsys.readouterr().out
    again = f"small --text {tmp_path} --recipe {recipe(tmp_path, 6)} --to {tmp_path / 'long'}".split()
    monkeypatch.setattr(sys, "argv", ["run.py", *again])
    with pytest.raises(SystemExit, match=r"error: .*long/small-recipe: has runs that began with another .*max_steps"):
        run.main()


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
    needed = timing.tokens_in_log(track, recipe.with_suffix(".csv"))
    row = next(line for line in (tracks.FOLDER / "README.md").read_text(encoding="utf-8").splitlines()
               if f"{recipe.parent.name}/{recipe.name}" in line)  # fmt: skip
    assert f"{needed:,} (peer: " in row
    assert f"{track.peer.get('tokens') or track.peer['at_least']:,}" in row


def test_the_peer_of_ptb_100_needs_an_epoch_more_than_the_log_of_it_has() -> None:
    log = (tracks.FOLDER / "peers" / "ptb-100.csv").read_text().splitlines()
    epochs, tokens, _, perplexity = log[-1].split(",")
    num_per_epoch = (929_589 // 20 - 1) * 20  # 20 streams of whole words, whose first one is no target
    assert int(tokens) == int(epochs) * num_per_epoch
    assert float(perplexity) > PTB.at_most
    assert PTB.peer["at_least"] == (int(epochs) + 1) * num_per_epoch


def test_a_recipe_that_is_a_peer_may_run_on_earlier_code(tmp_path: Path) -> None:
    track = tracks.tracks()["characters-1.15"]
    assert timing.environment_of_peer(track, None) == dict(os.environ)
    with pytest.raises(UserError, match="it has no folder pipeline"):
        timing.environment_of_peer(track, tmp_path)
    (tmp_path / "pipeline").mkdir()
    assert timing.environment_of_peer(track, tmp_path)["PYTHONPATH"] == str(tmp_path.resolve())
    with pytest.raises(UserError, match="the peer of ptb-100 is no recipe"):
        timing.environment_of_peer(PTB, tmp_path)

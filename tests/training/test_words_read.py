"""A budget of words, and checkpoints at given numbers of words: the same after kills and on any number of ranks."""

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jobs import export
from jobs.shared.cli import run_job
from pipeline import config as configuration
from pipeline import launch, status
from pipeline.config import Config
from pipeline.config.word_numbers import BABYLM_WORDS
from pipeline.data.prepare import prepare_in_process
from pipeline.data.shards import open_prepared
from pipeline.dry_run import dry_run
from pipeline.errors import UserError
from pipeline.resources import local_worker
from pipeline.training import checkpoint, word_marks
from pipeline.training.monitor import read
from pipeline.training.word_marks import reached, revision
from tests.training.ranks import Plan, carry_out, train_on_ranks

NUMBERS = [50, 100, 150, 400, 700, 1000]
# a window has about 5 words, an epoch about 550
COUNTED = {
    "train.epochs": 2, "train.max_words": 1000, "train.checkpoint_at_words": NUMBERS, "train.keep_checkpoints": 1,
    "train.batch_size": 2, "model.dropout": 0.2, "train.evaluate_every_steps": 80, "evaluate.burn_in": 8,
}  # fmt: skip
KILLS: list[dict[str, int]] = [{"fail_at_forward": 23}, {"fail_at_forward": 40}, {"fail_at_report": 2}]
Make = Callable[..., Config]


@pytest.fixture
def make_counted(make_config: Make, tiny_text: Path, tmp_path: Path) -> Make:
    """A function: changes → the configuration of a run on 50 lines of 12 words that counts words."""
    text = tmp_path / "short.txt"
    text.write_text("".join(tiny_text.read_text().splitlines(keepends=True)[:50]))
    return lambda changes=None: make_config({"corpus.train": [str(text)], **COUNTED, **(changes or {})})


def marks_of(config: Config) -> dict[int, tuple[int, int, dict[str, torch.Tensor]]]:
    """Number → step, words and weights of the checkpoint that stands for it."""
    found = {}
    for path, manifest in checkpoint.manifests(str(config.run.directory)):
        for number in manifest.get("at_words", ()):
            weights = dict(checkpoint.load_model(path).model.state_dict())
            found[number] = manifest["step"], manifest["words"], weights
    return found


def assert_same_marks(ours: Config, theirs: Config) -> None:
    a, b = marks_of(ours), marks_of(theirs)
    assert [(number, *mark[:2]) for number, mark in a.items()] == [(number, *mark[:2]) for number, mark in b.items()]
    for number, (_, _, weights) in a.items():
        assert all(torch.equal(weights[name], b[number][2][name]) for name in weights), number


def words_by_hand(config: Config) -> Iterator[tuple[int, int]]:
    """(step, words) after each update, from the characters of the training split."""
    corpus = open_prepared(config.data.directory)
    tokens = corpus.splits["train"]
    text = corpus.tokenizer.decode(tokens[0 : len(tokens)])
    begins = np.array([not b.isspace() and a.isspace() for a, b in zip("\n" + text, text, strict=False)])
    train = config.train
    length = (len(text) - 1) // train.batch_size
    streams = begins[: train.batch_size * length].reshape(train.batch_size, length)  # (B, L)
    step = before = 0
    for _ in range(train.epochs):
        for end in [*range(train.bptt, length, train.bptt), length]:
            step += 1
            yield step, before + int(streams[:, :end].sum())
        before += int(streams.sum())


def test_a_run_ends_with_its_budget_and_saves_at_each_number(make_counted: Make) -> None:
    config = make_counted()
    result = launch.train(config, launch.in_process)
    by_hand = dict(words_by_hand(config))
    assert by_hand[result["steps"]] == result["words"] <= 1000 < by_hand[result["steps"] + 1]
    marks = marks_of(config)
    assert list(marks) == NUMBERS  # every checkpoint is kept
    for number, (step, words, _) in marks.items():
        assert words == by_hand[step]
        # the last number is the budget itself, which one more window would exceed
        assert by_hand[step - 1] < number <= words or (number == 1000 and step == result["steps"])
    assert len(checkpoint.manifests(str(config.run.directory))) <= len(NUMBERS) + 1  # and the best checkpoint
    # the schedule ends with the budget
    lr = [r["lr"] for r in read(Path(str(config.run.directory)) / "metrics.jsonl") if r["kind"] == "train"]
    assert lr[-1] < 1e-4 * config.optimizer.lr
    assert status.ended(config, open_prepared(config.data.directory)) == (
        "finished (a larger train.max_words continues it)"
    )
    figures = dry_run(config)
    assert figures["steps"] == result["steps"]
    assert figures["words_per_epoch"] == by_hand[figures["steps_per_epoch"]]


def test_killed_three_times_a_run_has_the_same_checkpoints(make_counted: Make, tmp_path: Path) -> None:
    config = make_counted()
    broken = configuration.with_values(config, {"run.directory": str(tmp_path / "broken")})
    prepare_in_process(config)
    launch.train(config, launch.in_process)
    for how in KILLS:
        carry_out(Plan(broken, **how), local_worker(broken))  # type: ignore[arg-type]
    launch.train(broken, launch.in_process)
    assert_same_marks(broken, config)


def test_two_ranks_count_as_one_and_go_on_after_kills(make_counted: Make, tmp_path: Path) -> None:
    one = make_counted({"train.epoch_order": "rotated", "train.window_lengths": "random"})
    two, broken = (
        configuration.with_values(one, {"run.directory": str(tmp_path / name)}) for name in ("two", "broken")
    )
    prepare_in_process(one)
    launch.train(one, launch.in_process)
    plans = [
        Plan(two),
        *(Plan(broken, **how) for how in KILLS[:2]),  # type: ignore[arg-type]
        Plan(broken),
    ]
    train_on_ranks(2, *plans)
    assert_same_marks(broken, two)
    assert [(n, *mark[:2]) for n, mark in marks_of(one).items()] == [
        (n, *mark[:2]) for n, mark in marks_of(two).items()
    ]


def test_counting_can_begin_with_a_run_that_did_not_count(make_counted: Make, tmp_path: Path) -> None:
    counted = make_counted({"optimizer.schedule": "constant"})
    launch.train(counted, launch.in_process)
    late = {"run.directory": str(tmp_path / "late"), "train.max_words": None, "train.checkpoint_at_words": []}
    plain = configuration.with_values(counted, {**late, "train.max_steps": 20})
    result = launch.train(plain, launch.in_process)
    assert "words" not in result
    path = checkpoint.find(str(plain.run.directory), "last")
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["words"] is None
    rest = configuration.with_values(counted, {"run.directory": str(tmp_path / "late")})
    assert (
        launch.train(rest, launch.in_process)["words"]
        == checkpoint.manifests(str(counted.run.directory))[-1][1]["words"]
    )
    early = {number for number in NUMBERS if number <= dict(words_by_hand(counted))[20]}
    assert set(marks_of(rest)) == set(NUMBERS) - early


def test_which_numbers_a_checkpoint_stands_for() -> None:
    assert reached([10, 20, 30], before=9, now=20, is_last=False) == [10, 20]
    assert reached([10, 20, 30], before=20, now=29, is_last=False) == []
    assert reached([1000, 2000], before=900, now=989, is_last=True) == []
    assert reached([1000, 2000], before=900, now=990, is_last=True) == [1000]
    assert reached([1000, 2000], before=999, now=1985, is_last=True) == [1000, 2000]


def test_the_numbers_and_names_of_babylm() -> None:
    # the names that BabyLM's evaluation pipeline asks for: chck_1M … chck_9M, chck_10M … chck_100M
    expected = [f"chck_{i}M" for i in range(1, 10)] + [f"chck_{i * 10}M" for i in range(1, 11)]
    assert [revision(number) for number in BABYLM_WORDS] == expected
    assert [revision(300), revision(250_000), revision(1_500_000)] == ["chck_300", "chck_250K", "chck_1500K"]
    assert configuration.load(overrides=["train.checkpoint_at_words=babylm"]).train.words_of_checkpoints == BABYLM_WORDS


def test_the_next_checkpoint_takes_over_the_number_of_one_that_could_not_be_written(
    make_counted: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_counted({"train.checkpoint_every_steps": 15})
    save, failed = checkpoint.save, []

    def fails_once(*arguments: Any, facts: dict[str, Any], **named: Any) -> Path:
        if facts.get("at_words") == [100] and not failed:
            failed.append(facts["step"])
            raise OSError(28, "No space left on device", "somewhere")
        return save(*arguments, facts=facts, **named)

    monkeypatch.setattr(checkpoint, "save", fails_once)
    launch.train(config, launch.in_process)
    marks = marks_of(config)
    assert list(marks) == NUMBERS
    assert marks[100][0] == failed[0] // 15 * 15 + 15


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"train.max_words": 0}, r"train\.max_words: .*greater than or equal to 1"),
        (
            {"train.checkpoint_at_words": [5, 5]},
            r"train\.checkpoint_at_words: must be rising numbers of words, not 5",
        ),
        ({"train.checkpoint_at_words": [0]}, r"must be babylm, or a list of numbers of words of at least 1, not \[0\]"),
        ({"train.checkpoint_at_words": "babylon"}, r"must be babylm, or a list of .*, not 'babylon'"),
        (
            {"train.checkpoint_at_words": "babylm", "train.epochs": 11},
            r"train\.epochs: BabyLM lets a model read its text 10 times at most, not 11",
        ),
        (
            {"train.max_words": 9, "train.changes": [{"tokens": 9, "settings": {"train.bptt": 5}}]},
            r"train\.changes: train\.bptt: cannot change in a run that ends before a window would exceed its number",
        ),
    ],
)
def test_word_settings_that_make_no_sense_are_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        configuration.with_values(configuration.load(), changes)


def test_a_budget_below_the_first_window_is_refused(make_config: Callable[..., Config]) -> None:
    config = make_config({"train.max_words": 3})
    with pytest.raises(UserError, match=r"train\.max_words: 3 words are fewer than the \d+ of the first window"):
        launch.train(config, launch.in_process)
    assert not Path(str(config.run.directory)).exists()


def test_revisions_are_exported(make_counted: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = make_counted({"train.max_words": 200, "train.checkpoint_at_words": [50, 100, 150]})
    launch.train(config, launch.in_process)
    directory, folder = str(config.run.directory), tmp_path / "folder"
    export.main(["--run", directory, "--to", str(folder), "--format", "torch", "--revision", "chck_100"])
    assert checkpoint.load_model(folder).manifest["words"] == marks_of(config)[100][1]
    assert f"{marks_of(config)[100][1]:,} words" in (folder / "README.md").read_text()
    everything = tmp_path / "all"
    result = export.main(["--run", directory, "--to", str(everything), "--format", "torch", "--revision", "all"])
    assert result is not None
    names = ["chck_100", "chck_150", "chck_50", "main"]
    assert sorted(path.name for path in everything.iterdir()) == sorted(result["revisions"]) == names
    for number, (step, words, _) in marks_of(config).items():
        manifest = checkpoint.load_model(everything / f"chck_{number}").manifest
        assert (manifest["step"], manifest["words"]) == (step, words)
    with pytest.raises(SystemExit, match="2"):
        run_job(export.main, ["--run", directory, "--to", "x", "--format", "torch", "--revision", "chck_1M"])
    error = capsys.readouterr().err
    assert error.endswith("has no checkpoint called chck_1M; it has chck_50, chck_100, chck_150\n")
    assert error.startswith("error: --revision: ")


def start(settings: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "jobs.train", "--config", str(settings)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.slow
def test_two_million_words_as_in_babylm_killed_with_sigkill_three_times(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    """Ten readings of 200,000 words, with checkpoints at every tenth of the first reading, then after each reading."""
    source = random.Random(3)
    words = ["".join(source.choices("abcdefghij", k=source.randint(1, 9))) for _ in range(300)]
    text = tmp_path / "train.txt"
    text.write_text("\n".join(" ".join(source.choices(words, k=10)) for _ in range(20_020)))
    valid = tmp_path / "valid.txt"
    valid.write_text("\n".join(" ".join(source.choices(words, k=10)) for _ in range(50)))
    numbers = [*range(20_000, 200_000, 20_000), *range(200_000, 2_000_001, 200_000)]
    config = make_config(
        {
            "corpus.train": [str(text)], "corpus.valid": [str(valid)], "tokenizer.kind": "word",
            "train.batch_size": 128, "model.hidden_size": 16, "model.num_layers": 1, "train.bptt": 64,
            "train.epochs": 10, "train.max_words": 2_000_000, "train.checkpoint_at_words": numbers,
            "model.dropout": 0.1, "train.keep_checkpoints": 1, "train.log_every_steps": 100,
        }
    )  # fmt: skip
    launch.train(config, launch.in_process)
    assert list(marks_of(config)) == numbers
    broken = configuration.with_values(config, {"run.directory": str(tmp_path / "broken")})
    settings = tmp_path / "broken.yaml"
    settings.write_text(configuration.to_yaml(broken))
    for num_marks in (3, 8, 13):
        process = start(settings)
        deadline = time.monotonic() + 300
        while len(word_marks.revisions(str(broken.run.directory))) < num_marks and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(source.uniform(0, 0.5))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    process = start(settings)
    output, _ = process.communicate(timeout=500)
    assert process.returncode == 0, output
    started = [r["step"] for r in read(Path(str(broken.run.directory)) / "metrics.jsonl") if r["kind"] == "start"]
    assert len(started) == 4
    assert started == sorted(set(started))
    assert_same_marks(broken, config)

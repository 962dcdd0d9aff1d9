"""The command line: a mistake is one clear sentence and exit code 2; and jobs that are cut off."""

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

from jobs import evaluate, generate, prepare, train
from jobs.shared.cli import as_option, run_job
from jobs.shared.models import device_of
from pipeline import launch
from pipeline.config import Config
from pipeline.data.prepare import prepare_in_process
from pipeline.errors import Notice, UserError
from pipeline.training import checkpoint


def refused(capsys: pytest.CaptureFixture[str], job: Callable[..., object], *argv: str) -> str:
    """The sentence on standard error of a job that ends with exit code 2."""
    with pytest.raises(SystemExit) as caught:
        run_job(job, list(argv))  # type: ignore[arg-type]
    error = capsys.readouterr().err
    assert caught.value.code == 2
    assert "Traceback" not in error
    assert error.count("error: ") == 1
    return error.partition("error: ")[2].rstrip("\n")


LOCAL = ("cluster.backend=local",)


def test_mistakes_in_the_corpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").touch()
    (tmp_path / "short.txt").write_text("a few words only")
    (tmp_path / "latin.txt").write_bytes(b"caf\xc3\xa9 and caf\xe9")
    before = sorted(tmp_path.rglob("*"))
    assert refused(capsys, train.main, "corpus.train=*.csv", *LOCAL) == "corpus.train: no file matches *.csv"
    assert refused(capsys, train.main, "corpus.train=empty.txt", *LOCAL) == "corpus.train: there is no text in it"
    assert "latin.txt: not UTF-8 at byte offset 13" in refused(
        capsys, prepare.main, "corpus.train=latin.txt", "corpus.valid_fraction=0", "tokenizer.kind=byte", *LOCAL
    )
    assert sorted(tmp_path.rglob("*")) == before
    sentence = refused(
        capsys, train.main, "corpus.train=short.txt", "corpus.valid_fraction=0", "tokenizer.kind=byte", *LOCAL
    )
    assert "the training split has 16 tokens, but one window per stream needs 2,049" in sentence
    assert not (tmp_path / "runs" / "default").exists()


def test_mistakes_in_the_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean hidden_size?" in refused(capsys, train.main, "model.hiden_size=3")
    assert refused(capsys, train.main, "--config", "nowhere.yaml") == "--config: no such file: nowhere.yaml"
    assert "unrecognized arguments: --nonsense" in refused(capsys, train.main, "--nonsense")
    assert "no GPU here" in refused(capsys, train.main, "cluster.device=cuda", *LOCAL)


def test_what_a_newcomer_types(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("book.txt").write_text("a line of text\n" * 50)
    for argv, hint in {
        "book.txt": "; did you mean corpus.train=book.txt?",
        "corpus.train book.txt": "; its value follows without blanks: corpus.train=…",
        "mine.yaml": "; did you mean --config mine.yaml?",
        "nothing.txt": "",
    }.items():
        word = argv.split()[0]
        assert refused(capsys, train.main, *argv.split()) == f"{word}: is not a section.field=value{hint}"
    Path("table.csv").write_text("item,text\n1,a line of text\n" * 50)
    sized = ("train.bptt=8", "train.batch_size=2", "tokenizer.kind=byte", "--dry-run", *LOCAL)
    with pytest.warns(Notice, match=r"^corpus\.train: \*\.csv is read as plain text, commas and all; JSON Lines"):
        train.main(["corpus.train=*.csv", *sized])
    recipe = Path(train.__file__).parents[1] / "configs" / "quickstart.yaml"
    assert (
        refused(capsys, train.main, "--config", "configs/quickstart.yaml")
        == f"--config: no such file: configs/quickstart.yaml; did you mean {recipe}?"
    )
    assert refused(capsys, train.main, "corpus.train=book.txt", "run.directory=book.txt", *LOCAL) == (
        f"run.directory: cannot write to {tmp_path}/book.txt: it is a file, not a directory"
    )


def test_a_missing_gpu_is_refused_by_the_option_that_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError) as caught:
        device_of(argparse.Namespace(device="cuda"))
    assert as_option(caught.value) == "--device: cuda was asked for, but there is no GPU here"
    assert device_of(argparse.Namespace(device="auto")) == torch.device("cpu")


@pytest.mark.parametrize(("pattern", "where"), [(".", "run"), ("**", "run"), ("*", "."), ("deep/**", "deep/run")])
def test_a_run_directory_among_the_texts_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], pattern: str, where: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("deep").mkdir()
    for name in ("a.txt", "deep/b.txt"):
        Path(name).write_text("a line of text\n" * 50)
    assert refused(capsys, train.main, f"corpus.train={pattern}", f"run.directory={where}", *LOCAL) == (
        f"run.directory: what is written to {where} would be among the texts of corpus.train ({pattern}); "
        "name another directory, or only the texts (such as *.txt)"
    )
    sized = ("--dry-run", "train.bptt=8", "train.batch_size=2", "tokenizer.kind=byte")
    assert train.main(["corpus.train=**/*.txt", f"run.directory={where}", *sized, *LOCAL]) is not None


@pytest.mark.parametrize(
    ("job", "argv", "hint"),
    [
        (train, ["--lr", "0.1"], "--lr; did you mean optimizer.lr=0.1?"),
        (train, ["--optimizer.lr=0.1"], "--optimizer.lr=0.1; did you mean optimizer.lr=0.1?"),
        (train, ["--seed", "3"], "--seed; did you mean train.seed=3 or search.seed=3?"),
        (train, ["--hidden-size", "--json"], "--hidden-size; did you mean model.hidden_size=…?"),
        (train, ["--frseh"], "--frseh; did you mean --fresh?"),
        (train, ["--nonsense"], "--nonsense"),
        (generate, ["--run", "x", "--promt", "y"], "--promt y; did you mean --prompt?"),
        (generate, ["--run", "x", "--prompt", "The", "cat"], "cat; a value with blanks needs quotes"),
        (generate, ["--run", "x", "--lr", "3"], "--lr 3"),
        (generate, ["--run", "x", "word"], "word; a value with blanks needs quotes"),
    ],
)
def test_an_unknown_option_is_named_with_what_was_meant(
    job: ModuleType, argv: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name = job.__name__
    assert refused(capsys, job.main, *argv) == f"python -m {name}: unrecognized arguments: {hint} (see --help)"


def test_an_argument_that_is_not_utf8_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        refused(capsys, train.main, "corpus.train=caf\udce9") == "an argument is not UTF-8: 'corpus.train=caf\\udce9'"
    )


def test_settings_can_stand_on_both_sides_of_options(tiny_text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = train.main(["train.max_steps=5", "tokenizer.kind=byte", "--dry-run", f"corpus.train={tiny_text}"])
    assert result is not None
    assert result["steps"] == 5


def test_starting_over_sets_nothing_aside_until_the_settings_are_found_good(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    config = make_config({"train.max_steps": 3})
    launch.train(config, launch.in_process)
    for mistake in ({"corpus.train": ["typo.txt"]}, {"run.sample_prompt": "Zebra"}):
        with pytest.raises(ValueError, match=r"typo\.txt|sample_prompt"):
            launch.train(make_config(mistake), launch.in_process, fresh=True)
    assert not list(tmp_path.glob("run.old-*"))
    # with the corpus inside the run's directory too, after it has been found good
    within = {"data.directory": str(tmp_path / "run" / "data")}
    other = make_config({"train.max_steps": 3, "model.hidden_size": 13, **within})
    sentences: list[str] = []
    assert launch.train(other, launch.in_process, fresh=True, say=sentences.append)["steps"] == 3
    assert sentences == [f"what {tmp_path / 'run'} held is set aside as {tmp_path / 'run'}.old-1"]
    assert checkpoint.find(tmp_path / "run.old-1", "last").name == "step-00000003"


def test_a_corpus_that_replaced_the_trained_one_is_not_scored(
    make_config: Callable[..., Config], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config({"train.max_steps": 3, "tokenizer.kind": "byte"})
    launch.train(config, launch.in_process)
    shutil.rmtree(tmp_path / "data")
    (tmp_path / "other.txt").write_text("another text\n" * 400)
    prepare_in_process(make_config({"tokenizer.kind": "byte", "corpus.train": [str(tmp_path / "other.txt")]}))
    sentence = refused(capsys, evaluate.main, "--run", str(config.run.directory))
    assert sentence.startswith(f"{tmp_path / 'data'}: holds a different corpus from the one that ")


def test_a_closed_output_pipe_ends_the_job() -> None:
    code = "from jobs.shared.cli import run_job; run_job(lambda argv: print('text ' * 100_000))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


def test_a_run_directory_in_use(make_config: Callable[..., Config], capsys: pytest.CaptureFixture[str]) -> None:
    from pipeline.training.directory import RunDirectory

    config = make_config()
    with (
        RunDirectory(str(config.run.directory)).locked(),
        pytest.raises(ValueError, match="is in use by another run"),
    ):
        launch.train(config, launch.in_process)


def test_ctrl_c_saves_says_how_to_continue_and_exits_130(tiny_text: Path, tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "jobs.train", f"corpus.train={tiny_text}", "tokenizer.kind=char", "cluster.backend=local",
        f"run.directory={tmp_path / 'run'}", f"data.directory={tmp_path / 'data'}", "model.hidden_size=16",
        "train.epochs=500", "train.batch_size=4", "train.bptt=16",
    ]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    metrics = tmp_path / "run" / "metrics.jsonl"
    try:
        while '"train"' not in (metrics.read_text() if metrics.exists() else ""):
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(2)
        _, error = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "its state is saved; to continue:" in error
    assert f"python -m jobs.train corpus.train={tiny_text}" in error
    assert list((tmp_path / "run" / "checkpoints").glob("step-*"))


@pytest.mark.parametrize("given", ["--config", "--dry-run", "tokenizer.kind=byte"])
def test_a_prepared_corpus_is_verified_as_it_is(capsys: pytest.CaptureFixture[str], given: str) -> None:
    options = [given, *["none.yaml"] * (given == "--config")]
    told = refused(capsys, prepare.main, "--verify", "data", *options)
    assert told.startswith(f"{given}: --verify looks at a corpus as it is; leave ")


def test_any_mistake_is_reported_in_few_short_lines(capsys: pytest.CaptureFixture[str]) -> None:
    many = [f"model.nosuch{number}=1" for number in range(9)]
    told = refused(capsys, train.main, *many).splitlines()
    assert told[:5] == [f"model.nosuch{number}: unknown setting" for number in range(5)]
    assert told[5:] == ["… and 4 more"]
    assert refused(capsys, train.main, "--config", "a\nb\x1b[2J") == "--config: no such file: a\\nb\\x1b[2J"
    assert (
        refused(capsys, train.main, "--config", "x" * 5000) == f"--config: cannot read {'x' * 199}…: File name too long"
    )

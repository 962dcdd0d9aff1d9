"""A dry run refuses what the command itself would refuse, before its work or after a part of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs import compare, prepare, search, train
from jobs.shared.cli import run_job
from tests.jobs.test_cli import LOCAL, refused

Capture = pytest.CaptureFixture[str]

TINY = ["model.num_layers=1", "model.hidden_size=8", "train.bptt=5", "train.batch_size=2", "run.sample_tokens=0"]
SEARCH = ["search.space={optimizer.lr: [0.1, 0.2]}", "search.num_trials=2"]
COMPARE = ["compare.variants={a: {}, b: {model.cell: gru}}", "compare.seeds=[1]", "compare.parameters=20_000"]
OF_JOB: dict[str, tuple[Callable[[list[str]], Any], list[str]]] = {
    "prepare": (prepare.main, list(LOCAL)),
    "train": (train.main, [*TINY, *LOCAL]),
    "search": (search.main, [*TINY, *SEARCH]),
    "compare": (compare.main, [*TINY, *COMPARE]),
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("of many words a text\n" * 40)
    (tmp_path / "line.txt").write_text("one line of words " * 40)
    (tmp_path / "short.txt").write_text("a\nb\nc\n")
    (tmp_path / "a").write_text("a")
    return tmp_path


def said(capsys: Capture, job: str, *settings: str) -> str:
    main, own = OF_JOB[job]
    return refused(capsys, main, *own, *settings, "--dry-run")


@pytest.mark.parametrize("job", OF_JOB)
@pytest.mark.parametrize("kind", ["byte", "bpe"])
def test_a_held_out_split_without_a_token(capsys: Capture, folder: Path, job: str, kind: str) -> None:
    before = sorted(folder.rglob("*"))
    one_document = ["corpus.train=line.txt", "corpus.document=line", "corpus.split_by=document"]
    sentence = said(capsys, job, *one_document, f"tokenizer.kind={kind}")
    advice = "change corpus.valid_fraction or name a corpus.valid"
    assert sentence == f"corpus.valid: there is no token in its 36 bytes of text; {advice}"
    filtered = ["corpus.train=text.txt", "corpus.valid=short.txt", "corpus.document=line", "corpus.min_characters=2"]
    sentence = said(capsys, job, *filtered, f"tokenizer.kind={kind}")
    assert sentence == "corpus.valid: there is no token in its 6 bytes of text"
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("kind", ["byte", "bpe"])
@pytest.mark.parametrize("options", [LOCAL, [*LOCAL, "--dry-run"]])
def test_a_text_of_which_nothing_is_left_in_spite_of_its_weight(capsys: Capture, kind: str, options: list[str]) -> None:
    """The last twentieth of all text is held out, and that is all of the second one."""
    settings = ["corpus.train=[text.txt, short.txt]", "corpus.weights=[1, 9]", "corpus.document=line"]
    sentence = refused(capsys, prepare.main, *settings, f"tokenizer.kind={kind}", *options)
    assert sentence.startswith(
        "corpus.weights: nothing of short.txt is in the training split, in spite of its weight of"
    )
    assert " 9; give it a larger one or name a corpus.valid, or leave the pattern out" in sentence


@pytest.mark.parametrize("job", ["train", "search", "compare"])
def test_a_validation_split_of_a_single_token(capsys: Capture, job: str) -> None:
    sentence = said(capsys, job, "corpus.train=text.txt", "corpus.valid=a", "tokenizer.kind=byte")
    assert sentence == "corpus.valid: a single token of validation text cannot be scored; at least 2 are needed"


def test_a_test_split_of_a_single_token_ends_no_comparison_after_its_training(capsys: Capture) -> None:
    settings = ["corpus.train=text.txt", "corpus.valid=short.txt", "corpus.test=a", "tokenizer.kind=byte"]
    sentence = said(capsys, "compare", *settings)
    assert sentence == "corpus.test: a single token of test text cannot be scored; at least 2 are needed"


# what else is refused after a part of the work: job, settings, sentence
LATE = {
    "a prompt": (
        "train",
        ["tokenizer.kind=char", "run.sample_tokens=5", "run.sample_prompt=ß"],
        "run.sample_prompt: ",
    ),
    "no ends of documents": ("train", ["tokenizer.kind=byte", "data.layout=documents"], "data.layout: documents begin"),
    "no ends, of BPE": ("train", ["tokenizer.kind=bpe", "data.layout=documents"], "data.layout: documents begin"),
    "a corpus among its texts": (
        "prepare",
        ["corpus.train=.", "data.directory=there", "tokenizer.kind=byte"],
        "data.directory: what is written to there would be among the texts",
    ),
    "too many CPUs": (
        "train",
        ["tokenizer.kind=byte", "cluster.cpus_per_worker=100000"],
        "cluster.cpus_per_worker: 1 ",
    ),
    "an interval": (
        "search",
        ["tokenizer.kind=byte", "search.scheduler=pbt", "search.perturbation_interval_tokens=900_000"],
        "search.perturbation_interval_tokens: 900,000 is not below",
    ),
    "no budget": ("search", ["search.space={tokenizer.vocab_size: [270, 280]}"], "search.max_tokens: trials of differ"),
    "a variant's windows": (
        "compare",
        ["tokenizer.kind=byte", "compare.variants={a: {}, b: {train.bptt: 400}}"],
        "compare.variants: b: train.batch_size: the training split has 798 tokens, but one window per stream needs 801",
    ),
}


@pytest.mark.parametrize("name", LATE)
def test_what_would_be_refused_later(capsys: Capture, folder: Path, name: str) -> None:
    job, settings, sentence = LATE[name]
    before = sorted(folder.rglob("*"))
    assert said(capsys, job, "corpus.train=text.txt", *settings).startswith(sentence)
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    "settings",
    [
        ["search", "search.scheduler=pbt", "search.perturbation_interval_tokens=300"],
        ["compare", "compare.variants={a: {}, b: {train.bptt: 150}}"],
    ],
)
def test_an_estimate_of_tokens_refuses_nothing(capsys: Capture, settings: list[str]) -> None:
    """The text has 840 bytes: an estimate of 200 tokens of BPE, but with few types it has nearly as many as bytes."""
    main, own = OF_JOB[settings[0]]
    bpe = ["corpus.train=text.txt", "tokenizer.kind=bpe", "tokenizer.vocab_size=270", "train.epochs=1"]
    run_job(main, [*own, *bpe, *settings[1:], "--dry-run"])
    assert "vocab_size: 270" in capsys.readouterr().out


@pytest.mark.parametrize("job", ["search", "compare"])
def test_a_directory_that_holds_a_run(capsys: Capture, folder: Path, job: str) -> None:
    (folder / "held").mkdir()
    (folder / "held" / "metrics.jsonl").touch()
    sentence = said(capsys, job, "corpus.train=text.txt", "tokenizer.kind=byte", "run.directory=held")
    assert sentence.startswith("run.directory: ")
    assert "holds a run, not a " in sentence


def test_another_corpus_and_another_run(capsys: Capture) -> None:
    """Another corpus in the directory is a note, as counts were asked for; another run there is refused."""
    settings = ["corpus.train=text.txt", "data.directory=there", "tokenizer.kind=byte", "train.max_steps=1"]
    main, own = OF_JOB["train"]
    run_job(main, [*own, *settings])
    with pytest.warns(UserWarning, match=r"^only a dry run goes on here: .*tokenizer\.kind was 'byte', is 'char'"):
        run_job(main, [*own, *settings, "tokenizer.kind=char", "--dry-run"])
    other = [*settings, "model.hidden_size=9"]
    assert said(capsys, "train", *other).endswith("(--fresh starts over)")
    run_job(main, [*own, *other, "--fresh", "--dry-run", "--json"])
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["tokens"] == 798
    again = [*settings, "train.initial_weights=first", "run.directory=second"]  # in a checkpoint, paths are absolute
    run_job(main, [*own, *settings, "run.directory=first"])
    run_job(main, [*own, *again])
    run_job(main, [*own, *again, "--dry-run"])

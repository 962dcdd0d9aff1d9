"""A key in an address is refused and never shown or written, however it is given."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs import compress, evaluate, generate, prepare, search, submit, train
from jobs.shared.cli import run_job
from pipeline import config as configuration
from pipeline import storage
from pipeline.errors import UserError, carries_key, without_keys

SECRET = "wJalr/XUtnFEMI+K7MDENG"
ADDRESS = f"s3://AKIAEXAMPLE:{SECRET}@texts/a.txt"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://KEY:SECRET@bucket/a.txt: gone", "s3://***@bucket/a.txt: gone"),
        ("'s3://KEY:SE/CR=ET@bucket/a.txt'", "'s3://***@bucket/a.txt'"),
        ("s3:/KEY:SECRET@bucket/a.txt", "s3:/***@bucket/a.txt"),  # as pathlib shortens it
        ("gs://KEY@bucket/a@b.txt", "gs://***@bucket/a@b.txt"),
        ("s3://KEY:1234/5@bucket/a.txt", "s3://***@bucket/a.txt"),
        ("s3://KEY:SECRET", "s3://***"),
        ("http://me:secret@host:8265/ and ray://host:10001", "http://***@host:8265/ and ray://host:10001"),
        ("https://host/a?X-Amz-Signature=abc&b=1", "https://host/a?X-Amz-Signature=***&b=1"),
        ("hf://me/data?token=hf_abc&split=train", "hf://me/data?token=***&split=train"),
    ],
)
def test_keys_are_hidden(text: str, expected: str) -> None:
    assert without_keys(text) == expected
    assert str(UserError(text)) == str(pickle.loads(pickle.dumps(UserError(text)))) == expected


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/folder@2/a:b@c.txt", "s3://bucket: does not answer", "hdfs://host:8020/a@b", "(http://HOST:8265)",
        "http://[::1]:8265/", "hf://me/data@main", "file:///tmp/a@b:c", "file:/tmp/a@b", "s3://bucket/*.txt?",
        "builtin:python-docs", "C:/texts", "at 12:30: a:b@c",
    ],
)  # fmt: skip
def test_text_without_a_key_is_shown_unchanged(text: str) -> None:
    assert without_keys(text) == text
    assert not carries_key(text)


def test_long_texts_are_searched_quickly() -> None:
    # these once took minutes, because each beginning was tried with each length
    for piece in ("a.", "a-", "s3://x?key", "?key", "a:/"):
        text = piece * (100_000 // len(piece))
        assert len(without_keys(text)) <= len(text)


def test_a_store_is_not_asked_with_a_key() -> None:
    with pytest.raises(UserError, match=r"^s3://\*\*\*@texts/a\.txt: an address must not hold a key") as error:
        storage.size(ADDRESS)
    assert SECRET not in str(error.value)


@pytest.mark.parametrize(
    ("job", "arguments"),
    [
        (prepare.main, [f"corpus.train={ADDRESS}"]),
        (prepare.main, [f"corpus.train=[builtin:python-docs, '{ADDRESS}']"]),
        (prepare.main, [f"corpus.trian={ADDRESS}"]),
        (prepare.main, [ADDRESS]),
        (prepare.main, ["--verify", ADDRESS]),
        (train.main, [f"data.directory={ADDRESS}", "cluster.backend=local"]),
        (train.main, [f"model.hidden_size={ADDRESS}"]),
        (train.main, ["--dry-run", f"corpus.valid={ADDRESS}"]),
        (train.main, ["--config", "keys.yaml"]),
        (train.main, ["--config", "broken.yaml"]),
        (search.main, [f"search.space={{corpus.train: {{choice: ['{ADDRESS}', a.txt]}}}}"]),
        (evaluate.main, ["--run", "run", "--text", ADDRESS]),
        (evaluate.main, [f"--run={ADDRESS}"]),
        (generate.main, ["--run", "run", "--prompts", ADDRESS]),
        (compress.main, ["--run", ADDRESS]),
        (submit.main, ["evaluate", "--run", ADDRESS]),
        (submit.main, ["train", f"tokenizer.path={ADDRESS}"]),
    ],
)
def test_no_job_shows_or_keeps_a_key(
    job: Callable[[list[str]], Any],
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("keys.yaml").write_text(f"corpus:\n  train: {ADDRESS}\n")
    Path("broken.yaml").write_text(f"corpus:\n  train: [{ADDRESS}\nmodel: {{\n")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as caught:
        run_job(job, arguments)
    shown = capsys.readouterr()
    assert caught.value.code == 2
    assert shown.err.startswith("error: ")
    assert not any(part in shown.out + shown.err for part in ("AKIA", *SECRET.split("/")))
    assert sorted(tmp_path.rglob("*")) == before


def test_the_refusal_names_the_setting_and_an_alternative() -> None:
    with pytest.raises(UserError, match=r"^corpus\.valid: an address must not hold a key .*AWS_ACCESS_KEY_ID") as error:
        configuration.load(None, [f"corpus.valid={ADDRESS}"])
    assert "\n" not in str(error.value)
    configuration.load(None, ["run.sample_prompt=http://me@host: "])  # a text, not an address

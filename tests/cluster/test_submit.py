"""Jobs submitted to a real cluster on this machine: its token, its Python, their output and their exit codes."""

import json
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jobs import evaluate
from jobs.submit import paths_in
from pipeline.cluster import submit as submission
from pipeline.cluster.job_api import JobApi
from pipeline.training import checkpoint
from pipeline.training.monitor import read
from tests.cluster.heads import Head, clean_environment, private_head

PROJECT = Path(__file__).parents[2]
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    """A cluster that wants a token, started where ``python`` has no packages."""
    bare = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True)
    environment = clean_environment(bare, **TOKEN)
    with private_head({**environment, "PATH": f"{bare}/bin:{environment['PATH']}"}) as head:
        yield head


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of a user who has the token, but not in a file."""
    (tmp_path / "home").mkdir()
    return clean_environment(tmp_path / "home", **TOKEN)


def command(head: Head, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "jobs.submit", *arguments, "--address", head.job_api]


def submit(head: Head, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(head, *arguments),
        capture_output=True,
        text=True,
        cwd=PROJECT,
        timeout=240,
        env=environment,
        check=False,
    )


PUT = "put its head's token into RAY_AUTH_TOKEN, or into a file that RAY_AUTH_TOKEN_PATH names (else ~/.ray/auth_token)"


@pytest.mark.ray
@pytest.mark.slow
def test_a_cluster_that_wants_a_token(head: Head, environment: dict[str, str], tmp_path: Path) -> None:
    """Without a token, with a wrong one, with the right one: each set in the ways a user can."""
    without = {name: value for name, value in environment.items() if name not in TOKEN}
    wants = f"error: --address: the cluster at {head.job_api} wants a token"
    refuses = f"error: --address: the cluster at {head.job_api} refuses the token in"
    wrong = tmp_path / "wrong"
    wrong.write_text("another token\n")
    cases: list[tuple[dict[str, str], str]] = [
        ({}, f"{wants}: set RAY_AUTH_MODE=token, and {PUT}\n"),
        ({"RAY_AUTH_MODE": "token"}, f"{wants}: {PUT}\n"),
        (
            {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "/nowhere"},
            f"{wants}, and none can be read from /nowhere: {PUT}\n",
        ),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "another"}, f"{refuses} RAY_AUTH_TOKEN: it wants the one "),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(wrong)}, f"{refuses} {wrong}: it wants the one "),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "two\nlines"}, "error: RAY_AUTH_TOKEN: holds no token"),
    ]
    for settings, sentence in cases:
        refused = submit(head, {**without, **settings}, "generate", "--run", "/nowhere")
        assert refused.stderr.startswith(sentence), (settings, refused.stderr)
        assert (refused.returncode, refused.stderr.count("\n"), refused.stdout) == (2, 1, ""), settings
    right = tmp_path / "home" / ".ray" / "auth_token"
    right.parent.mkdir()
    right.write_text(TOKEN["RAY_AUTH_TOKEN"])
    # the job runs with Ray's Python and reports its mistake itself, and its exit code comes back
    ran = submit(head, {**without, "RAY_AUTH_MODE": "token"}, "generate", "--run", "/nowhere")
    assert ran.returncode == 2
    assert "/nowhere" in ran.stdout.splitlines()[-1]


@pytest.mark.ray
@pytest.mark.slow
def test_a_job_is_interrupted_followed_again_and_stopped_with_the_commands_that_are_printed(
    head: Head, environment: dict[str, str], tiny_text: Path, tmp_path: Path
) -> None:
    settings = [
        *(f"corpus.train={tiny_text}", "tokenizer.kind=char", f"data.directory={tmp_path / 'data'}"),
        *(f"run.directory={tmp_path / 'run'}", "model.hidden_size=64", "train.epochs=10000", "cluster.backend=local"),
        *("train.batch_size=4", "train.bptt=16", "train.log_every_steps=20"),
    ]
    following = subprocess.Popen(
        command(head, "train", *settings),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=PROJECT, env=environment,
    )  # fmt: skip
    assert following.stdout is not None
    for line in following.stdout:
        if line.startswith("step "):
            break
    following.send_signal(signal.SIGINT)
    said = following.communicate(timeout=60)[1]
    assert following.returncode == 130
    assert "no longer following; the job continues." in said
    pasted = {way: re.findall(rf"^  {way}: +(.*)$", said, re.MULTILINE)[0] for way in ("follow", "stop")}
    again = subprocess.Popen(
        ["bash", "-c", pasted["follow"]], stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=environment
    )
    assert again.stdout is not None
    assert any(line.startswith("step ") for line in again.stdout)
    subprocess.run(["bash", "-c", pasted["stop"]], check=True, capture_output=True, cwd=tmp_path, env=environment)
    log = again.communicate(timeout=120)[0]
    assert "its state is saved; to continue:" in log


@pytest.mark.ray
@pytest.mark.slow
def test_jobs_are_followed_and_their_exit_codes_returned(
    head: Head, environment: dict[str, str], tiny_text: Path, tmp_path: Path
) -> None:
    settings = [
        f"corpus.train={tiny_text}", "tokenizer.kind=char", f"data.directory={tmp_path / 'data'}",
        f"run.directory={tmp_path / 'run'}", "model.hidden_size=8", "model.num_layers=1", "train.max_steps=20",
        "train.batch_size=4", "train.bptt=16", "cluster.cpus_per_worker=1",
    ]  # fmt: skip
    prepared = submit(head, environment, "prepare", *settings, "--json")
    assert prepared.returncode == 0, prepared.stdout + prepared.stderr
    assert json.loads(prepared.stdout.splitlines()[-1])["vocab_size"] > 20
    trained = submit(head, environment, "train", *settings, "--json")
    assert trained.returncode == 0, trained.stdout + trained.stderr
    assert json.loads(trained.stdout.splitlines()[-1])["steps"] == 20
    # the same command again finds the finished run
    assert "holds this run, finished" in submit(head, environment, "train", *settings).stdout
    search = [*settings, f"run.directory={tmp_path / 'search'}", "search.num_trials=2", "train.max_steps=10"]
    space = "search.space={optimizer.lr: [0.001, 0.01]}"
    searched = submit(head, environment, "search", *search, space, "--json")
    assert searched.returncode == 0, searched.stdout + searched.stderr
    assert json.loads(searched.stdout.splitlines()[-1])["trials"] == 2
    # the sentence and the exit code of a job that fails on the cluster come back
    failed = submit(head, environment, "train", *settings, "model.hidden_size=9")
    assert failed.returncode == 2
    assert "model.hidden_size: this run was started with 8 and cannot continue with 9" in failed.stdout


@pytest.mark.ray
@pytest.mark.slow
def test_a_job_that_is_stopped_saves_however_long_its_step_takes(
    head: Head, environment: dict[str, str], tiny_text: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    settings = [
        f"corpus.train={tiny_text}", "tokenizer.kind=char", f"data.directory={tmp_path / 'data'}",
        f"run.directory={run}", "model.hidden_size=512", "model.num_layers=1", "train.epochs=500",
        "train.batch_size=64", "train.bptt=200",
        "train.log_every_steps=1", "train.checkpoint_every_steps=1000", "train.evaluate_every_steps=1000",
        "cluster.num_workers=2", "cluster.cpus_per_worker=1",
    ]  # fmt: skip
    name = re.findall(
        r"^submitted (\S+)", submit(head, environment, "train", *settings, "--no-wait").stderr, re.MULTILINE
    )[0]
    metrics, deadline = run / "metrics.jsonl", time.monotonic() + 200
    while not any(record["step"] == 5 for record in read(metrics)):  # workers agree to stop at every fourth step
        assert time.monotonic() < deadline
        time.sleep(0.1)
    ray = [str(Path(sys.executable).parent / "ray"), "job"]
    subprocess.run([*ray, "stop", "--address", head.job_api, name], check=True, env=environment, capture_output=True)
    command = [*ray, "logs", "--address", head.job_api, name]
    log = subprocess.run(command, check=True, env=environment, capture_output=True, text=True).stdout
    manifest = checkpoint.verify(checkpoint.find(run, "last"))
    assert f"stopped after step {manifest['step']}; its state is saved; to continue:" in log
    assert manifest["step"] % 4 == 0


@pytest.mark.ray
@pytest.mark.slow
def test_a_process_that_joins_through_ray_client_prepares_and_trains(
    head: Head, environment: dict[str, str], tiny_text: Path, tmp_path: Path
) -> None:
    settings = [
        *(f"corpus.train={tiny_text}", "corpus.valid_fraction=0.1", "tokenizer.kind=char", "train.batch_size=4"),
        *(f"data.directory={tmp_path / 'data'}", "model.hidden_size=12", "cluster.cpus_per_worker=1", "train.bptt=8"),
        *(f"cluster.address={head.client}", "run.sample_tokens=5"),
        *(f"run.directory={tmp_path / 'run'}", "train.max_steps=2"),
    ]
    words = [sys.executable, "-m", "jobs.train", *settings]
    ran = subprocess.run(words, capture_output=True, text=True, cwd=PROJECT, timeout=600, env=environment, check=False)
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "run" / "checkpoints" / "step-00000002").exists()


@pytest.mark.parametrize(("asked", "given"), [(None, "120"), ("9", "9")])
def test_ray_is_asked_to_wait_for_a_job_that_is_stopped(
    monkeypatch: pytest.MonkeyPatch, asked: str | None, given: str
) -> None:
    monkeypatch.delenv("RAY_JOB_STOP_WAIT_TIME_S", raising=False)
    if asked is not None:
        monkeypatch.setenv("RAY_JOB_STOP_WAIT_TIME_S", asked)
    sent: dict[str, Any] = {}
    client = SimpleNamespace(submit_job=lambda **values: sent.update(values) or "raysubmit_1")
    assert submission.submit(client, JobApi("http://h:1", "--address"), "generate", [], config=None) == "raysubmit_1"  # type: ignore[arg-type]
    assert sent["runtime_env"]["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"] == given
    monkeypatch.setenv("RAY_JOB_STOP_WAIT_TIME_S", "2.5")
    with pytest.raises(ValueError, match=r"^RAY_JOB_STOP_WAIT_TIME_S: '2\.5' is not a whole number of seconds"):
        submission.submit(client, JobApi("http://h:1", "--address"), "generate", [], config=None)  # type: ignore[arg-type]


def test_the_paths_among_the_options_of_a_job_are_those_that_must_be_absolute() -> None:
    options = evaluate.argument_parser()
    given = ["--run", "/r", "--text", "t.txt", "--surprisal", "s.tsv", "--benchmark", "blimp=b", "syntaxgym=s"]
    found = [("--run", "/r"), ("--text", "t.txt"), ("--surprisal", "s.tsv"), ("--benchmark", "b"), ("--benchmark", "s")]
    assert list(paths_in(options, options.parse_args([*given, "--ngram", "3"]))) == found
    assert list(paths_in(options, options.parse_args([*given, "--ngram", "a.arpa"]))) == [*found, ("--ngram", "a.arpa")]


@pytest.mark.ray
def test_mistakes_are_reported_before_anything_is_submitted(environment: dict[str, str]) -> None:
    nowhere = Head("http://127.0.0.1:1", "127.0.0.1:2")
    relative = submit(nowhere, environment, "train", "corpus.train=text.txt")
    assert relative.returncode == 2
    assert "corpus.train: text.txt is relative, but a submitted job runs in a folder that vanishes" in relative.stderr
    unknown = submit(nowhere, environment, "train", "run.directory=/mnt/run", "model.hiden_size=3")
    assert "did you mean hidden_size?" in unknown.stderr
    no_file = submit(nowhere, environment, "generate", "--run", "/mnt/run", "--pip", "nowhere.txt")
    assert (no_file.returncode, no_file.stderr) == (2, "error: --pip: nowhere.txt is not a file\n")

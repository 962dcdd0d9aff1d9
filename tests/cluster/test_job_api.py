"""What is said if a cluster's job API is not one, wants a token, or fails."""

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from jobs.shared.cli import run_job
from jobs.submit import main
from pipeline.cluster import job_api
from tests.cluster.fake_heads import VERSION, Answer, fake_head
from tests.cluster.heads import clean_environment
from tests.cluster.submitting import HEAD, SUBMITTED, submitted, without_variables

PROJECT = Path(__file__).parents[2]
PAGE = "<html><head><title>Login</title><style>p {}</style></head><body><h1>Please log in</h1></body></html>"
NOT_RAY = "something other than Ray's job API, which a head has at http://HOST:8265, answers at ADDRESS"
PUT = "put its head's token into RAY_AUTH_TOKEN, or into a file that RAY_AUTH_TOKEN_PATH names (else ~/.ray/auth_token)"


@pytest.fixture(autouse=True)
def _no_variables_of_ray(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    without_variables(monkeypatch, tmp_path)


@pytest.mark.parametrize(
    ("answer", "code", "sentence"),
    [
        (Answer(200, PAGE), 2, f"--address: {NOT_RAY}; it says: Please log in"),
        (Answer(200, VERSION[:-9]), 2, f"--address: {NOT_RAY}; it says: {VERSION[:-9]}"),
        (
            Answer(200, VERSION[:-9], promised=9),
            2,
            "--address: no Ray cluster answers at ADDRESS: its answer breaks off\n",
        ),
        (Answer(200, "[]"), 2, f"--address: {NOT_RAY}; it says: []"),
        (Answer(200, '{"ray_version": 2}'), 2, f"--address: {NOT_RAY}; it says: "),
        (Answer(200), 2, f"--address: {NOT_RAY}"),
        (Answer(404, "no such page"), 2, f"--address: {NOT_RAY}; it says: no such page"),
        (Answer(403, PAGE), 2, "--address: the cluster at ADDRESS refuses: it answers 403: Please log in"),
        (Answer(401), 2, f"--address: the cluster at ADDRESS wants a token: set RAY_AUTH_MODE=token, and {PUT}"),
        (Answer(500, "worse\nthings"), 1, "the cluster at ADDRESS failed: it answers 500: worse things"),
        (Answer(503), 1, "the cluster at ADDRESS failed: it answers 503"),
        (Answer(0), 2, "--address: no Ray cluster answers at ADDRESS: Remote end closed connection without response"),
    ],
)
def test_a_head_with_a_wrong_answer_is_reported_in_one_sentence(
    capsys: pytest.CaptureFixture[str], answer: Answer, code: int, sentence: str
) -> None:
    with fake_head(version=answer) as head:
        left, said = submitted(capsys, "--address", head.address)
    assert (left, said.count("\n")) == (code, 1)
    assert said.startswith("error: " + sentence.replace("ADDRESS", head.address))
    assert len(head.requests) == 1


def test_options_of_a_job_are_passed_on_and_its_settings_sent_as_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sent: list[Any] = []
    monkeypatch.setattr(
        "jobs.submit.submit", lambda api, arguments, passed_on, config: sent.append((passed_on, config))
    )
    (tmp_path / "mine.yaml").write_text("model: {hidden_size: 7}")
    settings = ["run.directory=/mnt/run", "data.directory=/mnt/data"]
    with fake_head(**HEAD) as head:
        options = ["--seeds", "1,5", settings[0], "--fresh", "--config", str(tmp_path / "mine.yaml"), "--json"]
        main(["train", *options, settings[1], "--address", head.address])
        main(["train", "--seeds=3", *settings, "--address", head.address])
    (first, config), (second, _) = sent
    assert (first, second) == (["--seeds", "1,5", "--fresh", "--json"], ["--seeds=3"])
    assert (config.model.hidden_size, config.run.directory, config.data.directory) == (7, "/mnt/run", "/mnt/data")


def test_a_head_that_does_not_answer_is_given_up(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_api, "ANSWER_SECONDS", 0.2)
    given_up = threading.Event()
    with fake_head(version=Answer(0, wait=lambda: given_up.wait(60) and None)) as head:
        left, said = submitted(capsys, "--address", head.address)
        given_up.set()
    assert (left, said) == (2, f"error: --address: no Ray cluster answers at {head.address}: no answer within 0.2 s\n")


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "http://127.0.0.1:1/", "http://nowhere.invalid", "htp://x"])
def test_an_address_without_a_head_is_refused_in_one_sentence(capsys: pytest.CaptureFixture[str], address: str) -> None:
    left, said = submitted(capsys, "--address", address)
    assert left == 2
    assert said.startswith(f"error: --address: no Ray cluster answers at {address}: ")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        ({"RAY_AUTH_TOKEN": "abc"}, "set RAY_AUTH_MODE=token, so that the one in RAY_AUTH_TOKEN is sent"),
        (
            {"RAY_AUTH_MODE": "on", "RAY_AUTH_TOKEN_PATH": "/t"},
            "set RAY_AUTH_MODE=token (it is 'on'), so that the one in /t is sent",
        ),
        ({"RAY_AUTH_MODE": "disabled"}, f"set RAY_AUTH_MODE=token (it is 'disabled'), and {PUT}"),
    ],
)
def test_what_to_set_for_a_token_depends_on_what_is_set(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], advice: str
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with fake_head(version=Answer(401, "Unauthorized")) as head:
        left, said = submitted(capsys, "--address", head.address)
    assert left == 2
    assert said.startswith(f"error: --address: the cluster at {head.address} wants a token: {advice}")
    assert [authorization for _, authorization in head.requests] == [""]


def test_a_token_in_the_usual_file_is_pointed_at(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("abc")
    with fake_head(version=Answer(401)) as head:
        _, said = submitted(capsys, "--address", head.address)
    assert said.endswith("wants a token: set RAY_AUTH_MODE=token, so that the one in ~/.ray/auth_token is sent\n")


def test_a_token_is_sent_and_a_wrong_one_is_refused_with_its_variable(tmp_path: Path) -> None:
    """In processes of their own: Ray reads its variables once."""
    command = [sys.executable, "-m", "jobs.submit", "generate", "--run", "/mnt/run", "--no-wait", "--address"]
    with fake_head(**HEAD, answers={"POST /api/jobs/": SUBMITTED}, token="right") as head:
        said = {}
        for token in ("wrong", "right"):
            environment = clean_environment(tmp_path, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=token)
            ended = subprocess.run(
                [*command, head.address], cwd=PROJECT, env=environment, capture_output=True, text=True, check=False
            )
            said[token] = (ended.returncode, ended.stderr)
    assert said["wrong"] == (
        2,
        f"error: --address: the cluster at {head.address} refuses the token in RAY_AUTH_TOKEN: it wants the one that "
        "its head was started with, which `ray get-auth-token` prints there\n",
    )
    assert said["right"] == (
        0,
        "submitted raysubmit_1\n"
        f"  follow: RAY_AUTH_MODE=token ray job logs --follow --address {head.address} raysubmit_1\n"
        f"  stop:   RAY_AUTH_MODE=token ray job stop --address {head.address} raysubmit_1\n"
        "  (with RAY_AUTH_TOKEN set as it is here)\n",
    )


@pytest.mark.parametrize(
    ("answer", "code", "sentence"),
    [
        (
            Answer(500, "Traceback (most recent call last):\n  x\nOSError: disk"),
            1,
            "the cluster at ADDRESS failed: it answers 500: OSError: disk",
        ),
        (Answer(413, "body too large"), 2, "--address: the cluster at ADDRESS refuses: it answers 413: body too large"),
        (Answer(200, PAGE), 2, f"--address: {NOT_RAY}\n"),
        (Answer(200, '{"job'), 2, f"--address: {NOT_RAY}\n"),
        (Answer(200, '{"jobs": []}'), 2, f"--address: {NOT_RAY}\n"),
        (Answer(401, "x"), 2, "--address: the cluster at ADDRESS wants a token: set RAY_AUTH_MODE=token"),
        (Answer(0), 2, "--address: no Ray cluster answers at ADDRESS: Remote end closed connection without response"),
    ],
)
def test_a_head_that_fails_while_a_job_is_submitted(
    capsys: pytest.CaptureFixture[str], answer: Answer, code: int, sentence: str
) -> None:
    with fake_head(**HEAD, answers={"POST /api/jobs/": answer}) as head:
        left, said = submitted(capsys, "--address", head.address)
    assert (left, said.count("\n")) == (code, 1)
    assert said.startswith("error: " + sentence.replace("ADDRESS", head.address))


@pytest.mark.parametrize(
    ("arguments", "option", "path"),
    [
        (["generate", "--run", "/mnt/run", "--output", "texts.jsonl"], "--output", "texts.jsonl"),
        (["generate", "--run", "runs/mine"], "--run", "runs/mine"),
        (["context", "--run", "/mnt/one", "runs/two"], "--run", "runs/two"),
        (["units", "--run", "/mnt/run", "--states", "a/b.parquet"], "--states", "a/b.parquet"),
        (["evaluate", "--run", "/mnt/run", "--benchmark", "blimp=/mnt/b", "syntaxgym=s=g"], "--benchmark", "s=g"),
        (
            ["train", "run.directory=/mnt/r", "data.directory=/mnt/d", "tokenizer.path=t.json"],
            "tokenizer.path",
            "t.json",
        ),
        (
            ["search", "run.directory=/mnt/r", "data.directory=/mnt/d", "search.space={train.teacher: [/mnt/a, b]}"],
            "search.space.train.teacher",
            "b",
        ),
        (["prepare", "--verify", "data/mine"], "--verify", "data/mine"),
    ],
)
def test_options_with_paths_that_would_vanish_with_a_job_are_refused(
    capsys: pytest.CaptureFixture[str], arguments: list[str], option: str, path: str
) -> None:
    with pytest.raises(SystemExit) as left:
        run_job(main, [*arguments, "--address", "http://127.0.0.1:1"])
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert f"error: {option}: {path} is relative, but a submitted job runs in a folder that vanishes with it" in said


def test_a_corpus_is_verified_on_the_cluster_without_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    from jobs import submit

    sent: list[Any] = []
    monkeypatch.setattr(submit, "submit", lambda api, arguments, passed_on, config: sent.append((passed_on, config)))
    monkeypatch.setattr(job_api.JobApi, "check", lambda api: None)
    run_job(main, ["prepare", "--verify", "/mnt/data", "--address", "http://127.0.0.1:1"])
    assert sent == [(["--verify", "/mnt/data"], None)]


def test_a_conversation_is_not_submitted(capsys: pytest.CaptureFixture[str]) -> None:
    left, said = submitted(capsys, "--interactive", "--address", "http://127.0.0.1:1")
    assert (left, said) == (2, "error: --interactive: a submitted job has no terminal; give --prompt or --prompts\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["generate", "--tokens", "0"], "--tokens: 0 is below 1"),
        (["generate", "--temperature", "-1"], "--temperature: "),
        (["generate", "--length-penalty", "0.5"], "--length-penalty: is for --beams; give that as well"),
        (["evaluate", "--burn-in", "-1"], "--burn-in: -1 is below 0"),
        (["evaluate", "--cache-window", "9"], "--cache-window: is for --cache; give that as well"),
        (["context", "--share", "2"], "--share: must be between 0 and 1, not 2.0"),
        (["units", "--tokens", "5"], "--tokens: 5 is not between 100 and 1,000,000"),
    ],
)
def test_options_that_a_job_would_refuse_are_refused_here(
    capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    with pytest.raises(SystemExit) as left:
        run_job(main, [*arguments, "--run", "/mnt/run", "--address", "http://127.0.0.1:1"])
    said = capsys.readouterr().err
    assert (left.value.code, said.count("\n")) == (2, 1)
    assert said.startswith(f"error: {sentence}")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train", "--adress", "http://h:1"], "train: unrecognized arguments: --adress; did you mean --address?"),
        (["--adress", "http://h:1", "train"], "submit: unrecognized arguments: --adress; did you mean --address?"),
        (
            ["evaluate", "--run", "/r", "--no-wiat"],
            "evaluate: unrecognized arguments: --no-wiat; did you mean --no-wait?",
        ),
        (["train", "--lr", "3"], "train: unrecognized arguments: --lr; did you mean optimizer.lr=3?"),
        (
            ["--tokens", "5", "generate", "--run", "/r"],
            "submit: unrecognized arguments: --tokens; the options of a job come after its name",
        ),
        (["trian", "train.bptt=5"], "submit: trian is no job that can be submitted; did you mean train?"),
    ],
)
def test_a_misspelt_option_is_recognized_on_either_side_of_the_job(
    capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    with pytest.raises(SystemExit) as left:
        run_job(main, arguments)
    assert (left.value.code, capsys.readouterr().err) == (2, f"error: python -m jobs.{sentence} (see --help)\n")

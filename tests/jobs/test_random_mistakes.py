"""Any mistake in any command: exit code 2, one to six lines, no traceback, nothing written, and at once.

Each command has one to three of the mistakes below, drawn from its own number, which a failure names. ``pytest
tests/jobs/test_random_mistakes.py -m slow`` tries thousands.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from jobs import compress, evaluate, export, generate, gradients, prepare, search, submit, train
from jobs.cli import run_job
from jobs.number_types import number, seed, whole
from pipeline import config as configuration
from pipeline import launch
from pipeline.config import Config
from pipeline.errors import UserError
from tests import absurd
from tests.documents import PROJECT

JOBS: dict[str, ModuleType] = {
    job.__name__.removeprefix("jobs."): job
    for job in (prepare, train, search, evaluate, generate, compress, export, gradients, submit)
}
WITH_SETTINGS = ("prepare", "train", "search", "submit")
SETTINGS = ["corpus.train=text.txt", "tokenizer.kind=char", "run.directory=new-run", "data.directory=new-data"]
# what each job could do something with
WHOLE = {
    **dict.fromkeys(("prepare", "train"), [*SETTINGS, "cluster.backend=local"]),
    "search": SETTINGS,
    "submit": ["train", "--address", "http://127.0.0.1:9", "corpus.train=builtin:python-docs"],
    **dict.fromkeys(("evaluate", "generate", "compress", "gradients"), ["--run", "run"]),
    "export": ["--run", "run", "--to", "new-folder", "--format", "torch"],
}
WORDS = ["", " ", "-", "--", "x", "nan", "None", "é" * 300, "x" * 5000, "a=b", "[", "\x1b[31m", "a\nb\nc\nd\ne\nf\ng", "\t",
         "\r", "\0", "\udcff", "%s", "{}", "../..", "/", "~", "*", "1;2", "\u202e", "\ufeff", "null", "s3://", "hf://", "://"]  # fmt: skip
NO_NUMBERS = ["", "x", "nan", "-nan", "inf", "1e400", "1.5e", "0x10", "1,5", "9" * 5000, "1" * 400 + ".5", "--", "None", "[1]"]
NO_WHOLE = [*NO_NUMBERS, "1.5", "1e3", "9" * 20, "-" + "9" * 20]
# a name that is no setting, and things that look like one
NO_SETTINGS = ["nosuch=1", "model.nosuch=1", "model=1", "model.=1", ".bptt=3", "=", "=3", "train", "train.bptt", "train.bptt.x=1",
               "lr=0.1", "mine.yaml", "TRAIN.BPTT=3", "train .bptt=3", "model.hidden_size==3", "[]=3", "é.é=é"]  # fmt: skip


def deep(source: random.Random) -> str:
    opening = source.choice(["[", "{a: ", "- ", "? ", '{"a": ', "[[", "&x [", "!!seq [", "[{a: ", "- ? "])
    closing = {"[": "]", "{a: ": "}", '{"a": ': "}"}.get(opening, "") if source.random() < 0.5 else ""
    times = source.choice([30, 1000, 3000, 20_000])
    return opening * times + "1" + closing * times


def staircase(source: random.Random) -> str:
    return "\n".join(" " * level + source.choice(["a:", "- a:"]) for level in range(source.choice([30, 300])))


# files of settings, none of which is one
NO_CONFIGS: list[Callable[[random.Random], str | bytes]] = [
    deep,
    staircase,
    lambda source: f"train:\n  bptt: {deep(source)}\n",
    lambda source: f"search: {{space: {deep(source)}}}",
    lambda source: "train: {bptt: 3, bptt: 3}",
    lambda source: "train: {bptt: 3}\ntrain: {epochs: 3}\n",
    lambda source: '{"train": {"bptt": 3, "epochs": 1, "bptt": 4}}',
    lambda source: "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
    lambda source: '!!python/object/apply:os.system ["touch written"]',
    lambda source: "train:\n\tbptt: 3\n",
    lambda source: source.choice(["train:\n  bptt:64\n", "train: 3\n", "- train\n", "train\n", "3\n", "'a'\n", "...\n---\n1\n"]),
    lambda source: source.choice(["<<: 3\n", "train: {<<: [3]}\n", "? [1, 2]\n: 3\n", "{1: 2}\n", "{null: 2}\n", "*x\n", "%YAML 9\n"]),
    lambda source: b"model: {hidden_size: 3}\n\0",
    lambda source: "train: {bptt: 3}\n".encode("utf-16"),
    lambda source: b"# caf\xe9\n" + source.randbytes(40),
    lambda source: f"{source.choice(absurd.settings()).partition('.')[0]}: {{nosuch: 1}}\n",
    lambda source: f"x: {'9' * 5000}\n",
    lambda source: "model:\n" + "".join(f"  nosuch{index}: 1\n" for index in range(500)),
]  # fmt: skip
NO_JSON: list[Callable[[random.Random], str | bytes]] = [
    lambda source: source.choice(['{"good": ', "["]) * source.choice([1000, 3000, 100_000]),
    lambda source: source.choice(["", "\n\n", "x", "{", "[]", "3", "null", '"x"', "{}", "NaN", "Infinity", "[" * 50 + "]" * 50]),
    lambda source: '{"good": "the cat", "bad": "cat the", "tree": ' + "[" * 3000 + "]" * 3000 + "}",
    lambda source: '{"good": "the cat", "good": "a cat", "bad": "cat the"}',
    lambda source: json.dumps({"good": source.choice(["", " ", 3, None, [], {}, "\ud800", True]), "bad": "cat the"}),
    lambda source: json.dumps({"good": "the cat", "bad": "cat the", "group": source.choice([3, None, [], {}, True])}),
    lambda source: '{"good": "the cat", "bad": "' + source.choice(["\x00", "\x1b", "\n", "\\x"]) + '"}',
    lambda source: b'{"good": "caf\xe9", "bad": "x"}',
    lambda source: '{"good": ' + "9" * 5000 + "}",
    lambda source: b"\xff\xfe" + source.randbytes(30),
]  # fmt: skip
# a path at which there is no text
NO_FILES = ["none", "empty.txt", "folder", "folder/none", "text.txt/below", "binary", "", "none\nat\nall", "\x1bnone", "x" * 5000, "*.none"]
NO_RUNS = ["none", "text.txt", "folder", "text.txt/below", "", "none\nat\nall", "\x1b[2Jnone", "x" * 5000, "broken", "deep", "s3://bucket/run"]
NO_OUTPUTS = ["folder", "none/below/x", "text.txt/below", "", "x" * 5000, "run/", "/proc/none"]
# options that do not go together, or with this run
NO_SENSE = {
    "prepare": [["--verify", "none"], ["--verify", "folder"], ["--verify", ""], ["corpus.train=none.txt"], ["corpus.train=folder"],
                ["corpus.train=empty.txt"], ["corpus.train=binary"], ["tokenizer.path=binary"], ["tokenizer.path=none"],
                ["data.directory=text.txt"], ["data.directory=text.txt/below"], ["corpus.train=hf://folder?split=none"], ["corpus.train=deep.jsonl"],
                ["corpus.train=s3:/x"], ["corpus.train=builtin:none"], ["corpus.train=deep.json", "corpus.valid_fraction=0"]],
    "train": [["run.directory=text.txt"], ["run.directory=text.txt/below"], ["train.initial_weights=none"], ["train.batch_size=1000000"],
              ["cluster.num_workers=3"], ["cluster.device=cuda"], ["corpus.train=none.txt"], ["run.sample_prompt=Ж"]],
    "search": [["cluster.backend=local"], ["search.space={nosuch: [1]}"], ["search.space={train.bptt: []}"], ["search.space=[1]"],
               ["search.space={optimizer.lr:0.1}"], ["search.space={train.bptt: {min: 3}}"], ["search.space={run.directory: [a, b]}"],
               ["corpus.train=none.txt"], ["search.num_trials=0"], ["search.space={model: [1]}"], ["search.metric=loss"]],
    "evaluate": [["--split", "test"], ["--tune"], ["--by-line"], ["--cache", "--streams", "3"], ["--cache", "--exact"], ["--bleu", "1"],
                 ["--dynamic", "sgd", "--dynamic-lr", "0"], ["--cache", "--cache-weight", "1"], ["--text", "text.txt", "--split", "valid"],
                 ["--top-p", "2"], ["--temperature", "-1"], ["--compare", "none"], ["--compare", "folder"], ["--surprisal", "x.xlsx"]],
    "generate": [["--prompt", ""], ["--prompt", "Ж"], ["--stop", ""], ["--beams", "0"], ["--beams", "2", "--top-k", "3"],
                 ["--prompt", "a", "--prompts", "prompts.txt"], ["--interactive", "--output", "x"], ["--samples", "2000000000"],
                 ["--min-p", "-1"], ["--repetition-penalty", "0"], ["--beams", "2", "--length-penalty", "99"], ["--at-once", "0"]],
    "compress": [["--prune", "1"], ["--units", "-1"], ["--fine-tune-steps", "3"], ["--tokens", "0"], ["--split", "test"]],
    "export": [["--license", "MIT"], ["--to", "folder"], ["--to", "text.txt"], ["--to", "text.txt/below"], ["--format", "xml"]],
    "gradients": [["--share", "0"], ["--share", "1"], ["--run", "run", "run"], ["--length", "2000000000"], ["--figure", "x.xlsx"],
                  ["--streams", "0"], ["--windows", "-3"], ["--split", "test"]],
    "submit": [["run.directory=relative", "data.directory=relative"], ["--address", "http://127.0.0.1:9"], ["corpus.train=none.txt"]],
}  # fmt: skip


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, tiny_text: Path) -> Iterator[Path]:
    """The folder in which every command is given: a text, a run, and what is neither."""
    folder = tmp_path_factory.mktemp("here")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        (folder / "text.txt").write_text(tiny_text.read_text())
        (folder / "prompts.txt").write_text("the cat\n")
        sizes = ["model.hidden_size=8", "model.num_layers=1", "train.batch_size=4", "train.bptt=8", "train.max_steps=2"]
        small = ["run.directory=run", "data.directory=data", "run.sample_tokens=0", *sizes]
        config = configuration.load(None, [*WHOLE["train"], *small])
        launch.train(config, launch.in_process)
        for name in ("folder/inner", "broken/checkpoints/step-00000001", "deep"):
            (folder / name).mkdir(parents=True)
        (folder / "empty.txt").touch()
        (folder / "binary").write_bytes(random.Random(1).randbytes(999))
        (folder / "broken/checkpoints/step-00000001/manifest.json").write_text('{"kind": "checkpoint"}')
        (folder / "deep/manifest.json").write_text("[" * 3000 + "]" * 3000)
        for name in ("deep.jsonl", "deep.json"):
            (folder / name).write_text('{"text": "a", "tree": ' + "[" * 3000 + "]" * 3000 + "}\n")
        yield folder


class Drawn:
    """The mistakes of one command, drawn from ``source``; what goes into a file is ``content``."""

    def __init__(self, job: str, source: random.Random) -> None:
        self.job, self.source, self.content = job, source, b""
        self.last: list[str] = []  # what must stand at the end
        self.argv = [*WHOLE[job], *source.choice([[], ["--json"], ["--verbose"]] if job != "submit" else [[]])]
        kinds = [self.no_sense, self.no_sense]
        if job != "submit":
            kinds += [self.unknown_option, self.bad_value, self.bad_value]
        if job in WITH_SETTINGS:
            kinds += [self.bad_setting, self.bad_setting, self.no_setting, self.no_config, self.no_config]
        else:
            kinds += [self.no_run, self.no_text]
        for kind in source.sample(kinds, k=source.choice([1, 1, 1, 2, 3])):
            kind()
        self.argv += self.last

    def unknown_option(self) -> None:
        known = self.source.choice([name for action in actions(self.job) for name in action.option_strings])
        word = self.source.choice([f"{known[:-1]}x", f"{known}s", known.upper(), "--lr", "--nosuch", "-x", "--é", "--model.cell"])
        self.argv += [word, *self.source.choice([[], ["3"]])]

    def bad_value(self) -> None:
        """An option with a value that it does not take, or with none."""
        action = self.source.choice([action for action in actions(self.job) if action.option_strings and action.nargs != 0])
        option = action.option_strings[0]
        if action.choices:
            value = self.source.choice(WORDS)
        elif action.type in (whole, seed, number):
            value = self.source.choice(NO_NUMBERS if action.type is number else NO_WHOLE)
        else:
            self.last = [option]
            return
        self.argv.append(f"{option}={value}")

    def bad_setting(self) -> None:
        """A value that a setting does not take, as validation by itself finds."""
        while True:
            path, value = self.source.choice(absurd.settings()), self.source.choice([*absurd.VALUES, *WORDS])
            text = value if isinstance(value, str) else json.dumps(value) if isinstance(value, (list, dict)) else str(value)
            try:
                configuration.load(None, [f"{path}={text}"])
            except UserError:
                self.argv.append(f"{path}={text}")
                return

    def no_setting(self) -> None:
        self.argv.append(self.source.choice(NO_SETTINGS))

    def no_config(self) -> None:
        if self.source.random() < 0.3:
            self.argv += ["--config", self.source.choice(NO_FILES[2:])]
            return
        content = self.source.choice(NO_CONFIGS)(self.source)
        self.content = content if isinstance(content, bytes) else content.encode()
        self.argv += ["--config", "drawn"]

    def no_run(self) -> None:
        self.argv += ["--run", self.source.choice(NO_RUNS)]

    def no_text(self) -> None:
        """A file that does not hold what an option reads, or cannot be written."""
        names = {option for action in actions(self.job) for option in action.option_strings}
        option = self.source.choice(sorted(names & {"--text", "--pairs", "--prompts", "--output", "--surprisal", "--figure", "--to"}))
        if option in ("--output", "--surprisal", "--figure", "--to"):
            path = self.source.choice(NO_OUTPUTS)
            self.argv += [f"{option}={path}.csv" if option == "--surprisal" and path == "none/below/x" else f"{option}={path}"]
            if option == "--output" and self.job == "compress" or option == "--to":
                self.argv += ["--run", "none"]  # such folders could be made
        elif option == "--pairs" and self.source.random() < 0.6:
            content = self.source.choice(NO_JSON)(self.source)
            self.content = content if isinstance(content, bytes) else content.encode()
            self.argv += [option, "drawn"]
        else:
            self.argv.append(f"{option}={self.source.choice(NO_FILES)}")

    def no_sense(self) -> None:
        self.argv += self.source.choice(NO_SENSE[self.job])


def actions(job: str) -> list[argparse.Action]:
    parser: argparse.ArgumentParser = JOBS[job].argument_parser()
    return parser._actions


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file below ``folder``."""
    found = {}
    for place, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            facts = os.lstat(os.path.join(place, name))
            found[os.path.join(place, name)] = (facts.st_size if name in files else 0, facts.st_mtime_ns)
    return found


def check(code: object, error: str) -> None:
    assert code == 2, (code, error)
    lines = error.rstrip("\n").split("\n")
    assert error.count("error: ") >= 1, error
    assert "Traceback" not in error, error
    assert 1 <= len(lines) <= 6, error
    assert all(line.isprintable() and len(line) <= 1000 for line in lines), lines


def many(usual: int, slow: int) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("number", [usual, pytest.param(slow, marks=pytest.mark.slow)])


@many(60, 1500)
@pytest.mark.parametrize("job", JOBS)
def test_commands_with_mistakes(
    job: str, number: int, here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(here)
    for index in range(number):
        drawn = Drawn(job, random.Random(f"{job} {index}"))
        (here / "drawn").write_bytes(drawn.content)
        before, started = contents(here), time.monotonic()
        told = f"number {index}: python -m jobs.{job} {drawn.argv}, drawn: {drawn.content[:80]!r}"
        try:
            run_job(JOBS[job].main, drawn.argv)
            pytest.fail(f"taken, {told}")
        except SystemExit as left:
            code: object = left.code
        except Exception as error:
            raise AssertionError(told) from error
        seconds = time.monotonic() - started
        try:
            check(code, capfd.readouterr().err)
        except AssertionError as error:
            raise AssertionError(told) from error
        assert contents(here) == before, told
        assert seconds < 10, told


@pytest.mark.parametrize(
    "argv",
    [
        ["train", "--lr", "0.1"],
        ["search", "search.metric=loss", "run.seed=1"],
        ["prepare", "--config", "drawn"],
        ["generate", "--run", "run", "--temperature", "nan"],
        ["evaluate", "--run", "none"],
        ["generate", "--run", "run", "--prompt", "Ж"],
    ],
)
def test_processes_with_mistakes(argv: list[str], here: Path) -> None:
    (here / "drawn").write_text("[" * 20_000)
    before = contents(here)
    job, *options = argv
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-m", f"jobs.{job}", *options]
    ran = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, check=False)
    check(ran.returncode, ran.stderr)
    assert ran.stdout == ""
    assert contents(here) == before

"""Mistakes of every kind in the commands, drawn at random from a seed."""

from __future__ import annotations

import argparse
import json
import random
import shlex
from collections.abc import Callable
from types import ModuleType

from jobs import (
    compare,
    compress,
    context,
    evaluate,
    export,
    generate,
    gradients,
    ngram,
    prepare,
    probe,
    search,
    submit,
    teach,
    train,
    units,
)
from jobs.shared.numbers import number, seed, seeds, whole
from pipeline import config as configuration
from pipeline.errors import UserError
from tests import absurd
from tests.senseless_options import LONG, NO_SENSE

Content = Callable[[random.Random], str | bytes]

JOBS: dict[str, ModuleType] = {
    job.__name__.removeprefix("jobs."): job
    for job in (
        *(
            prepare,
            teach,
            train,
            search,
            compare,
            evaluate,
            generate,
            compress,
            export,
            gradients,
            context,
            probe,
            units,
            ngram,
            submit,
        ),
    )
}
WITH_SETTINGS = ("prepare", "train", "search", "compare", "submit")
SETTINGS = ["corpus.train=text.txt", "tokenizer.kind=char", "run.directory=new-run", "data.directory=new-data"]
# valid arguments of each job
WHOLE = {
    "prepare": [*SETTINGS, "cluster.backend=local"],
    "train": [*SETTINGS, "cluster.backend=local"],
    "search": SETTINGS,
    "compare": [*SETTINGS, "compare.variants={a: {model.cell: lstm}, b: {model.cell: gru}}", "compare.seeds=[1]"],
    "submit": ["train", "--address", "http://127.0.0.1:9", "run.directory=/none/run", "data.directory=/none/data"],
    "evaluate": ["--run", "run"],
    "generate": ["--run", "run"],
    "compress": ["--run", "run"],
    "gradients": ["--run", "run"],
    "context": ["--run", "run"],
    "probe": ["--run", "run"],
    "units": ["--run", "run"],
    "ngram": ["--data", "data"],
    "teach": ["--teacher", "run", "--data", "data", "--to", "new-folder"],
    "export": ["--run", "run", "--to", "new-folder", "--format", "torch"],
}
WORDS = [
    *("", " ", "-", "--", "x", "nan", "None", "a=b", "[", "%s", "{}", "../..", "/", "~", "*", "1;2", "null", "s3://"),
    *("\x1b[31m", "a\nb\nc\nd\ne\nf\ng", "\t", "\r", "\0", "\udcff", "\u202e", "\ufeff", "://", "é" * 300, LONG),
]
NO_NUMBERS = ["", "x", "nan", "-nan", "inf", "1e400", "1.5e", "0x10", "1,5", "9" * 5000, "1" * 400 + ".5", "--", "None"]
NO_SEEDS = ["", "x", "0", "1", "-3", "1001", "1,", ",", "2,2", "1,x", "1,-1", "1,1.5", "5,4294967296", "9" * 5000]
NO_WHOLE = [*NO_NUMBERS, "1.5", "1e3", "9" * 20, "-" + "9" * 20]
# names that are not settings, and text that only looks like a setting
NO_SETTINGS = [
    *("nosuch=1", "model.nosuch=1", "model=1", "model.=1", ".bptt=3", "=", "=3", "train", "train.bptt", "lr=0.1"),
    *("train.bptt.x=1", "mine.yaml", "TRAIN.BPTT=3", "train .bptt=3", "model.hidden_size==3", "[]=3", "é.é=é"),
]


def deep(source: random.Random) -> str:
    closings = {"[": "]", "{a: ": "}", '{"a": ': "}", "[[": "]]", "- ": "", "? ": "", "&x [": "", "!!seq [": "]"}
    opening, closing = source.choice(list(closings.items()))
    times = source.choice([30, 1000, 3000, 20_000])
    return opening * times + "1" + closing * times * source.choice([0, 1])


def staircase(source: random.Random) -> str:
    return "\n".join(" " * level + source.choice(["a:", "- a:"]) for level in range(source.choice([30, 300])))


def multiplied(source: random.Random) -> str:
    """A short text that stands for 9 to the power of 8 values, through aliases or merging."""
    first, others = source.choice([("[x]", "[ALL]"), ("{x: 1}", "{<<: [ALL]}")])
    lines = [f"a: &a {first}"]
    for name, before in zip("bcdefghi", "abcdefgh", strict=True):
        lines.append(f"{name}: &{name} {others.replace('ALL', ', '.join([f'*{before}'] * 9))}")
    return "\n".join(lines)


# contents that are not valid files of settings
NO_CONFIGS: list[Content] = [
    deep,
    staircase,
    multiplied,
    lambda source: f"train:\n  bptt: {deep(source)}\n",
    lambda source: f"search: {{space: {deep(source)}}}",
    lambda source: "train: {bptt: 3, bptt: 3}",
    lambda source: "train: {bptt: 3}\ntrain: {epochs: 3}\n",
    lambda source: '{"train": {"bptt": 3, "epochs": 1, "bptt": 4}}',
    lambda source: '!!python/object/apply:os.system ["touch written"]',
    lambda source: source.choice(["train:\n\tbptt: 3\n", "train:\n  bptt:64\n", "train: 3\n", "- train\n", "train\n"]),
    lambda source: source.choice(["<<: 3\n", "train: {<<: [3]}\n", "? [1, 2]\n: 3\n", "{1: 2}\n", "{null: 2}\n", "*x"]),
    lambda source: source.choice(["3\n", "'a'\n", "...\n---\n1\n", "%YAML 9\n", "&x [&x 1]", "&x [*x]", "a: !!int x"]),
    lambda source: b"model: {hidden_size: 3}\n\0",
    lambda source: "train: {bptt: 3}\n".encode("utf-16"),
    lambda source: b"# caf\xe9\n" + source.randbytes(40),
    lambda source: f"{source.choice(absurd.settings()).partition('.')[0]}: {{nosuch: 1}}\n",
    lambda source: f"x: {'9' * 5000}\n",
    lambda source: "model:\n" + "".join(f"  nosuch{index}: 1\n" for index in range(100)),
]
# contents that are not valid files of pairs
NO_PAIRS: list[Content] = [
    lambda source: source.choice(['{"good": ', "["]) * source.choice([1000, 3000, 100_000]),
    lambda source: source.choice(["", "\n\n", "x", "{", "[]", "3", "null", '"x"', "{}", "NaN", "Infinity", "[[]]"]),
    lambda source: '{"good": "the cat", "bad": "cat the", "tree": ' + "[" * 3000 + "]" * 3000 + "}",
    lambda source: '{"good": "the cat", "good": "a cat", "bad": "cat the"}',
    lambda source: json.dumps({"good": source.choice(["", " ", 3, None, [], {}, "\ud800", True]), "bad": "cat the"}),
    lambda source: json.dumps({"good": "the cat", "bad": "cat", "group": source.choice([3, None, [], {}, True])}),
    lambda source: '{"good": "the cat", "bad": "' + source.choice(["\x00", "\x1b", "\n", "\\x"]) + '"}',
    lambda source: b'{"good": "caf\xe9", "bad": "x"}',
    lambda source: '{"good": ' + "9" * 5000 + "}",
    lambda source: b"\xff\xfe" + source.randbytes(30),
]
# paths without a text, paths without a run, and paths that cannot be written
NO_FILES = [
    "none", "empty.txt", "folder", "folder/none", "text.txt/below", "binary", "", "none\nat\nall", "\x1bnone", "*.none",
    LONG,
]  # fmt: skip
NO_RUNS = [
    "none", "text.txt", "folder", "text.txt/below", "", "none\nat\nall", "\x1b[2Jnone", "broken", "deep", "s3://bucket/r",
    LONG,
]  # fmt: skip
NO_OUTPUTS = ["folder", "none/below/x", "text.txt/below", "", "run/", "/proc/none", LONG]


class Drawn:
    """A command with one to three mistakes, drawn from ``source``; ``content`` is the content of the file ``drawn``."""

    def __init__(self, job: str, source: random.Random) -> None:
        self.job, self.source, self.content = job, source, b""
        self.last: list[str] = []  # what must stand at the end
        self.argv = [*WHOLE[job], *source.choice([[], ["--json"], ["--verbose"]] if job != "submit" else [[]])]
        kinds = [self.no_sense, self.no_sense, self.unknown_option, self.bad_value, self.bad_value]
        if job in WITH_SETTINGS:
            kinds += [self.bad_setting, self.bad_setting, self.no_setting, self.no_config, self.no_config]
        else:
            kinds += [self.no_run, self.no_text]
        for kind in source.sample(kinds, k=source.choice([1, 1, 1, 2, 3])):
            kind()
        self.argv += self.last

    def unknown_option(self) -> None:
        known = self.source.choice([name for one in actions(self.job) for name in one.option_strings])
        near = [f"{known[:-1]}x", f"{known}s", known.upper()]
        self.argv.append(self.source.choice([*near, "--lr", "--nosuch", "-x", "--é", "--model.cell"]))
        self.argv += self.source.choice([[], ["3"]])

    def bad_value(self) -> None:
        """Add an option with a value that it does not take, or without a value."""
        takes_one = [one for one in actions(self.job) if one.option_strings and one.nargs not in (0, "?")]
        action = self.source.choice(takes_one)
        option = action.option_strings[0]
        if action.choices:
            self.argv.append(f"{option}={self.source.choice(WORDS)}")
        elif action.type in (whole, seed, number):
            self.argv.append(f"{option}={self.source.choice(NO_NUMBERS if action.type is number else NO_WHOLE)}")
        elif action.type is seeds:
            self.argv.append(f"{option}={self.source.choice(NO_SEEDS)}")
        else:
            self.last = [option]

    def bad_setting(self) -> None:
        """Add a value that a setting does not take, which validation finds by itself."""
        while True:
            path, value = self.source.choice(absurd.settings()), self.source.choice([*absurd.VALUES, *WORDS])
            is_json = isinstance(value, (list, dict)) and not any(isinstance(key, int) for key in value)
            override = f"{path}={json.dumps(value) if is_json else value}"
            try:
                configuration.load(None, [override])
            except UserError:
                self.argv.append(override)
                return

    def no_setting(self) -> None:
        self.argv.append(self.source.choice(NO_SETTINGS))

    def no_config(self) -> None:
        if self.source.random() < 0.3:
            self.argv += ["--config", self.source.choice(sorted(set(NO_FILES) - {"empty.txt"}))]
        else:
            self.argv += ["--config", self.drawn(NO_CONFIGS)]

    def no_run(self) -> None:
        self.argv += ["--run", self.source.choice(NO_RUNS)]

    def no_text(self) -> None:
        """Add a file without what its option reads, or one that cannot be written."""
        names = {name for one in actions(self.job) for name in one.option_strings}
        files = {
            "--text",
            "--stimuli",
            "--regions",
            "--pairs",
            "--prompts",
            "--output",
            "--surprisal",
            "--figure",
            "--to",
        }
        option = self.source.choice(sorted(names & files) or ["--run"])
        if option in ("--output", "--surprisal", "--figure", "--to"):
            self.argv.append(f"{option}={self.source.choice(NO_OUTPUTS)}")
            if option == "--to" or self.job == "compress":
                self.argv += ["--run", "none"]  # because such folders could be made
        elif option == "--pairs" and self.source.random() < 0.6:
            self.argv += [option, self.drawn(NO_PAIRS)]
        else:
            self.argv.append(f"{option}={self.source.choice(NO_FILES)}")

    def no_sense(self) -> None:
        lines = NO_SENSE[self.job].strip().splitlines()
        self.argv += shlex.split(self.source.choice(lines))

    def drawn(self, contents: list[Content]) -> str:
        content = self.source.choice(contents)(self.source)
        self.content = content if isinstance(content, bytes) else content.encode()
        return "drawn"


def actions(job: str) -> list[argparse.Action]:
    parser: argparse.ArgumentParser = JOBS[job].argument_parser()
    return parser._actions

"""Texts made by rule keep their rules, checked independently; scores tell models that know from models that guess."""

import re
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from jobs import probe as job
from pipeline import config as configuration
from pipeline import launch
from pipeline.config import Config, ModelConfig
from pipeline.data.generated import TASKS, Example, Task, task_of
from pipeline.data.prepare import prepare_in_process
from pipeline.data.tokenizer import Tokenizer
from pipeline.data.tokenizer.char import CharTokenizer
from pipeline.errors import UserError
from pipeline.evaluate.probes import probe
from pipeline.model.language_model import LanguageModel

NAMES = {
    "copy": "builtin:copy?symbols=4&length=3&delay=9",
    "adding": "builtin:adding?length=6",
    "dyck-2": "builtin:dyck-2?length=20&depth=3",
    "counting": "builtin:counting?most=6&letters=3",
    "associative-recall": "builtin:associative-recall?pairs=5&queries=2",
}


def balanced(text: str) -> bool:
    """Whether brackets cancel out in pairs."""
    while (shorter := text.replace("()", "").replace("[]", "")) != text:
        text = shorter
    return not text


def recalled(text: str) -> bool:
    """Whether each key that is asked for is answered with its value."""
    told, *asked = text.split("?")
    pairs = dict(re.findall("([a-z])([0-9])", told))
    return len(pairs) == len(told) // 2 and all(pairs[key] == value for key, value in asked)


def added(text: str) -> bool:
    left, answer = text.split("=")
    marked = re.findall(r"\+(\d)", left)
    return len(marked) == 2 and chr(ord("A") + sum(map(int, marked))) == answer


RULES: dict[str, Callable[[str], bool]] = {
    "copy": lambda text: re.fullmatch(r"([a-d]{3})\.{1,9}:\1", text) is not None,
    "adding": added,
    "dyck-2": balanced,
    "counting": lambda text: (
        re.fullmatch("a{2,6}b{2,6}c{2,6}", text) is not None and len({len(list(run)) for _, run in groupby(text)}) == 1
    ),
    "associative-recall": recalled,
}
# how an answer follows: the text before it, and its distance → the answer
FOLLOWS: dict[str, Callable[[str, int], str]] = {
    "copy": lambda before, distance: before[len(before) - distance],
    "adding": lambda before, distance: chr(65 + sum(map(int, re.findall(r"\+(\d)", before)))),
    "dyck-2": lambda before, distance: {"(": ")", "[": "]"}[before[len(before) - distance]],
    "counting": lambda before, distance: "abc\n"[len(before) // distance],
    "associative-recall": lambda before, distance: before[len(before) - distance],
}


def test_every_task_has_a_case_here() -> None:
    assert NAMES.keys() == RULES.keys() == FOLLOWS.keys() == TASKS.keys()


@pytest.mark.parametrize("name", NAMES)
def test_every_line_keeps_the_rule_and_answers_follow_at_their_distance(name: str) -> None:
    task = task_of(NAMES[name])
    lines = task.block(0).decode().splitlines()
    assert len(lines) == 10_000
    assert all(map(RULES[name], lines))
    # all combinations of four symbols and nine pauses, all five n, and many lines of the others
    assert len(set(lines)) == {"copy": 4**3 * 9, "counting": 5}.get(name, len(set(lines)))
    assert len(set(lines)) > 3_000 or name in ("copy", "counting")
    for text, answers in task.fresh(200, seed=3):
        assert RULES[name](text)
        assert answers
        for place, distance in answers:
            assert FOLLOWS[name](text[:place], distance) == f"{text}\n"[place]


def test_difficulty_reaches_its_limits_but_not_beyond() -> None:
    examples = task_of(NAMES["copy"]).fresh(400, seed=1)
    assert {answer.distance for example in examples for answer in example.answers} == set(range(5, 14))
    depths = [
        max(np.cumsum([1 if c in "([" else -1 for c in e.text])) for e in task_of(NAMES["dyck-2"]).fresh(400, seed=1)
    ]
    assert max(depths) == 3
    assert {e.answers[0].distance for e in task_of(NAMES["counting"]).fresh(400, seed=1)} == set(range(2, 7))
    lengths = {len(e.text.split("?")[0]) // 2 for e in task_of(NAMES["associative-recall"]).fresh(400, seed=1)}
    assert lengths == {2, 3, 4, 5}


def test_a_text_is_a_function_of_its_name() -> None:
    assert task_of("builtin:copy?examples=3&seed=7").block(0) == (
        b"gcbee..:gcbee\nbbhdd..............:bbhdd\ncdchf..................:cdchf\n"
    )
    long = task_of("builtin:counting?examples=25000")
    assert [long.block(number).count(b"\n") for number in range(long.num_blocks)] == [10_000, 10_000, 5_000]
    assert long.block(0) != long.block(1)
    assert task_of("builtin:counting").block(0) == long.block(0)
    assert task_of("builtin:counting?seed=2").block(0) != long.block(0)


@pytest.mark.parametrize(
    ("pattern", "sentence"),
    [
        ("builtin:copy?delay=0", "delay must be a whole number from 1 to 100,000, not '0'"),
        ("builtin:copy?delay=x", "delay must be a whole number from 1 to 100,000, not 'x'"),
        ("builtin:copy?most=3", r"copy has no most \(it has examples, seed, symbols, length, delay\)"),
        ("builtin:copy?delay=5&seed=2&delay=9", "delay is given twice"),
        ("builtin:counting?letters=9", "letters must be a whole number from 2 to 8, not '9'"),
        ("builtin:nothing", "no such corpus: builtin:nothing .there are .*builtin:associative-recall"),
    ],
)
def test_unknown_tasks_and_settings_are_refused(
    make_config: Callable[..., Config], pattern: str, sentence: str
) -> None:
    with pytest.raises(UserError, match=f"^corpus.train: .*{sentence}"):
        prepare_in_process(make_config({"corpus.train": [pattern]}))


class Oracle:
    """Takes the place of a model: it reads lines from their beginning, and ``tell`` says what comes next."""

    device, training = torch.device("cpu"), False

    def __init__(self, tokenizer: Tokenizer, tell: Callable[[str], str]) -> None:
        self.tokenizer, self.tell, self.head, self.reset_after = tokenizer, tell, self, None
        self.reset_every = None

    def eval(self) -> None: ...

    def train(self) -> None: ...

    def initial_state(self, num_rows: int) -> tuple[Tensor, ...]:
        self.lines = [""] * num_rows
        return ()

    def __call__(self, inputs: Tensor, state: Any, segments: Any = None) -> tuple[Tensor, Any]:
        """(T, B) → (T, B, 1), the id of the predicted next character."""
        said = torch.zeros(*inputs.shape, 1)
        for step, row in np.ndindex(*inputs.shape):
            character = self.tokenizer.decode([int(inputs[step, row])])
            self.lines[row] = "" if character == "\n" else self.lines[row] + character
            said[step, row] = float(self.tokenizer.encode(self.tell(self.lines[row]))[0])
        return said, state

    def logits(self, hidden: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(hidden[:, 0].long(), self.tokenizer.vocab_size).float()


def tokenizer_of(examples: list[Example]) -> Tokenizer:
    characters = sorted({character for example in examples for character in example.text} | {"\n"})
    return CharTokenizer.from_content("none", {"types": ["<unk>", *characters]})


def ask(task: Task, tell: Callable[[str], str], *, number: int = 300) -> Any:
    examples = task.fresh(number, seed=5)
    oracle: Any = Oracle(tokenizer_of(examples), tell)
    return probe(oracle, oracle.tokenizer, task, examples)


def knows(name: str) -> Callable[[str], str]:
    """A function that says the next character if it follows from the line, and otherwise any."""

    def of_copy(line: str) -> str:
        symbols, _, rest = line.partition(":")
        return symbols[len(rest)] if ":" in line and len(rest) < 3 else "."

    def of_dyck(line: str) -> str:
        opened: list[str] = []
        for character in line:
            opened = [*opened, character] if character in "([" else opened[:-1]
        return {"(": ")", "[": "]"}[opened[-1]] if opened else "("

    def of_counting(line: str) -> str:
        lengths = [len(list(run)) for _, run in groupby(line)]
        if len(lengths) < 2:
            return "a"
        return "abc\n"[len(lengths) - (lengths[-1] < lengths[0])]

    def of_recall(line: str) -> str:
        return line[line.index(line[-1]) + 1] if "?" in line and line[-1].isalpha() else "?"

    def of_adding(line: str) -> str:
        return chr(65 + sum(map(int, re.findall(r"\+(\d)", line)))) if line.endswith("=") else "="

    found = {"copy": of_copy, "dyck-2": of_dyck, "counting": of_counting, "adding": of_adding}
    return {**found, "associative-recall": of_recall}[name]


@pytest.mark.parametrize("name", NAMES)
def test_a_model_that_knows_has_all_answers(name: str) -> None:
    found = ask(task_of(NAMES[name]), knows(name))
    assert found.accuracy == 1
    assert all(accuracy == 1 for *_, accuracy in found.by_distance())


GUESSES = {"copy": "a", "adding": "J", "dyck-2": ")", "counting": "b", "associative-recall": "7"}


@pytest.mark.parametrize("name", NAMES)
def test_a_model_that_guesses_is_right_by_chance(name: str) -> None:
    task = task_of("builtin:counting" if name == "counting" else NAMES[name])
    found = ask(task, lambda line: GUESSES[name], number=600)
    assert found.accuracy == pytest.approx(task.chance, abs=0.06)


def test_answers_do_not_depend_on_how_many_steps_are_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_of(NAMES["copy"])
    examples = task.fresh(60, seed=5)
    tokenizer = tokenizer_of(examples)
    torch.manual_seed(0)
    model = LanguageModel(ModelConfig(hidden_size=8, num_layers=1, init_range=2.0), tokenizer.vocab_size)
    whole = probe(model, tokenizer, task, examples)
    monkeypatch.setattr("pipeline.evaluate.probes.STEPS_AT_ONCE", 4)
    parts = probe(model, tokenizer, task, examples)
    assert 0 < whole.accuracy < 1
    assert parts.is_right.tolist() == whole.is_right.tolist()


def test_accuracy_is_reported_by_distance() -> None:
    # it copies symbols up to eight back, and otherwise says one that never comes
    def tell(line: str) -> str:
        symbols, colon, rest = line.partition(":")
        near = len(symbols) + 1 <= 8
        return symbols[len(rest)] if colon and near and len(rest) < 3 else "."

    found = ask(task_of(NAMES["copy"]), tell)
    assert {near: accuracy for near, _, _, accuracy in found.by_distance()} == {
        distance: float(distance <= 8) for distance in range(5, 14)
    }
    three = found.by_distance(bins=3)
    assert [row[0] for row in three] == [5, *(far + 1 for _, far, _, _ in three[:-1])]
    assert sum(row[2] for row in three) == len(found.distances) == 900
    assert three[0][3] == 1
    assert three[-1][3] == 0


def test_a_trained_model_is_probed(make_config: Callable[..., Config], tmp_path: Path, capfd: Any) -> None:
    changes = {
        "corpus.train": ["builtin:counting?most=2&examples=2000"], "model.hidden_size": 16, "model.num_layers": 1,
        "train.bptt": 24, "train.epochs": 1, "optimizer.lr": 0.02, "run.sample_tokens": 0,
    }  # fmt: skip
    config = make_config(changes)
    launch.train(config, launch.in_process)
    run, figure = str(config.run.directory), tmp_path / "probe.png"
    result = job.main(["--run", run, "--examples", "200", "--figure", str(figure)])
    assert result is not None
    (figures,) = result["runs"].values()
    assert figures["accuracy"] > 0.9
    assert sum(row["answers"] for row in figures["by_distance"]) == figures["answers"] == 400
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert "counting: n letters a" in capfd.readouterr().out
    further = job.main(["--run", run, "--probe", "counting?most=40", "--examples", "200"])
    assert further is not None
    assert next(iter(further["runs"].values()))["accuracy"] < figures["accuracy"]
    with pytest.raises(UserError, match=r"^probe: the model was not trained on this task: it does not know"):
        job.main(["--run", run, "--probe", "copy"])
    with pytest.raises(UserError, match=r"^probe: builtin:nothing is not a task; there are builtin:copy"):
        job.main(["--run", run, "--probe", "nothing"])


def test_a_model_of_another_text_or_of_other_tokens_is_refused(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    config = make_config({"train.max_steps": 2, "run.sample_tokens": 0})
    launch.train(config, launch.in_process)
    with pytest.raises(
        UserError, match=r"^--run: .* was trained on .*tiny.txt, which is not a single text made by rule"
    ):
        job.main(["--run", str(config.run.directory)])
    elsewhere = {"run.directory": str(tmp_path / "words"), "data.directory": str(tmp_path / "data-of-words")}
    words = configuration.with_values(config, {"tokenizer.kind": "word", **elsewhere})
    launch.train(words, launch.in_process)
    with pytest.raises(UserError, match=r"^probe: the model reads word tokens, but a task has an answer for each char"):
        job.main(["--run", str(words.run.directory), "--probe", "copy"])


def test_runs_in_one_table_must_have_the_same_difficulty() -> None:
    copying, sooner = task_of("builtin:copy?delay=50"), task_of("builtin:copy?delay=10")
    assert job.same_difficulty(copying, task_of("builtin:copy?delay=50&examples=7&seed=3"))
    assert not job.same_difficulty(copying, sooner)
    assert not job.same_difficulty(copying, task_of("builtin:counting"))

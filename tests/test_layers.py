"""What each part may load and know: no Ray and no options in the core, neither torch nor Ray for help."""

import argparse
import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.__main__ import COMMANDS
from jobs.shared.cli import as_option
from pipeline.errors import UserError


def loaded_by(code: str) -> set[str]:
    program = f"import sys\n{code}\nprint(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(result.stdout.split("\n")[-2].split())


def test_the_core_does_not_load_ray() -> None:
    modules = loaded_by("import pipeline.launch, pipeline.run, pipeline.training.loop")
    assert "torch" in modules
    assert "ray" not in modules


@pytest.mark.parametrize("job", COMMANDS)
def test_help_loads_neither_torch_nor_ray(job: str) -> None:
    modules = loaded_by(
        f"from jobs.{job} import main\ntry:\n    main(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0"
    )
    assert not modules & {"torch", "ray", "pyarrow"}


REFUSED = [
    ("train", "--lr", "0.1"),
    ("train", "model.hiden_size=3"),
    ("train", "train.bptt=0"),
    ("train", "--config", "/nowhere.yaml"),
    ("train", "corpus.train=/nowhere/*.txt", "cluster.backend=local"),
    ("train", "cluster.address=127.0.0.1:1"),
    ("prepare", "corpus.valid=/nowhere.txt"),
    ("prepare", "--verify", "/nowhere"),
    ("search", "cluster.backend=local"),
    ("search", "search.space={train.bptt: [0]}"),
    ("compare", "corpus.valid_fraction=0.1"),
    ("compare", "compare.variants={a: {}, b: {model.cell: gpt}}", "compare.seeds=[1]"),
    ("evaluate", "--run", "/nowhere"),
    ("evaluate", "--run", "/nowhere", "--cache", "--cache-weight", "3"),
    ("generate", "--run", "/nowhere"),
    ("generate", "--run", "/nowhere", "--top-p", "3"),
    ("compress", "--run", "/nowhere"),
    ("gradients", "--run", "/nowhere"),
    ("context", "--run", "/nowhere"),
    ("units", "--run", "/nowhere"),
    ("context", "--run", "/nowhere", "--contexts", "0"),
    ("export", "--run", "/nowhere", "--to", "/nowhere-else", "--format", "hf"),
    ("ngram", "--data", "/nowhere"),
    ("probe", "--run", "/nowhere"),
    ("reading", "--surprisal", "/nowhere.tsv", "--times", "/nowhere.tsv"),
    ("teach", "--teacher", "/nowhere", "--data", "/nowhere", "--to", "/nowhere-else"),
    ("submit", "train", "train.bptt=0"),
]


def test_commands_that_are_refused_at_once_load_neither_torch_nor_ray() -> None:
    modules = loaded_by(
        "import importlib\nfrom pipeline.errors import UserError\n"
        f"for job, *argv in {REFUSED!r}:\n"
        "    try:\n"
        "        importlib.import_module(f'jobs.{job}').main(argv)\n"
        "    except UserError:\n"
        "        continue\n"
        "    raise AssertionError(f'{job} {argv} is not refused')"
    )
    assert not modules & {"torch", "ray"}


def test_training_loads_no_compiler(tmp_path: Path) -> None:
    """torch imports its compiler at the first use of an optimizer, 1.3 s of CPU time and 100 MB, unless prevented."""
    (tmp_path / "text.txt").write_text("the cat sat on the mat. " * 99, encoding="utf-8")
    settings = [
        f"corpus.train={tmp_path}/text.txt", "corpus.valid_fraction=0.2", "tokenizer.kind=char",
        f"data.directory={tmp_path}/data", "model.hidden_size=8", "train.batch_size=2", "train.bptt=8",
        "train.max_steps=2", "run.sample_tokens=2", "cluster.backend=local",
    ]  # fmt: skip
    modules = loaded_by(
        "from jobs.train import main\n"
        "for name in ('sgd', 'adam', 'adamw', 'rmsprop', 'muon'):\n"
        f"    main([*{settings!r}, 'optimizer.name=' + name, {f'run.directory={tmp_path}/'!r} + name])"
    )
    assert "torch" in modules
    assert "torch._dynamo" not in modules


def test_a_preparation_loads_neither_torch_nor_other_packages_it_does_not_need(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the cat sat\non the mat\n")
    settings = [f"corpus.train={tmp_path}/a.txt", "corpus.valid_fraction=0", f"data.directory={tmp_path}/data"]
    argv = [*settings, "cluster.backend=local", "corpus.document=line", "tokenizer.kind=word"]
    modules = loaded_by(f"import jobs.prepare\njobs.prepare.main({argv!r})")
    assert not modules & {"torch", "ray", "pandas", "datasets"}
    # nor does the process that lets Ray prepare a corpus load torch
    assert "torch" not in loaded_by("import jobs.prepare, pipeline.cluster.prepare")


# modules that build a command for another process, are one, or write one into a file for a person
COMMANDS_THEMSELVES = {
    f"pipeline/cluster/{name}.py" for name in ("entry", "growth", "job_api", "late_agent", "start", "submit")
} | {
    "pipeline/export/lm_eval.py",
    "pipeline/search/report.py",
}


def texts_of(path: Path) -> Iterator[str]:
    """The string constants of a module, except its docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.value


def test_the_core_names_no_command_line_option() -> None:
    for path in Path("pipeline").rglob("*.py"):
        if str(path) not in COMMANDS_THEMSELVES:
            spelled = [text for text in texts_of(path) if re.search(r"(?<![\w-])--[a-z]", text)]
            assert not spelled, f"{path}: {spelled}"


def test_every_argument_that_the_core_names_is_an_option() -> None:
    options = set()
    for command in COMMANDS:
        parser = getattr(importlib.import_module(f"jobs.{command}"), "argument_parser", argparse.ArgumentParser)()
        options |= {name for action in parser._actions for name in action.option_strings}
    found = set()
    for path in Path("pipeline").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "argument" and isinstance(node.value, ast.Constant):
                found.add(node.value.value)
    assert {"top_k", "surprisal", "run.directory"} <= found
    for argument in found - {name for name in found if "." in name}:
        assert as_option(UserError("x", argument=argument)) == f"--{argument.replace('_', '-')}: x"
        assert as_option(UserError("x", argument=argument)).removesuffix(": x") in options, argument
    assert as_option(UserError("x", argument="run.directory")) == "run.directory: x"
    assert as_option(UserError("top_k: x")) == "top_k: x"

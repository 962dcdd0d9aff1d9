"""Every command that README and docs/ show runs as it stands there, on a small text and small models."""

import importlib
import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs import train
from jobs.cli import run_job
from pipeline.compress.onnx_model import OnnxModel
from tests.documents import PROJECT, Command, commands, programs

DOCUMENTS = sorted(str(path.relative_to(PROJECT)) for path in [PROJECT / "README.md", *(PROJECT / "docs").glob("*.md")])
# what a command begins with that is not run here, and why
NOT_RUN = {
    "make ": "installs from the network, or serves until it is stopped; a line of a Makefile runs what is run here",
    "tensorboard ": "serves until it is stopped",
    "lm_eval ": "is no dependency; tests/export/test_lm_eval.py scores as it does",
    "python -m pipeline.export.lm_eval ": "the same",
    "python -m jobs.submit ": "needs a cluster; tests/cluster/test_submit.py has one",
}
ELSEWHERE = {"docs/cluster.md": "its commands need a cluster; tests/cluster/test_submit.py has one"}
# before what the command says itself, so that it wins
SMALL = [
    *("corpus.train=story.txt", "corpus.valid_fraction=0.4", "tokenizer.vocab_size=300", "model.hidden_size=8"),
    *("model.num_layers=1", "train.batch_size=2", "train.bptt=8", "evaluate.streams=2", "optimizer.warmup_steps=1"),
]
# after it, and in place of what it says of the same options
SHORT = ["train.max_steps=3", "run.sample_tokens=5", "cluster.cpus_per_worker=1"]
FEW = {"--tokens": "9", "--fine-tune-steps": "3", "--bleu": "5"}
NAMES = {"DIR": "runs/quickstart", "OTHER": "runs/other", "FOLDER": "folder-hf", "CELL": "gru"}
FILES = {"--config": "configs/quickstart.yaml", "--prompts": "prompts.txt"}


def is_run(command: Command) -> bool:
    return not command.text.startswith(tuple(NOT_RUN))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, tiny_text: Path) -> Path:
    """The folder of a reader of the documents: texts under the names that are used there, and trained runs."""
    import datasets

    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(PROJECT / "configs", folder / "configs")
    for name in ("texts/more", "tiny-shakespeare", "docs"):
        (folder / name).mkdir(parents=True)
    shutil.copy(PROJECT / "docs" / "agreement.jsonl", folder / "docs")
    text = tiny_text.read_text()
    for name in ("story.txt", "other.txt", "texts/a.txt", "texts/more/b.txt", "tiny-shakespeare/input.txt"):
        (folder / name).write_text(f"{name}\n{text}")
    lines = text.splitlines()
    (folder / "names.txt").write_text("\n".join(line[:20] for line in lines))
    (folder / "stimuli.txt").write_text("\n".join(lines[:5]))
    (folder / "prompts.txt").write_text("the cat\nA dog\n")
    (folder / "mine.yaml").write_text("model:\n  hidden_size: 256\n  dropout: 0.3\n")
    datasets.Dataset.from_dict({"text": lines}).save_to_disk(folder / "folder")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("quickstart", "other", "rnn", "lstm", "gru"):
            config = ["--config", "configs/quickstart.yaml", f"run.directory=runs/{name}", "cluster.backend=local"]
            cell = [f"model.cell={name}"] * (name in ("rnn", "gru")) + ["data.directory=data/quickstart"]
            train.main([*config, *SMALL, *SHORT, *cell])
        (folder / "data" / "again").mkdir()
    return folder


@pytest.fixture
def here(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, in which the test stands."""
    shutil.copytree(project, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setattr("jobs.export.NUM_TEXTS", 20)
    monkeypatch.setattr("sys.stdin", io.StringIO("the cat\n"))
    return tmp_path / "project"


def argv_of(command: Command) -> tuple[Callable[..., Any], list[str]]:
    """The job that a command is of, and its arguments with the names, sizes and settings of this test."""
    python, option, module, *words = command.words
    assert (python, option) == ("python", "-m"), f"{command}: neither run here nor listed with a reason"
    for index, word in enumerate(words):
        before = words[index - 1] if index else ""
        words[index] = FILES.get(before, word) if word == "FILE" else FEW.get(before, NAMES.get(word, word))
        for name in NAMES.keys() & set(word.split("=")):
            words[index] = word.replace(name, NAMES[name])
    job = module.removeprefix("jobs.")
    if job in ("prepare", "train", "search") and "--verify" not in words:
        backend = [] if job == "search" else ["cluster.backend=local"]
        few = ["search.num_trials=2", "search.max_tokens=200"] * (job == "search")
        small = [] if any(word.startswith("runs/") for word in words) else SMALL
        words = [*small, *words, *SHORT, *backend, *few]
    return importlib.import_module(module).main, words


@pytest.mark.parametrize("document", [name for name in DOCUMENTS if name not in ELSEWHERE and commands(name)])
@pytest.mark.ray
def test_every_command_runs(
    document: str, here: Path, ray_cluster: None, capfd: pytest.CaptureFixture[str]
) -> None:
    for command in filter(is_run, commands(document)):
        main, argv = argv_of(command)
        before = sorted(here.rglob("*"))
        try:
            run_job(main, argv)
        except SystemExit as left:
            pytest.fail(f"{command} left with {left.code}: {capfd.readouterr().err}")
        assert capfd.readouterr().out.strip(), f"{command} says nothing"
        for option in ("--output", "--surprisal", "--to", "--figure"):
            if option in argv:
                assert set(here.rglob("*")) - set(before), f"{command} writes nothing"


def test_what_is_not_run_is_there() -> None:
    shown = [command.text for document in DOCUMENTS for command in commands(document)]
    for beginning in NOT_RUN:
        assert any(text.startswith(beginning) for text in shown), f"no document shows {beginning}any more"

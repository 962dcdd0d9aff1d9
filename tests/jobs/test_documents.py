"""Every command that README and docs/ show runs as it is written there, on a small text and small models."""

import importlib
import io
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs import reading, train
from jobs.shared.cli import run_job
from pipeline import config as configuration
from tests.benchmark_samples import SAMPLES
from tests.documents import PROJECT, Command, commands, snippets

DOCUMENTS = sorted(str(path.relative_to(PROJECT)) for path in [PROJECT / "README.md", *(PROJECT / "docs").glob("*.md")])
# beginnings of commands that are not run here, and why
NOT_RUN = {
    "make ": "installs from the network, or serves until it is stopped; a line of a Makefile runs what is run here",
    "tensorboard ": "serves until it is stopped",
    "lm_eval ": "is no dependency; tests/export/test_lm_eval.py scores as it does",
    "python -m pipeline.export.lm_eval ": "the same",
    "python -m jobs.submit ": "needs a cluster; tests/cluster/test_cluster_commands.py starts one",
}
LONG = {"docs/compression.md"}  # beyond docs/using.md it adds only time
ELSEWHERE = {"docs/cluster.md": "its commands need a cluster; tests/cluster/test_cluster_commands.py starts one"}
QUICKSTART = "configs/quickstart.yaml"
SEARCHES = ("runs/quickstart-search", "runs/char-war-and-peace-search")
# inserted before a command's own settings, which therefore win
SMALL = [
    *("corpus.train=story.txt", "corpus.valid_fraction=0.4", "tokenizer.vocab_size=300", "model.hidden_size=8"),
    *("model.num_layers=1", "train.batch_size=2", "train.bptt=8", "evaluate.streams=2", "optimizer.warmup_steps=1"),
]
# inserted after them, in place of a command's own values of the same options
SHORT = ["train.max_steps=3", "run.sample_tokens=5", "cluster.cpus_per_worker=1"]
COMPARED = [
    *("compare.parameters=60000", "compare.tokens=300", "compare.rounds=3", "compare.seeds=[1]", "compare.search={}"),
    *("compare.contexts=[5]", "compare.window_lengths=[8]", "train.epochs=1", "train.bptt=8"),
]
FEW = {"--tokens": "9", "--seeds": "2", "--fine-tune-steps": "3", "--bleu": "5", "--length": "20", "--longest": "20"}
CHECKPOINT = "runs/quickstart/checkpoints/step-{:08d}/tokenizer.json"
NAMES = {"DIR": "runs/quickstart", "DATA": "data/quickstart", "OTHER": "runs/other", "FOLDER": "folder-hf",
         "CELL": "gru", CHECKPOINT.format(360): CHECKPOINT.format(3)}  # fmt: skip
FILES = {"--config": QUICKSTART, "--prompts": "prompts.txt", "--verify": "data/quickstart"}


def is_run(command: Command) -> bool:
    return not command.text.startswith(tuple(NOT_RUN))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, tiny_text: Path) -> Path:
    """The folder of someone who reads the documents: texts with the names used there, and trained runs."""
    import datasets

    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(PROJECT / "configs", folder / "configs")
    for name in ("texts/more", "tiny-shakespeare", "war-and-peace", "ptb", "docs", "babylm/train_10M", "babylm/dev"):
        (folder / name).mkdir(parents=True)
    shutil.copy(PROJECT / "docs" / "agreement.jsonl", folder / "docs")
    text = tiny_text.read_text()
    texts = ("story.txt", "other.txt", "second.txt", "texts/a.txt", "texts/more/b.txt", "tiny-shakespeare/input.txt")
    for name in texts:
        (folder / name).write_text(f"{name}\nROMEO:\n{text}")
    for name in ("train.txt", "valid.txt"):
        (folder / "ptb" / name).write_text(f"{name}\n{text}")
        (folder / "war-and-peace" / name).write_text(f"{name}\n{text}")
    lines = text.splitlines()
    (folder / "names.txt").write_text("\n".join(line[:20] for line in lines))
    (folder / "list.txt").write_text("\n".join(lines[:3]))
    (folder / "stimuli.txt").write_text("\n".join(lines[:5]))
    for name in ("babylm/train_10M/a.train", "babylm/dev/a.dev"):
        (folder / name).write_text(f"{name}\n{text}")
    write_times(folder, lines[:4])
    (folder / "stimuli.csv").write_text("item,condition,sentence\n1,a,the cat sat\n1,b,the dog ran\n")
    (folder / "regions.csv").write_text("item,condition,sentence\n1,a,the cat | sat\n1,b,the dog | ran on\n")
    write_benchmarks(folder)
    (folder / "prompts.txt").write_text("the cat\nA dog\n")
    (folder / "larger.yaml").write_text("model:\n  hidden_size: 256\n  dropout: 0.3\n")
    datasets.Dataset.from_dict({"text": lines}).save_to_disk(folder / "folder")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        places = ["run.directory=runs/quickstart", "data.directory=data/quickstart", "cluster.backend=local"]
        places.append("train.checkpoint_at_words=[1]")  # a revision to export
        train.main(["--config", QUICKSTART, *SMALL, *SHORT, *places])
        for name in ("other", "rnn", "lstm", "gru"):
            shutil.copytree("runs/quickstart", f"runs/{name}")
        for search in SEARCHES:
            Path(search).mkdir()
            best = [*SMALL, *SHORT, f"run.directory={search}/best", "data.directory=data/quickstart"]
            Path(search, "best.yaml").write_text(configuration.to_yaml(configuration.load(QUICKSTART, best)))
    return folder


def write_times(folder: Path, stories: list[str]) -> None:
    """Write stories, one per line, and the times that people took to read their words: by word, by subject and word."""
    (folder / "stories.txt").write_text("\n".join(stories))
    words = [(i, j, word) for i, line in enumerate(stories, 1) for j, word in enumerate(line.split(), 1)]
    rows = [f"{i}\t{j}\t{word}\t{200 + 7 * (i * j % 11)}" for i, j, word in words]
    (folder / "times.tsv").write_text("\n".join(["item\tzone\tword\ttime", *rows]))
    readings = [f"s{k}\t{i}\t{j}\t{word}\t{200 + 9 * (i * j * k % 13)}" for k in (1, 2, 3) for i, j, word in words]
    (folder / "readings.tsv").write_text("\n".join(["subject\titem\tposition\tword\ttime", *readings]))


def write_benchmarks(folder: Path) -> None:
    """Write samples of the benchmarks in folders named as in the documents."""
    names = {"agreement": "English", "babylm": "full_eval", "natural-stories": "naturalstories", "syntaxgym": "suites"}
    for name in ("blimp", *names):
        SAMPLES[name](folder / names.get(name, name))


@pytest.fixture
def here(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of ``project``, as the working folder of the test."""
    shutil.copytree(project, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setattr("jobs.export.NUM_TEXTS", 20)
    monkeypatch.setattr("sys.stdin", io.StringIO("the cat\n"))
    return tmp_path / "project"


def argv_of(command: Command) -> tuple[Callable[..., Any], list[str]]:
    """The job of a command, and its arguments with this test's names, sizes and settings."""
    python, option, module, *words = command.words
    assert (python, option) == ("python", "-m"), f"{command}: neither run here nor listed with a reason"
    for index, word in enumerate(words):
        before = words[index - 1] if index else ""
        named = FILES.get(before) if word in ("FILE", "DIR") else None
        setting, _, value = word.partition("=")
        meant = f"{setting}={NAMES[value]}" if value in NAMES else NAMES.get(word, word)
        words[index] = named or FEW.get(before) or meant
    job = module.removeprefix("jobs.")
    if job == "compare":
        words = [*SMALL, *words, *COMPARED, "cluster.cpus_per_worker=1"]
    if job in ("prepare", "train", "search") and "--verify" not in words:
        backend = [] if job == "search" else ["cluster.backend=local"]
        few = ["search.num_trials=2", "search.max_tokens=200"] * (job == "search")
        small = [] if any(word.startswith("runs/") for word in words) else SMALL
        words = [*small, *words, *SHORT, *backend, *few]
    return importlib.import_module(module).main, words


def cases() -> Iterator[Any]:
    for name in DOCUMENTS:
        texts = [command.text for command in commands(name)]
        if texts and name not in ELSEWHERE:
            yield pytest.param(name, ["--dry-run"], marks=[pytest.mark.slow] * (name in LONG))
            if any(text.startswith(("python -m jobs.search", "python -m jobs.compare")) for text in texts):
                yield pytest.param(name, [], marks=[pytest.mark.ray, pytest.mark.slow])


@pytest.mark.parametrize(("document", "in_search"), cases())
def test_every_command_runs(
    document: str, in_search: list[str], here: Path, request: pytest.FixtureRequest, capfd: pytest.CaptureFixture[str]
) -> None:
    if not in_search:  # then the search itself writes best.yaml
        for search in SEARCHES:
            shutil.rmtree(search)
        request.getfixturevalue("ray_cluster")
    for command in filter(is_run, commands(document)):
        main, argv = argv_of(command)
        argv += in_search * bool({"jobs.search", "jobs.compare"} & set(command.words))
        before = set(here.rglob("*"))
        try:
            run_job(main, argv)
        except SystemExit as left:
            pytest.fail(f"{command} left with {left.code}: {capfd.readouterr().err}")
        assert capfd.readouterr().out.strip(), f"{command} says nothing"
        outputs = {"--output", "--to", "--figure", *(["--surprisal"] if main is not reading.main else [])}
        if outputs & set(argv):
            assert set(here.rglob("*")) - before, f"{command} writes nothing"
    for program in snippets(document):
        exec(program.replace("DIR", NAMES["DIR"]), {})


def test_the_commands_that_are_not_run_exist() -> None:
    shown = [command.text for document in DOCUMENTS for command in commands(document)]
    for beginning in NOT_RUN:
        assert any(text.startswith(beginning) for text in shown), f"no document shows {beginning}any more"

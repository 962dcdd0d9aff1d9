"""Every command of the cluster guide, and what other documents submit, on a cluster that the guide itself starts."""

import json
import re
import shlex
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib import metadata
from pathlib import Path

import pytest
from ray.scripts.scripts import cli

from tests.cluster.heads import Head, clean_environment, private_head, private_node
from tests.documents import PROJECT, Command, commands

GUIDE = "docs/cluster.md"
# Not run, because they rent machines on AWS: their options are read as Ray reads them; cluster.yaml is validated by
# test_cluster_yaml.py. What they do there, `ray start` and `jobs.submit`, is run here.
CLOUD = ("ray up ", "ray dashboard ", "ray attach ", "ray down ")
# added to each command, so that it takes seconds
SMALL = [
    *("model.hidden_size=8", "train.batch_size=4", "train.bptt=8", "train.epochs=1", "cluster.cpus_per_worker=1"),
    *("train.max_steps=5", "run.sample_tokens=5"),
]
SMALL_SEARCH = ["search.num_trials=2", "search.max_tokens=500"]


class Reader:
    """Somebody who types the commands one after another, in one shell, with a cluster of their own."""

    def __init__(self, folder: Path, text: Path, stack: ExitStack) -> None:
        self.mnt, self.text, self.stack = folder / "mnt", text, stack
        for name in ("train.txt", "valid.txt"):
            (self.mnt / "recurray" / "ptb").mkdir(parents=True, exist_ok=True)
            shutil.copy(text, self.mnt / "recurray" / "ptb" / name)
        self.environment = clean_environment(folder)
        self.head = Head("http://127.0.0.1:8265", "HEAD:6379")  # as the guide calls it, until it is started
        self.types: dict[str, Callable[[Command, list[str]], None]] = {
            "export ": self.sets,
            "pip install -c constraints.txt ": self.finds_installed,
            "ray get-auth-token ": self.runs,
            "ray start --head ": self.starts_head,
            "ray start --address=": self.starts_node,
            "ray job submit ": self.submits_by_ray,
            "python -m jobs.submit ": self.submits,
            "recurray submit ": self.submits,
            "tensorboard ": self.opens_tensorboard,
            **dict.fromkeys(CLOUD, self.reads_options),
        }

    def types_in(self, command: Command) -> None:
        text = command.text.replace("/mnt/", f"{self.mnt}/").replace("http://127.0.0.1:8265", self.head.job_api)
        words = shlex.split(text.replace("HEAD:6379", self.head.gcs))
        self.way_to_type(command)(command, words)

    def way_to_type(self, command: Command) -> Callable[[Command, list[str]], None]:
        ways = [way for beginning, way in self.types.items() if command.text.startswith(beginning)]
        assert ways, f"{command}: neither run here nor listed with a reason"
        return ways[0]

    def finds_installed(self, command: Command, words: list[str]) -> None:
        """Nothing is downloaded in a test: what is to be installed is there in that version."""
        constraints = (PROJECT / "constraints.txt").read_text().splitlines()
        for name in words[4:]:
            assert f"{name}=={metadata.version(name)}" in constraints, f"{command}: {name}"

    def runs(self, command: Command, words: list[str]) -> str:
        ended = subprocess.run(
            words, cwd=PROJECT, env=self.environment, capture_output=True, text=True, timeout=600, check=False
        )
        assert ended.returncode == 0, f"{command}\n{ended.stdout}\n{ended.stderr}"
        return ended.stdout + ended.stderr

    def sets(self, command: Command, words: list[str]) -> None:
        self.environment.update(word.split("=", 1) for word in words[1:])

    def starts_head(self, command: Command, words: list[str]) -> None:
        self.head = self.stack.enter_context(private_head(self.environment, words[1:]))
        assert self.num_nodes() == 1

    def starts_node(self, command: Command, words: list[str]) -> None:
        with private_node(self.environment, words[1:]):
            deadline = time.monotonic() + 60
            while self.num_nodes() < 2:
                assert time.monotonic() < deadline, f"{command}: no node joined"
                time.sleep(0.2)

    def num_nodes(self) -> int:
        token = self.runs(Command("", 0, "the token"), ["ray", "get-auth-token"]).split()[0]
        asked = urllib.request.Request(f"{self.head.job_api}/nodes?view=summary")
        asked.add_header("Authorization", f"Bearer {token}")
        with urllib.request.urlopen(asked, timeout=20) as answer:
            return len(json.load(answer)["data"]["summary"])

    def submits(self, command: Command, words: list[str]) -> None:
        job, settings = words[words.index("--address") - 1], [word for word in words if "=" in word]
        if job in ("prepare", "train", "search"):
            words += [*self.small(settings), *(SMALL_SEARCH if job == "search" else [])]
        said = self.runs(command, words)
        if "--no-wait" in words:
            (follow,) = re.findall(r"^  follow: +(.*)$", said, re.MULTILINE)
            said = self.runs(command, ["bash", "-c", follow])
        self.finds_what_was_written(command, settings, "data.directory" if job == "prepare" else "run.directory")

    def submits_by_ray(self, command: Command, words: list[str]) -> None:
        settings = [word for word in words if "=" in word]
        self.runs(command, [*words, *self.small(settings)])
        self.finds_what_was_written(command, settings, "run.directory")

    def small(self, settings: list[str]) -> list[str]:
        """What to add to ``settings``: sizes, and a short text if they name none."""
        named = any(setting.startswith("corpus.train=") for setting in settings)
        return SMALL if named else [f"corpus.train={self.text}", *SMALL]

    def finds_what_was_written(self, command: Command, settings: list[str], name: str) -> None:
        for setting in settings:
            if setting.startswith(f"{name}="):
                assert any(Path(setting.partition("=")[2]).iterdir()), f"{command} writes nothing"

    def opens_tensorboard(self, command: Command, words: list[str]) -> None:
        process = subprocess.Popen(
            [*words, "--port=0"], env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            assert process.stdout is not None
            assert any(" at http://127.0.0.1:" in line for line in process.stdout), f"{command} serves nothing"
        finally:
            process.terminate()
            process.wait(timeout=60)

    def reads_options(self, command: Command, words: list[str]) -> None:
        context = cli.commands[words[1]].make_context(words[1], words[2:])
        assert context.params["cluster_config_file"] == "cluster.yaml"


@pytest.fixture
def reader(tmp_path: Path, tiny_text: Path) -> Iterator[Reader]:
    with ExitStack() as stack:
        yield Reader(tmp_path, tiny_text, stack)


@pytest.mark.ray
@pytest.mark.slow
def test_every_command_runs_on_the_cluster_that_the_guide_starts(reader: Reader) -> None:
    others = [
        str(path.relative_to(PROJECT)) for path in [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
    ]
    submissions = [
        command
        for document in others
        if document != GUIDE
        for command in commands(document)
        if command.text.startswith(("python -m jobs.submit ", "recurray submit "))
    ]
    assert submissions
    # the other node comes last: nodes on one machine share a folder, and one deletes there what the other's jobs use
    for command in sorted(
        [*commands(GUIDE), *submissions], key=lambda one: one.text.startswith("ray start --address=")
    ):
        reader.types_in(command)


def test_each_command_of_the_guide_is_run_or_listed(reader: Reader) -> None:
    for command in commands(GUIDE):
        way = reader.way_to_type(command)
        if way == reader.finds_installed:
            way(command, shlex.split(command.text))


def test_the_guide_shows_the_commands_that_need_a_cloud() -> None:
    shown = [command.text for command in commands(GUIDE)]
    assert all(any(text.startswith(beginning) for text in shown) for beginning in CLOUD)

"""A tiny text, a configuration of a tiny run on it in this process, and a small Ray."""

import os
import random
import resource
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from pipeline import config as configuration
from pipeline.config import Config

# Ray starts its workers at niceness 15: on a busy machine they would stand still for minutes
os.environ.setdefault("RAY_worker_niceness", "0")
# parallel test processes (see the Makefile) use one core each
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# how long an example takes depends on the machine's other work
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist adds the groups to the names of the tests
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the tests that use Ray first, and in one group: of parallel processes, one has them all and the only cluster.

    Tests that share a fixture of their file stay together too, so that it is made only once.
    """
    for item in items:
        if "ray_cluster" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.ray)
    items.sort(key=lambda item: not uses_ray(item))
    if hasattr(config, "workerinput"):  # a process of pytest-xdist
        for item in items:
            if uses_ray(item):
                item.add_marker(pytest.mark.xdist_group("ray"))
            elif shares_with_its_file(item):
                item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))


def uses_ray(item: pytest.Item) -> bool:
    return item.get_closest_marker("ray") is not None


def shares_with_its_file(item: pytest.Item) -> bool:
    found = getattr(item, "_fixtureinfo", None)  # private to pytest; without it each process makes the fixtures
    definitions = found.name2fixturedefs.values() if found is not None else ()
    return any(each[-1].scope in ("class", "module") for each in definitions)


RAY_REFUSED = pytest.MonkeyPatch()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let only tests marked ``ray`` start Ray in this process, and end it after the last of them."""
    if uses_ray(item) and hasattr(item.config, "workerinput") and not item.nodeid.endswith("@ray"):
        pytest.fail("tests on Ray are in several processes: use --dist loadgroup, and pytest below 9.2")
    RAY_REFUSED.undo()
    ray = sys.modules.get("ray")
    if ray is None or uses_ray(item):
        if ray is not None and ray.is_initialized() and "ray_cluster" in getattr(item, "fixturenames", ()):
            renew_without_room(ray)
        return
    if ray.is_initialized():
        ray.shutdown()
    RAY_REFUSED.setattr(ray, "init", refuse_ray)


def refuse_ray(*arguments: Any, **named: Any) -> Any:
    pytest.fail("this test starts Ray, so it needs @pytest.mark.ray: side by side, one process has all such tests")


@pytest.fixture(scope="session")
def tiny_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About 20,000 characters of words in a fixed random order."""
    words = "the cat sat on a mat and saw one dog that ran to its home by some old river".split()  # noqa: SIM905
    source = random.Random(1)
    lines = [" ".join(source.choices(words, k=12)) for _ in range(450)]
    path = tmp_path_factory.mktemp("text") / "tiny.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def make_config(tiny_text: Path, tmp_path: Path) -> Callable[..., Config]:
    """A function: ``{"section.field": value}`` → the tiny run's configuration with these changes."""

    def make(changes: dict[str, Any] | None = None) -> Config:
        values = {
            "corpus.train": [str(tiny_text)],
            "corpus.valid_fraction": 0.1,
            "tokenizer.kind": "char",
            "data.directory": str(tmp_path / "data"),
            "model.hidden_size": 12,
            "model.num_layers": 2,
            "train.bptt": 10,
            "train.batch_size": 6,
            "train.log_every_steps": 5,
            "optimizer.lr": 0.01,
            "run.directory": str(tmp_path / "run"),
            "run.sample_tokens": 20,
            "evaluate.streams": 4,
            "cluster.backend": "local",
            "cluster.cpus_per_worker": 1,
            **(changes or {}),
        }
        return configuration.with_values(configuration.load(), values)

    return make


@pytest.fixture
def run_on_documents(make_config: Callable[..., Config], tmp_path: Path) -> str:
    """The directory of a run of two steps on lines, each of which is a document."""
    from pipeline import launch

    (tmp_path / "names.txt").write_text("kamori\n" * 60)
    values = {"corpus.document": "line", "data.layout": "documents", "train.max_steps": 2}
    config = make_config({"corpus.train": [str(tmp_path / "names.txt")], **values})
    launch.train(config, launch.in_process)
    return str(config.run.directory)


@pytest.fixture
def file_size_limit() -> Iterator[Callable[[int], None]]:
    """A function: number of bytes → in this process, writes beyond it in any file fail, as on a full disk."""
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, usual[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, usual)


CLUSTER = ExitStack()
FREED_SECONDS = 30.0  # in this time, the CPUs that the last test held must have been given back


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """One private Ray of two CPUs for all tests that need one."""
    start_cluster()
    yield
    CLUSTER.close()


def start_cluster() -> None:
    from pipeline.cluster.session import ray_session
    from pipeline.config import ClusterConfig

    CLUSTER.enter_context(ray_session(ClusterConfig(num_workers=2, cpus_per_worker=1)))


def renew_without_room(ray: Any) -> None:
    """Start another cluster if not all CPUs of this one become free; tests would wait for them without end.

    Ray 2.60 counts a CPU as taken for ever if a placement group is removed while it is being created. A search waits
    before it removes one (``pipeline.cluster.placement``); the warning shows when that was not enough.
    """
    deadline = time.monotonic() + FREED_SECONDS
    while ray.available_resources().get("CPU", 0) < ray.cluster_resources()["CPU"]:
        if time.monotonic() > deadline:
            warnings.warn(
                "Ray did not give back all CPUs after the test before: a new cluster is started", stacklevel=2
            )
            CLUSTER.close()
            start_cluster()
            return
        time.sleep(0.1)

"""The same bytes from Ray's workers as from this process, and mistakes in the workers' own words."""

import inspect
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray
from ray.data._internal.stats import _StatsManager

from pipeline import config as configuration
from pipeline.cluster import data_actors
from pipeline.cluster.prepare import num_blocks, prepare
from pipeline.config import Config
from pipeline.data.prepare import prepare_in_process
from pipeline.storage import UnwritableError

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


@pytest.fixture(params=[False, True], ids=["Ray Data", "Ray"])
def as_client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs the tasks: Ray Data, or Ray itself as for a process that joined its cluster through ray://."""
    monkeypatch.setattr(ray.util.client.ray, "is_connected", lambda: request.param)


@pytest.mark.usefixtures("as_client")
def test_ray_writes_the_same_bytes(make_config: Callable[..., Config], tmp_path: Path) -> None:
    here = make_config({"data.shard_tokens": 2048, "tokenizer.kind": "bpe", "tokenizer.vocab_size": 300})
    there = configuration.with_values(here, {"data.directory": str(tmp_path / "by Ray")})
    expected = prepare_in_process(here)
    done: list[int] = []
    totals: set[int] = set()

    def on_shard(entry: dict[str, int], total: int) -> None:
        done.append(entry["source_bytes"])
        totals.add(total)

    corpus = prepare(there, on_shard=on_shard)
    assert len(done) > 2
    assert totals == {sum(done)}
    assert corpus.fingerprint == expected.fingerprint
    files = {path.name: path.read_bytes() for path in Path(corpus.directory).iterdir()}
    assert files == {path.name: path.read_bytes() for path in Path(expected.directory).iterdir()}


def test_ray_data_makes_no_actors_on_a_private_cluster(make_config: Callable[..., Config]) -> None:
    prepare(make_config())
    named = {actor["name"] for actor in ray.util.list_named_actors(all_namespaces=True)}
    assert not named & {"datasets_stats_actor", "AutoscalingCoordinator"}


def test_a_ray_data_with_other_names_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {name for _, name in data_actors.stand_ins()} >= {"register_dataset_to_stats_actor", "request_resources"}
    usual = inspect.getattr_static(_StatsManager, "update_execution_metrics")
    with data_actors.without_actors():
        assert inspect.getattr_static(_StatsManager, "update_execution_metrics") is not usual
    assert inspect.getattr_static(_StatsManager, "update_execution_metrics") is usual
    monkeypatch.delattr(_StatsManager, "register_dataset_to_stats_actor")
    assert data_actors.stand_ins() == {}
    monkeypatch.setattr(data_actors, "STATISTICS", ("ray.data.elsewhere", "_StatsManager"))
    assert data_actors.stand_ins() == {}


@pytest.mark.parametrize(
    ("num_tasks", "megabytes", "expected"),
    [(100, 1, 4), (3, 1, 3), (100, 100, 100), (100, 16, 50)],  # two for each of two CPUs, or one for every 32 MB
)
def test_small_tasks_share_a_task_of_ray(num_tasks: int, megabytes: int, expected: int) -> None:
    assert num_blocks([SimpleNamespace(num_bytes=megabytes << 20)] * num_tasks) == expected  # type: ignore[list-item]


@pytest.mark.usefixtures("as_client")
def test_a_mistake_in_a_worker_is_one_sentence(make_config: Callable[..., Config], tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("good text\n" * 50)
    (tmp_path / "valid.txt").write_bytes(b"good\n\xff")
    config = make_config({"corpus.train": [str(tmp_path / "train.txt")], "corpus.valid": [str(tmp_path / "valid.txt")]})
    with pytest.raises(ValueError, match=r"valid\.txt: not UTF-8 at byte offset 5; save it as UTF-8, or set "):
        prepare(config)
    assert not Path(str(config.data.directory)).exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of two megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_keeps_what_is_done(make_config: Callable[..., Config], tmp_path: Path, small_disk: Path) -> None:
    (tmp_path / "long.txt").write_text("a line of text\n" * 200_000)
    directory = small_disk / "data"
    config = make_config(
        {"corpus.train": [str(tmp_path / "long.txt")], "corpus.valid_fraction": 0, "tokenizer.kind": "byte",
         "data.shard_tokens": 200_000, "data.directory": str(directory)}
    )  # fmt: skip
    with pytest.raises(UnwritableError, match=r"train-\d+\.\w+: cannot be written: No space left .* continues$"):
        prepare(config)
    assert not (directory / "manifest.json").exists()
    assert not list(directory.glob(".*"))
    kept = {path.name: path.stat().st_mtime_ns for path in directory.glob("train-*.index")}
    assert 2 <= len(kept) <= 5
    subprocess.run(["mount", "-o", "remount,size=16m", str(small_disk)], check=True)
    corpus = prepare(config)
    assert {name: (directory / name).stat().st_mtime_ns for name in kept} == kept
    whole = configuration.with_values(config, {"data.directory": str(tmp_path / "whole")})
    assert corpus.fingerprint == prepare_in_process(whole).fingerprint

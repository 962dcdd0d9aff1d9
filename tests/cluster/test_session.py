"""Which cluster is used, and what is refused before anything waits for it."""

import time

import pytest

from pipeline.cluster.session import address_of, check_answers, local_cpus, refuse_relative_paths
from pipeline.cluster.train import _even_share
from pipeline.config import ClusterConfig, load


def test_the_setting_comes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert address_of(ClusterConfig()) is None
    monkeypatch.setenv("RAY_ADDRESS", "one:1")
    assert address_of(ClusterConfig()) == "one:1"
    assert address_of(ClusterConfig(address="two:2")) == "two:2"


def test_no_cluster_at_the_address_is_said_at_once() -> None:
    started = time.monotonic()
    with pytest.raises(ValueError, match=r"cluster\.address: no Ray cluster answers at 127\.0\.0\.1:1"):
        check_answers("127.0.0.1:1")
    with pytest.raises(ValueError, match="is not host:port"):
        check_answers("nonsense")
    assert time.monotonic() - started < 30


def test_paths_that_would_vanish_with_a_job_are_refused() -> None:
    with pytest.raises(ValueError, match="relative") as caught:
        refuse_relative_paths(load(None, ["corpus.train=[texts/*.txt, /mnt/a.txt, builtin:python-docs]"]))
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in lines] == ["run.directory", "data.directory", "corpus.train"]
    assert "texts/*.txt is relative, but a submitted job runs in a folder that vanishes" in lines[2]
    refuse_relative_paths(load(None, ["run.directory=/mnt/run", "data.directory=s3://bucket/data"]))


def test_a_private_cluster_is_as_large_as_the_settings_ask() -> None:
    assert local_cpus(ClusterConfig(num_workers=50, cpus_per_worker=2)) == 100


@pytest.mark.parametrize(
    ("node_cpus", "num_workers", "share"),
    [([8], 1, 8), ([8], 3, 2), ([8, 8], 2, 8), ([8, 4], 3, 4), ([1], 4, 1), ([], 1, 1)],
)
def test_the_most_cpus_that_each_worker_can_have(node_cpus: list[int], num_workers: int, share: int) -> None:
    assert _even_share(node_cpus, num_workers) == share

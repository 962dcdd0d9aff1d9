"""Other work on the cluster of the tests."""

from collections.abc import Iterator
from typing import Any

import pytest
import ray


@pytest.fixture
def holder(ray_cluster: None) -> Iterator[Any]:
    """A process that holds a CPU of the cluster, as other work does."""
    process: Any = ray.remote(num_cpus=1)(Holder).remote()
    assert ray.get(process.is_there.remote())
    yield process
    ray.kill(process)


class Holder:
    def is_there(self) -> bool:
        return True

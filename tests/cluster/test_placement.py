"""A search loses no CPUs of a cluster that outlives it."""

import random
import time
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.air.execution import PlacementGroupResourceManager, ResourceRequest
from ray.util import placement_group, remove_placement_group

from pipeline.cluster import placement

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def test_groups_that_are_removed_at_once_lose_no_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the wait, Ray 2.60 loses the CPUs of most of these groups."""
    monkeypatch.setattr(placement, "COMPLETE_SECONDS", 10.0)
    remove = placement.patient(lambda manager: remove_placement_group(manager._request_to_staged_pgs["all"][0]))
    source = random.Random(1)
    for _ in range(80):
        manager: Any = SimpleNamespace(_request_to_staged_pgs={"all": [placement_group([{"CPU": 0.01}])]})
        time.sleep(source.random() / 250)  # removed at another stage of its creation each time
        remove(manager)
    deadline = time.monotonic() + 30
    while ray.available_resources().get("CPU") != 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_tune_waits_for_its_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in placement.REMOVING:
        monkeypatch.setattr(PlacementGroupResourceManager, name, getattr(PlacementGroupResourceManager, name))
    placement.complete_before_removal()
    placement.complete_before_removal()  # a second call changes nothing
    monkeypatch.setattr(placement, "COMPLETE_SECONDS", 5.0)
    manager = PlacementGroupResourceManager()
    small, large = ResourceRequest([{"CPU": 1}]), ResourceRequest([{"CPU": 64}])
    manager.request_resources(small)
    (group,) = manager._request_to_staged_pgs[small]
    states: list[str] = []
    wait = type(group).wait

    def watch(group: Any, seconds: float) -> bool:
        states.append(wait(group, seconds))
        return states[-1]

    monkeypatch.setattr(type(group), "wait", watch)
    manager.cancel_resource_request(resource_request=small)
    monkeypatch.setattr(placement, "COMPLETE_SECONDS", 0.1)
    manager.request_resources(large)
    manager.clear()  # a group that never finds room is not waited for without end
    assert states == [True, False]

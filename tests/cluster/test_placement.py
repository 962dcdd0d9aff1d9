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


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_groups_that_are_removed_at_once_lose_no_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the wait, Ray 2.60 loses the CPUs of most of these groups."""
    monkeypatch.setattr(placement, "COMPLETE_SECONDS", 10.0)
    remove = placement.patient(lambda manager: remove_placement_group(*manager._staging_future_to_pg.values()))
    source = random.Random(1)
    for _ in range(80):
        group = placement_group([{"CPU": 0.01}])
        manager: Any = SimpleNamespace(_staging_future_to_pg={group.ready(): group})
        time.sleep(source.random() / 250)  # removed at another stage of its creation each time
        remove(manager)
    deadline = time.monotonic() + 30
    while ray.available_resources().get("CPU") != 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_tune_waits_for_its_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in placement.REMOVING:
        monkeypatch.setattr(PlacementGroupResourceManager, name, getattr(PlacementGroupResourceManager, name))
    placement.complete_before_removal()
    placement.complete_before_removal()  # a second call changes nothing
    monkeypatch.setattr(placement, "COMPLETE_SECONDS", 5.0)
    manager = PlacementGroupResourceManager()
    small, large = ResourceRequest([{"CPU": 1}]), ResourceRequest([{"CPU": 64}])
    states: list[bool] = []
    wait = ray.wait

    def watch(groups: Any, **how: Any) -> Any:
        found = wait(groups, **how)
        states.append(not found[1])
        return found

    monkeypatch.setattr(placement.ray, "wait", watch)
    manager.request_resources(small)
    manager.cancel_resource_request(resource_request=small)
    monkeypatch.setattr(placement, "COMPLETE_SECONDS", 0.1)
    manager.request_resources(large)
    manager.clear()  # a group that never finds room is not waited for without end
    assert states == [True, False]


def test_all_groups_together_are_waited_for_once_and_for_a_part_of_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that waits for a node is never complete in time: many of these must not add up."""
    seen: list[Any] = []
    monkeypatch.setattr(placement.ray, "is_initialized", lambda: True)
    monkeypatch.setattr(placement.ray, "wait", lambda groups, **how: seen.append((groups, how)))
    manager = SimpleNamespace(_staging_future_to_pg={"first": "group 1", "second": "group 2"})
    assert placement.patient(lambda manager, number: number)(manager, 7) == 7
    assert seen == [(["first", "second"], {"num_returns": 2, "timeout": 0.1})]
    manager._staging_future_to_pg.clear()
    placement.patient(lambda manager: None)(manager)
    assert len(seen) == 1

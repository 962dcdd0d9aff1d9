"""A rank that is slower than the others is reported once until it recovers, and is in the figures."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.config import Config
from pipeline.data.prepare import prepare_in_process
from pipeline.training import stragglers
from pipeline.training.monitor import read
from pipeline.training.stragglers import Stragglers, ratios
from tests.training.ranks import Plan, train_on_ranks


def test_each_rank_is_compared_with_the_median_of_the_others() -> None:
    assert ratios([1.0, 3.0]) == [1 / 3, 3.0]
    assert ratios([1.0, 2.0, 9.0]) == [1 / 5.5, 2 / 5, 6.0]
    assert ratios([2.0, 2.0, 2.0, 5.0]) == [1.0, 1.0, 1.0, 2.5]


def test_a_straggler_is_reported_once_until_it_keeps_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    others: list[list[float]] = []
    name = [float(byte) for byte in b"node-7".ljust(stragglers.NAME_BYTES, b"\0")]
    monkeypatch.setattr(
        stragglers, "all_reduce_sum", lambda values: name if len(values) > 3 else [*values[:1], *others.pop()]
    )
    watch = Stragglers(rank=0, world_size=3)

    def sentences(*rest: float) -> list[str]:
        others.append(list(rest))
        figures, said = watch.look(2.0)
        assert figures == {"slowest_worker": 2, "slowest_ratio": rest[1] / ((2.0 + rest[0]) / 2)}
        return said

    assert sentences(2.0, 2.8) == []
    (sentence,) = sentences(2.0, 3.5)
    assert sentence.startswith("worker 2 on node-7 takes 1.8 times as long as the others")
    assert sentences(2.0, 9.0) == []
    assert sentences(2.0, 2.5) == []
    assert len(sentences(2.0, 4.0)) == 1


def test_short_intervals_are_judged_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stragglers, "all_reduce_sum", lambda values: [0.1, 0.3] if len(values) == 2 else list(values))
    watch = Stragglers(rank=0, world_size=2)
    assert [len(watch.look(0.1)[1]) for _ in range(8)] == [0, 0, 0, 1, 0, 0, 0, 0]


def test_a_delay_on_one_of_two_ranks_is_reported_once(make_config: Callable[..., Config]) -> None:
    config = make_config({"train.max_steps": 60, "train.log_every_steps": 10})
    prepare_in_process(config)
    train_on_ranks(2, Plan(config, slow=(1, 40, 0.05)))
    records = list(read(Path(str(config.run.directory)) / "metrics.jsonl"))
    lines = [record for record in records if record["kind"] == "train"]
    assert [line["slowest_worker"] for line in lines[:4]] == [1] * 4
    assert min(line["slowest_ratio"] for line in lines[:4]) > stragglers.RATIO
    (warning,) = [record for record in records if record["kind"] == "warning"]
    assert warning["text"].startswith(f"worker 1 on {socket.gethostname()} takes ")
    assert warning["step"] in (20, 30)

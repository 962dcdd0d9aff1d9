"""The formulas of docs/scaling.md at values worked out by hand, at their limits, and against published speed-ups."""

import math
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))  # scripts there import each other like that

import scaling
from scaling_model import (
    Accelerator,
    Cluster,
    Failures,
    Job,
    Link,
    Measured,
    all_gather_seconds,
    all_reduce_seconds,
    fit,
    predicted,
    speed_up,
    step_seconds,
)

# 100 MB/s and 1 ms within nodes of 4 GPUs, 10 MB/s and 5 ms between nodes
CLUSTER = Cluster(Link(100e6, 1e-3), Link(10e6, 5e-3), gpus_per_node=4)
FREE = Cluster(Link(math.inf), Link(math.inf), gpus_per_node=4)
JOB = Job(num_parameters=1_000_000, flops_per_token=6e6, tokens=100, time_steps=20, embedding_size=400_000, row_size=40)
MACHINE = Accelerator(flops=6e9, time_step_seconds=1e-3, update_seconds=1e-8)


def test_an_all_reduce_sends_its_bytes_and_waits_two_ways() -> None:
    # within a node: 2 · 3/4 · 8 MB at 100 MB/s, and 2 · 3 hops
    assert all_reduce_seconds(8e6, 4, CLUSTER) == pytest.approx(0.12 + 6e-3)
    # 16 nodes: 2 · 63/64 · 8 MB at 10 MB/s; a tree is 3 hops within and log2(16) between, a ring 63 between
    assert all_reduce_seconds(8e6, 64, CLUSTER) == pytest.approx(1.575 + 2 * (3e-3 + 4 * 5e-3))
    # 2 nodes with one GPU each: one hop each way
    assert all_reduce_seconds(1e6, 2, Cluster(Link(1e9), Link(1e6, 0.25), gpus_per_node=1)) == pytest.approx(1.5)
    assert all_gather_seconds(1e6, 4, CLUSTER) == pytest.approx(0.03 + 3e-3)


def test_one_gpu_exchanges_nothing_and_a_free_network_scales_linearly() -> None:
    assert all_reduce_seconds(8e6, 1, CLUSTER) == all_gather_seconds(8e6, 1, CLUSTER) == 0.0
    assert speed_up(JOB, MACHINE, CLUSTER, 1) == 1.0
    assert speed_up(JOB, MACHINE, FREE, 4096) == pytest.approx(4096)


def test_a_step_is_compute_update_and_exchange() -> None:
    step = step_seconds(JOB, MACHINE, CLUSTER, 4)
    assert step.compute == pytest.approx(100 * 6e6 / 6e9 + 20e-3)
    assert step.update == pytest.approx(0.01)
    assert step.exchange == pytest.approx(1.5 * 4e6 / 100e6 + 6e-3)
    assert speed_up(JOB, MACHINE, CLUSTER, 4) == pytest.approx(4 * 0.13 / (0.13 + 0.066))


def test_rows_pay_until_they_are_as_many_bytes_as_the_dense_gradient() -> None:
    # 600,000 numbers stay dense; the 100 tokens of each GPU, as 40 numbers and a type each, are 16.8 kB
    assert step_seconds(JOB, MACHINE, CLUSTER, 4, rows=True).exchange == pytest.approx(
        1.5 * 2.4e6 / 100e6 + 6e-3 + 3 * 16_800 / 100e6 + 3e-3
    )
    flat = Cluster(Link(1e6), Link(1e6))
    few, many = (
        step_seconds(JOB, MACHINE, flat, n, rows=True).exchange < step_seconds(JOB, MACHINE, flat, n).exchange
        for n in (180, 200)  # 10,000 types; 2 · 400,000 · 4 bytes ÷ 16,800 = 190 GPUs
    )
    assert (few, many) == (True, False)


def test_the_interval_between_checkpoints_is_that_of_young_and_daly() -> None:
    lost = Failures(gpu_seconds=1_000_000, checkpoint_seconds=5, restart_seconds=100)
    assert lost.mean_seconds(100) == 10_000
    assert lost.young_interval(100) == pytest.approx(math.sqrt(2 * 5 * 10_000))
    ratio = 5 / 20_000
    assert lost.daly_interval(100) == pytest.approx(316.22777 * (1 + math.sqrt(ratio) / 3 + ratio / 9) - 5)
    assert lost.daly_interval(1_000_000) == 1.0  # the checkpoint takes longer than twice the time between failures
    # the best interval beats others, and if the costs are small the share is one minus them
    best = lost.daly_interval(100)
    shares = [lost.useful_share(100, factor * best) for factor in (0.5, 0.9, 1.0, 1.1, 2.0)]
    assert max(shares) == shares[2]
    assert shares[2] == pytest.approx(1 - 5 / best - best / 2 / 10_000 - 100 / 10_000, abs=2e-3)
    # almost nothing fails, so only the checkpoints cost
    assert Failures(1e15, 5, 100).useful_share(1, 95.0) == pytest.approx(0.95)


def test_a_fit_finds_the_constants_that_made_the_times() -> None:
    machine, link = Accelerator(50e9, update_seconds=2e-9), Link(1e9, 2e-3)
    cluster = Cluster(link, link, gpus_per_node=2)
    models = [(1_000_000, 2e9), (4_000_000, 3e9), (2_000_000, 20e9)]
    measured = []
    for parameters, flops in models:
        alone, both = (predicted(Measured(parameters, flops, 0, 0), machine, cluster, n) for n in (1, 2))
        measured.append(Measured(parameters, flops, alone, both))
    found, network = fit(measured)
    assert found.flops == pytest.approx(machine.flops)
    assert found.update_seconds == pytest.approx(machine.update_seconds)
    assert (network.within.bandwidth, network.within.latency) == pytest.approx((link.bandwidth, link.latency))
    with pytest.raises(ValueError, match="at least two models"):
        fit(measured[:1])


def test_a_negative_latency_is_not_fitted() -> None:
    measured = [Measured(1_000_000, 1e9, 1.0, 1.1), Measured(2_000_000, 2e9, 2.0, 2.3)]
    _, network = fit(measured)
    assert network.within.latency == 0.0
    assert 4e6 / 0.1 > network.within.bandwidth > 8e6 / 0.3


@pytest.mark.parametrize("network", scaling.PURI_SPEED_UP)
def test_the_speed_ups_of_puri_et_al_beyond_32_gpus_follow_from_32(network: str) -> None:
    _, found = scaling.puri_fitted(network)
    assert found == pytest.approx(scaling.PURI_SPEED_UP[network], rel=0.04)


def test_data_sheets_alone_are_17_per_cent_above_puri_et_al() -> None:
    published = scaling.PURI_SPEED_UP["InfiniBand"][128]
    found = scaling.puri("InfiniBand", scaling.PURI_NETWORK["InfiniBand"])[128]
    assert 1.0 < found / published < 1.17
    ethernet = "10 Gb/s Ethernet"
    slow = scaling.puri(ethernet, scaling.PURI_NETWORK[ethernet])
    assert slow == pytest.approx(scaling.PURI_SPEED_UP[ethernet], rel=0.07)


def test_the_two_models_have_the_size_that_their_names_say() -> None:
    small, large = scaling.jobs().values()
    # AWD-LSTM of Merity et al. 2018: tied embedding of 400, biases twice a gate
    layers = [(400, 1150), (1150, 1150), (1150, 400)]
    assert small.num_parameters == 10_000 * 401 + sum(4 * h * (i + h + 2) for i, h in layers)
    assert small.embedding_size == 0
    assert large.num_parameters == pytest.approx(1.03e9, rel=0.01)
    assert large.embedding_size == 793_471 * 512

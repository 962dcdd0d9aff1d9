"""Formulas for the time of a step on N GPUs and for what checkpoints and failures cost; nothing is measured here.

job + accelerator + cluster → compute, update and exchange of a step → speed-up → checkpoint interval → useful share

Every GPU has the same rows, however many GPUs there are (weak scaling), and no exchange is hidden behind the backward
pass: the gradient of a recurrent layer is complete only when that pass has reached the window's first token.
Letters: N GPUs, M nodes, P parameters, V types, E numbers of an embedding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Link:
    """Bytes a second that a ring carries over a link, and seconds until the first byte arrives."""

    bandwidth: float
    latency: float = 0.0


@dataclass(frozen=True)
class Cluster:
    """GPUs in nodes; ``between`` is all network adapters of a node together, as a ring through all GPUs uses them."""

    within: Link
    between: Link
    gpus_per_node: int = 8

    def bandwidth(self, num_gpus: int) -> float:
        """The bandwidth of the slowest link in a ring through ``num_gpus``."""
        if num_gpus <= self.gpus_per_node:
            return self.within.bandwidth
        return min(self.within.bandwidth, self.between.bandwidth)

    def ring_latency(self, num_gpus: int) -> float:
        """The latency of one trip around the ring: N − 1 hops, each as slow as the slowest at that moment."""
        link = self.within if num_gpus <= self.gpus_per_node else self.between
        return (num_gpus - 1) * link.latency

    def tree_latency(self, num_gpus: int) -> float:
        """The latency of one trip through a chain within each node and a binary tree of the nodes (NCCL since 2.4)."""
        num_nodes = math.ceil(num_gpus / self.gpus_per_node)
        chain = min(num_gpus, self.gpus_per_node) - 1
        return chain * self.within.latency + math.ceil(math.log2(num_nodes)) * self.between.latency


def all_reduce_seconds(num_bytes: float, num_gpus: int, cluster: Cluster) -> float:
    """Sum ``num_bytes`` of every GPU, result on all: 2(N−1)/N · bytes ÷ bandwidth and the latency of two trips.

    Sources: Patarasuk & Yuan 2009 (no method sends fewer bytes); Jeaugey 2019 (trees, which NCCL uses if latency
    dominates).
    """
    if num_gpus == 1:
        return 0.0
    moved = 2 * (num_gpus - 1) / num_gpus * num_bytes
    latency = min(cluster.ring_latency(num_gpus), cluster.tree_latency(num_gpus))
    return moved / cluster.bandwidth(num_gpus) + 2 * latency


def all_gather_seconds(num_bytes: float, num_gpus: int, cluster: Cluster) -> float:
    """Bring ``num_bytes`` of every GPU to all: (N−1) · bytes ÷ bandwidth and one trip around the ring."""
    if num_gpus == 1:
        return 0.0
    return (num_gpus - 1) * num_bytes / cluster.bandwidth(num_gpus) + cluster.ring_latency(num_gpus)


@dataclass(frozen=True)
class Accelerator:
    """A processor: FLOPs a second that training reaches, seconds of one sequential time step of a layer, seconds of
    the update for a parameter."""

    flops: float
    time_step_seconds: float = 0.0
    update_seconds: float = 0.0


@dataclass(frozen=True)
class Job:
    """A model and one GPU's part of a step.

    ``embedding_size`` counts the numbers (V · E) that may be exchanged as rows instead of whole: the rows of ``tokens``
    positions, ``row_size`` numbers each, with its type in 8 bytes. 0: the embedding is tied or rows are not supported.
    """

    num_parameters: float
    flops_per_token: float
    tokens: int
    time_steps: int  # of all layers, forward and backward: those that must come one after another
    gradient_bytes: int = 4  # of a number: 4 float32, 2 with ddp.communication bf16
    embedding_size: int = 0
    row_size: int = 0


@dataclass(frozen=True)
class Step:
    """Seconds of a step's parts."""

    compute: float
    update: float
    exchange: float

    @property
    def total(self) -> float:
        return self.compute + self.update + self.exchange


def step_seconds(job: Job, accelerator: Accelerator, cluster: Cluster, num_gpus: int, *, rows: bool = False) -> Step:
    """A step on ``num_gpus``; ``rows``: the embedding's gradient as rows, gathered from all, instead of dense."""
    compute = job.tokens * job.flops_per_token / accelerator.flops + job.time_steps * accelerator.time_step_seconds
    dense = job.num_parameters - (job.embedding_size if rows else 0)
    exchange = all_reduce_seconds(dense * job.gradient_bytes, num_gpus, cluster)
    if rows:
        exchange += all_gather_seconds(job.tokens * (4 * job.row_size + 8), num_gpus, cluster)
    return Step(compute, job.num_parameters * accelerator.update_seconds, exchange)


def speed_up(job: Job, accelerator: Accelerator, cluster: Cluster, num_gpus: int, *, rows: bool = False) -> float:
    """Tokens a second divided by those of one GPU."""
    alone = step_seconds(job, accelerator, cluster, 1).total
    return num_gpus * alone / step_seconds(job, accelerator, cluster, num_gpus, rows=rows).total


@dataclass(frozen=True)
class Failures:
    """Seconds between failures of one GPU (with its share of node and network), seconds that training waits for a
    checkpoint, and seconds from a failure until the first step of the restarted run."""

    gpu_seconds: float
    checkpoint_seconds: float
    restart_seconds: float

    def mean_seconds(self, num_gpus: int) -> float:
        """Mean seconds between failures of any of ``num_gpus``."""
        return self.gpu_seconds / num_gpus

    def young_interval(self, num_gpus: int) -> float:
        """Seconds of training between checkpoints: √(2 δ M). Source: Young 1974."""
        return math.sqrt(2 * self.checkpoint_seconds * self.mean_seconds(num_gpus))

    def daly_interval(self, num_gpus: int) -> float:
        """The same to a higher order, for checkpoints that are not short relative to M. Source: Daly 2006, eq. 37."""
        cost, mean = self.checkpoint_seconds, self.mean_seconds(num_gpus)
        if cost >= 2 * mean:
            return mean
        ratio = cost / (2 * mean)
        return math.sqrt(2 * cost * mean) * (1 + math.sqrt(ratio) / 3 + ratio / 9) - cost

    def useful_share(self, num_gpus: int, interval: float) -> float:
        """The share of the time that is training that counts: the rest is checkpoints, lost work and restarts.

        Exponential failures, also during checkpoints and restarts: an interval takes
        M · exp(R/M) · (exp((interval + δ)/M) − 1) on average. Source: Daly 2006, eq. 20.
        """
        mean = self.mean_seconds(num_gpus)
        taken = mean * math.exp(self.restart_seconds / mean)
        return interval / (taken * math.expm1((interval + self.checkpoint_seconds) / mean))


def fitted_bandwidth(speed_up: float, num_gpus: int, *, num_bytes: float, seconds_alone: float) -> float:
    """The bandwidth, without latency, at which ``num_gpus`` reach ``speed_up`` over ``seconds_alone`` a step."""
    exchange = seconds_alone * (num_gpus / speed_up - 1)
    return 2 * (num_gpus - 1) / num_gpus * num_bytes / exchange


@dataclass(frozen=True)
class Measured:
    """A step of a model as timed on one and on two workers, with the same rows on each."""

    num_parameters: int
    flops: float  # of one worker's part
    seconds_on_1: float
    seconds_on_2: float
    gradient_bytes: int = 4


def fit(measured: Sequence[Measured]) -> tuple[Accelerator, Cluster]:
    """Fit compute and update to one worker, bandwidth and latency to the extra time of two, by least relative errors.

    Raises:
        ValueError: fewer than two models, too few to determine four constants.
    """
    if len(measured) < 2:
        raise ValueError(f"measured: at least two models are needed to fit, not {len(measured)}")
    alone = [m.seconds_on_1 for m in measured]
    per_flop, per_parameter = nonnegative([[m.flops, m.num_parameters] for m in measured], alone)
    longer = [m.seconds_on_2 - m.seconds_on_1 for m in measured]
    per_byte, latency = nonnegative([[m.num_parameters * m.gradient_bytes, 2.0] for m in measured], longer)
    link = Link(1 / per_byte if per_byte else math.inf, latency)
    flops = 1 / per_flop if per_flop else math.inf
    return Accelerator(flops, update_seconds=per_parameter), Cluster(link, link, gpus_per_node=2)


def nonnegative(rows: Sequence[Sequence[float]], values: Sequence[float]) -> tuple[float, float]:
    """The factors, neither below 0, with which the two columns of ``rows`` come nearest to ``values``, relatively."""
    scaled, ones = np.asarray(rows) / np.asarray(values)[:, None], np.ones(len(values))
    found = []
    for kept in ([0, 1], [0], [1]):
        factors = np.zeros(2)
        factors[kept] = np.linalg.lstsq(scaled[:, kept], ones, rcond=None)[0]
        if (factors >= 0).all():
            found.append((float(np.sum((scaled @ factors - 1) ** 2)), tuple(map(float, factors))))
    first, second = min(found)[1]
    return first, second


def predicted(measured: Measured, accelerator: Accelerator, cluster: Cluster, num_workers: int) -> float:
    """Seconds of the step of ``measured`` according to the formulas."""
    job = Job(measured.num_parameters, measured.flops, 1, 0, measured.gradient_bytes)
    return step_seconds(job, accelerator, cluster, num_workers).total


def with_bandwidth(cluster: Cluster, bandwidth: float) -> Cluster:
    """``cluster`` with another network between its nodes."""
    return replace(cluster, between=replace(cluster.between, bandwidth=bandwidth))

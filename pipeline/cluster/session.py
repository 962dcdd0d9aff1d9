"""Connect to Ray: to the cluster that was named, or to a private local one for as long as it is needed.

Inside a submitted job, or if RAY_ADDRESS or ``cluster.address`` is set, that cluster is joined. Otherwise a local one
is started that no one else sees; one that something else left behind is never joined.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import ray
from ray.exceptions import AuthenticationError

from pipeline.cluster import start
from pipeline.cluster.address import address_of, check_answers, origin_of
from pipeline.cluster.growth import await_report
from pipeline.config import ClusterConfig
from pipeline.errors import UserError
from pipeline.resources import available_cpus, check_cpus

OBJECT_STORE_BYTES = 256 << 20
MIN_OBJECT_STORE_BYTES = 80 << 20

# The controller notices finished and lost workers at its next look; by default that is two seconds or more away.
QUICK = {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2", "RAY_USAGE_STATS_ENABLED": "0"}
# What matters only if machines are taken away, and what would print to the terminal that shows the progress line.
LOCAL = {
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_WARN_BLOCKING_GET_INSIDE_ASYNC": "0",
    # an agent that starts only when asked may take long on a busy machine; by default the node ends after 30 s
    "RAY_agent_register_timeout_ms": "600000",
    # what controller, workers and tasks of Ray Data all need is loaded while a process waits to become one of them
    "RAY_preload_python_modules": "pipeline.cluster.callbacks,pipeline.cluster.controller",
    # the workers do this command's own work: by default Ray has them yield to whatever else the machine does
    "RAY_worker_niceness": "0",
    # no one looks at the figures and events of a cluster that lives only as long as this command; they take time
    "RAY_enable_metrics_collection": "0",
    "RAY_task_events_report_interval_ms": "0",
    "RAY_event_stats": "0",
    "REPORTER_UPDATE_INTERVAL_MS": "60000",
    "SCAN_EVENT_DIR_INTERVAL_SECONDS": "60",
    # a process that waits for tasks wakes up a hundred times a second: none is kept in reserve for long, but those of a
    # preparation (2 s to start, with their imports) are kept from one of its parts to the next
    "RAY_num_workers_soft_limit": "0",
    "RAY_idle_worker_killing_time_threshold_ms": "10000",
}
STARTED: list[Any] = []  # the cluster of this process


@contextmanager
def ray_session(cluster: ClusterConfig, *, verbose: bool = False) -> Iterator[None]:
    """Connect to Ray; at the end, shut down what was started here.

    If this process is connected to a Ray already, that one is used as it is.

    Raises:
        UserError: no cluster answers at the address.
    """
    if ray.is_initialized():
        yield
        return
    address = address_of(cluster)
    for name, value in {**QUICK, **({} if address else LOCAL)}.items():
        os.environ.setdefault(name, value)
    if not verbose:
        logging.getLogger("ray").setLevel(logging.ERROR)
    quiet: dict[str, Any] = {} if verbose else {"log_to_driver": False, "logging_level": "ERROR"}
    if address:
        check_answers(address, origin=origin_of(cluster))
        try:
            ray.init(address, **quiet)
        except (AuthenticationError, ConnectionError, RuntimeError) as error:
            raise refused(address, error, origin=origin_of(cluster)) from None
        await_report()
    else:
        os.environ.pop("RAY_ADDRESS", None)
        with nullcontext() if verbose else start.lean():
            ray.init(
                "local",
                num_cpus=local_cpus(cluster),
                include_dashboard=False,
                object_store_memory=object_store_bytes(),
                **quiet,
            )
        STARTED.append(own_node())
    try:
        yield
    finally:
        STARTED.clear()
        ray.shutdown()


def is_private() -> bool:
    """Return whether this process has started the cluster that it is connected to, which ends with it."""
    return bool(STARTED)


def refused(address: str, error: Exception, *, origin: str = "cluster.address") -> UserError:
    """The sentence for a cluster that cannot be joined; Ray does not say that a token is missing or wrong."""
    from pipeline.cluster.job_api import MODE, JobApi, token_mode, token_place

    if isinstance(error, AuthenticationError):
        return UserError(JobApi(address, origin).missing_token())
    sent = f"the one in {token_place()} was sent" if token_mode() else f"none was sent without {MODE}=token"
    reason = str(error).strip().splitlines()[0]
    return UserError(f"{origin}: cannot join the Ray cluster at {address}: {reason} (if it wants a token, {sent})")


def own_node() -> Any:
    """Return Ray's private object for the node that this process belongs to; None if there is none."""
    worker = getattr(getattr(ray, "_private", None), "worker", None)
    return getattr(worker, "_global_node", None)


def local_cpus(cluster: ClusterConfig) -> int:
    """Return the CPUs of the private cluster: all, or more if asked for. Raises ``UserError`` for far too many."""
    workers = cluster.num_workers if cluster.num_workers != "auto" else 1
    each = cluster.cpus_per_worker if cluster.cpus_per_worker != "auto" else 1
    check_cpus(workers, each)
    return max(available_cpus(), workers * each)


def object_store_bytes() -> int:
    """Return the size of a small object store: at most half of the shared memory, as only figures travel through it."""
    try:
        shared = os.statvfs("/dev/shm")
    except OSError:
        return OBJECT_STORE_BYTES
    return max(MIN_OBJECT_STORE_BYTES, min(OBJECT_STORE_BYTES, shared.f_bavail * shared.f_frsize // 2))

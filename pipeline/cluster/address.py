"""Find out which cluster is meant and whether something listens there, without Ray."""

from __future__ import annotations

import os
import socket

from pipeline.config import ClusterConfig
from pipeline.errors import UserError

CONNECT_SECONDS = 5.0
LAST_PORT = 65535


def address_of(cluster: ClusterConfig) -> str | None:
    """Return the address of the cluster to join, or None to start a private one."""
    return cluster.address or os.environ.get("RAY_ADDRESS") or None


def origin_of(cluster: ClusterConfig) -> str:
    """Return what names the cluster to join: the setting, or the variable that counts without it."""
    return "cluster.address" if cluster.address else "RAY_ADDRESS"


def check_answers(address: str, *, origin: str = "cluster.address") -> None:
    """Raise ``UserError``, which begins with ``origin``, if nothing listens at ``address``; Ray would wait for long."""
    if address in ("auto", "local"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        number = int(port)
        if "/" in host or not 0 < number <= LAST_PORT:
            raise ValueError
        host = host[1:-1] if host.startswith("[") and host.endswith("]") else host  # IPv6, as in [::1]:6379
        with socket.create_connection((host, number), timeout=CONNECT_SECONDS):
            return
    except ValueError:
        raise UserError(f"{origin}: {address} is not HOST:PORT, such as head:6379 or ray://head:10001") from None
    except OSError:
        raise UserError(f"{origin}: no Ray cluster answers at {address}") from None

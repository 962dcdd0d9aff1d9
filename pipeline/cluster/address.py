"""Find out which cluster is meant and whether something listens there, without Ray."""

from __future__ import annotations

import os
import socket

from pipeline.config import ClusterConfig
from pipeline.errors import UserError

CONNECT_SECONDS = 5.0


def address_of(cluster: ClusterConfig) -> str | None:
    """Return the address of the cluster to join, or None to start a private one."""
    return cluster.address or os.environ.get("RAY_ADDRESS") or None


def check_answers(address: str) -> None:
    """Raise ``UserError`` if nothing listens at ``address``; Ray itself would wait for a long time."""
    if address in ("auto", "local"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS):
            return
    except ValueError:
        raise UserError(f"cluster.address: {address} is not host:port or ray://host:port") from None
    except OSError:
        raise UserError(f"cluster.address: no Ray cluster answers at {address}") from None

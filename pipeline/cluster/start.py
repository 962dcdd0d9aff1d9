"""Start a private Ray without the processes that a cluster of one machine and one command has no use for.

The names here are private to Ray; what a version of Ray calls differently is started in Ray's own way.
"""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import ray

from pipeline.cluster import late_agent

# they add machines, print logs, and answer questions about the cluster: no one asks here
BYSTANDERS = ("start_monitor", "start_log_monitor", "start_api_server")
# the versions of Ray for which we checked how a node and its agents tell each other their ports
AGENTS_KNOWN = ("2.60.",)
AGENTS = {
    "--dashboard_agent_command=": late_agent.DASHBOARD,
    "--runtime_env_agent_command=": late_agent.ENVIRONMENTS,
}


@contextmanager
def lean() -> Iterator[None]:
    """Within this context, Ray starts a node without bystanders, and with agents that start when they are asked."""
    private: Any = getattr(ray, "_private", None)
    node, services = getattr(getattr(private, "node", None), "Node", None), getattr(private, "services", None)
    with ExitStack() as stack:
        for name in BYSTANDERS:
            stack.enter_context(replaced(node, name, lambda usual: lambda self, **how: None))
        if ray.__version__.startswith(AGENTS_KNOWN):
            stack.enter_context(replaced(services, "start_ray_process", with_late_agents))
            stack.enter_context(replaced(private.utils, "get_dashboard_dependency_error", lambda usual: lambda: None))
        yield


@contextmanager
def replaced(owner: Any, name: str, new: Callable[[Any], Any]) -> Iterator[None]:
    """Replace ``owner``'s attribute, if it exists, with what ``new`` makes of it."""
    usual = inspect.getattr_static(owner, name, None)  # a static method stays one, so that it can be put back
    if usual is None:
        yield
        return
    setattr(owner, name, new(usual))
    try:
        yield
    finally:
        setattr(owner, name, usual)


def with_late_agents(start: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``start``, which starts a process, so that a node gets ``late_agent`` in place of its agents."""

    def start_with_late_agents(command: Sequence[str], *arguments: Any, **how: Any) -> Any:
        return start(late_agents(command), *arguments, **how)

    return start_with_late_agents


def late_agents(command: Sequence[str]) -> list[str]:
    """Return the ``command`` that starts a node, with its agents replaced; any other command as it is."""
    options = dict(word.partition("=")[::2] for word in command if word.startswith("--"))
    session, node_id, address = (options.get(f"--{name}") for name in ("session_dir", "node_id", "node_ip_address"))
    if not (session and node_id and address):
        return list(command)
    result = []
    for word in command:
        for option, kind in AGENTS.items():
            if word.startswith(option):
                stand_in = [sys.executable, "-S", "-E", late_agent.__file__, kind, session, node_id, address]
                word = f"{option}{subprocess.list2cmdline(stand_in)} {word.removeprefix(option)}"
        result.append(word)
    return result

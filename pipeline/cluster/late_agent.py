"""A stand-in for an agent of Ray's on a private cluster, run as a script with the standard library alone.

A node starts two agents and waits until they say where they listen, which takes two seconds or more. One reports to a
dashboard, and there is none; the other makes environments for tasks that want one of their own, and ours do not. The
first is left out, as if Ray were installed without its dashboard; the second starts when it is first asked.

    late_agent.py KIND SESSION_DIRECTORY NODE_ID ADDRESS COMMAND...
"""

from __future__ import annotations

import os
import select
import socket
import sys
import time

DASHBOARD, ENVIRONMENTS = "dashboard", "environments"
PORTS = {
    DASHBOARD: ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port"),
    ENVIRONMENTS: ("runtime_env_agent_port",),
}
NO_PORT = -1
OWN_PORT = "--runtime-env-agent-port="  # an option of the command
LOOK_SECONDS = 1.0


def main(kind: str, session: str, node_id: str, address: str, *command: str) -> None:
    """Tell the node the ports, then wait until it is gone or asks."""
    parent = os.getppid()
    if kind == DASHBOARD:
        tell(kind, session, node_id, NO_PORT)
        while os.getppid() == parent:
            time.sleep(LOOK_SECONDS)
        return
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as server:
        port = server.getsockname()[1]
        tell(kind, session, node_id, port)
        while not select.select([server], [], [], LOOK_SECONDS)[0]:
            if os.getppid() != parent:
                return
    os.execv(command[0], [f"{OWN_PORT}{port}" if word.startswith(OWN_PORT) else word for word in command])


def tell(kind: str, session: str, node_id: str, port: int) -> None:
    """Write ``port`` where the node looks for the ports of this agent."""
    for name in PORTS[kind]:
        place = os.path.join(session, f"{name}_{node_id}")
        with open(f"{place}.new", "w", encoding="ascii") as file:
            file.write(str(port))
        os.replace(f"{place}.new", place)


if __name__ == "__main__":
    main(*sys.argv[1:])

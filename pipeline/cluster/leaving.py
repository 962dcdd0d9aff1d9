"""The notice that the node of this process is about to be taken away, for a process that Ray Train does not run.

Ray's list of nodes that are to go → a thread that looks at it → ``save_requested`` of a run
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import ray
from ray._private import state

SECONDS_BETWEEN_LOOKS = 5.0  # a spot node is there for 30 s to two minutes after its notice


@contextmanager
def node_leaves_once(seconds: float = SECONDS_BETWEEN_LOOKS) -> Iterator[Callable[[], bool]]:
    """While open, give a function that is true once for each notice that the node is about to be taken away.

    Args:
        seconds: between looks, which are made in a thread, because the head may take long to answer.
    """
    node, told, is_over = ray.get_runtime_context().get_node_id(), threading.Event(), threading.Event()

    def look() -> None:
        deadline = None
        while not is_over.wait(seconds):
            # the head may be gone for a while; without this function, which is Ray's own, trials just do not hear of it
            with suppress(Exception):
                now = state.state.get_draining_nodes().get(node)
                if now is not None and now != deadline:
                    told.set()
                deadline = now

    def node_leaves() -> bool:
        if not told.is_set():
            return False
        told.clear()
        return True

    threading.Thread(target=look, name="leaving node", daemon=True).start()
    try:
        yield node_leaves
    finally:
        is_over.set()

"""The state before each of the last updates is kept, so that an update can be undone."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Mapping
from typing import Any

from pipeline.training.stateful import Stateful


class Rollback:
    """Remembers the ``parts`` that an update changes as they were before each of the last two.

    A window whose loss is bad was read with the weights that the update before it made. So undoing goes back to where
    that update began: two updates back, since the window has made its own meanwhile.
    """

    def __init__(self, parts: Mapping[str, Stateful]) -> None:
        self.parts = parts
        self.states: deque[dict[str, Any]] = deque(maxlen=2)

    def remember(self) -> None:
        """Copy what the next update will change."""
        self.states.append(copy.deepcopy({name: part.state_dict() for name, part in self.parts.items()}))

    def undo(self) -> bool:
        """Go back to before the update that precedes the last window; False if that state is not known."""
        if len(self.states) < 2:
            return False
        for name, part in self.parts.items():
            part.load_state_dict(self.states[0][name])
        del self.states[1]
        return True

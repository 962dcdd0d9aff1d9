"""What a searched setting is drawn from: choices, or a range with its bounds, and under which condition it is drawn.

    kind            arguments            values
    choice          the values           each equally likely
    uniform         low, high            real numbers from low to high
    loguniform      low, high            their logarithms uniform
    quniform        low, high, step      multiples of step from low to high, both included, each equally likely
    qloguniform     low, high, step      loguniform, rounded to the nearest multiple of step from low to high
    randint         low, high            whole numbers from low to high - 1, each equally likely
    lograndint      low, high            whole numbers from low to high - 1, loguniform rounded down
    qrandint        low, high, step      multiples of step from low to high, both included, each equally likely

Values of ``choice``, ``uniform``, ``loguniform``, ``randint`` and ``lograndint`` are drawn as Ray Tune draws them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

CHOICE = "choice"
STEPPED = ("quniform", "qloguniform", "qrandint")
RANGES = ("uniform", "loguniform", "quniform", "qloguniform", "randint", "lograndint", "qrandint")
KINDS = (CHOICE, *RANGES)
WHOLE = ("randint", "lograndint", "qrandint")
LOGARITHMIC = ("loguniform", "qloguniform", "lograndint")
HIGH_EXCLUDED = ("randint", "lograndint")


@dataclass(frozen=True)
class Domain:
    """What a setting is drawn from: see the table above.

    ``when`` says for which values of which other searched settings it is drawn at all (all must hold; empty: always).
    """

    kind: str
    arguments: list[Any]
    when: Mapping[str, list[Any]] = field(default_factory=dict)

    @property
    def is_range(self) -> bool:
        return self.kind != CHOICE

    @property
    def low(self) -> Any:
        """The lowest value of a range."""
        return self.arguments[0]

    @property
    def high(self) -> Any:
        """The highest value of a range; of ``uniform`` and ``loguniform``, its bound."""
        return self.arguments[1] - 1 if self.kind in HIGH_EXCLUDED else self.arguments[1]

    @property
    def step(self) -> Any:
        """The distance between two neighbouring values; None for a range without steps."""
        if self.kind in STEPPED:
            return self.arguments[2]
        return 1 if self.kind in WHOLE else None

    @property
    def num_values(self) -> int | None:
        """How many values there are; None for a range without steps."""
        if not self.is_range:
            return len(self.arguments)
        return None if self.step is None else multiple(self.high, self.step) - multiple(self.low, self.step) + 1

    def value(self, index: int) -> Any:
        """The value at ``index``, from 0, among the ``num_values``."""
        if not self.is_range:
            return self.arguments[index]
        return times(multiple(self.low, self.step) + index, self.step)

    @property
    def listed(self) -> list[Any] | None:
        """All values; None for a range without steps."""
        return None if self.num_values is None else [self.value(index) for index in range(self.num_values)]

    def ends(self) -> list[Any]:
        """The choices, or the lowest and the highest value: what is checked before a search starts."""
        return [self.low, self.high] if self.is_range else list(self.arguments)

    def contains(self, value: Any) -> bool:
        """Whether ``value`` can be drawn."""
        if not self.is_range:
            return value in self.arguments
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not self.low <= value <= self.high:
            return False
        return self.step is None or value == times(round(value / self.step), self.step)

    def draw(self, source: np.random.Generator) -> Any:
        """The next value from ``source``."""
        import numpy as np

        if self.kind == "uniform":
            return float(source.uniform(self.low, self.high, size=1)[0])
        if self.kind in LOGARITHMIC:
            low, high = self.arguments[:2]
            drawn = float(np.exp(source.uniform(np.log(low), np.log(high), size=1))[0])
            return self.nearest(math.floor(drawn) if self.kind == "lograndint" else drawn)
        if self.kind == "randint":
            low, high = self.arguments
            return int(source.integers(low, high, size=1)[0])
        assert self.num_values is not None
        if self.kind == CHOICE:
            return self.value(int(source.choice(np.arange(self.num_values), size=1)[0]))
        return self.value(int(source.integers(self.num_values)))

    def nearest(self, number: float) -> Any:
        """The value of this range that is nearest to ``number``."""
        if self.step is None:
            return min(max(float(number), self.low), self.high)
        return times(round(min(max(number, self.low), self.high) / self.step), self.step)


def multiple(number: float, step: float) -> int:
    """``number`` in units of ``step``, rounded."""
    return round(number / step)


def times(count: int, step: float) -> float:
    """``count`` times ``step`` in decimal arithmetic: 3 × 0.1 is 0.3."""
    return count * step if isinstance(step, int) else float(count * Decimal(repr(step)))

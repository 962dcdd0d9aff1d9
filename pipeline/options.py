"""Options of jobs that are not settings. They are checked when they are created, without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipeline.errors import UserError

# below this temperature even the last bit of a logit decides, and float32 cannot hold the quotient
COLDEST = 1e-20
# a stronger penalty could turn logits into numbers that float32 cannot hold
LARGEST_PENALTY = 1e6
# each beam keeps a state and scores for all types
MOST_BEAMS = 1000
# length to this power must remain a number that can be divided by
LARGEST_LENGTH_PENALTY = 10.0
LARGEST_THETA = 1e3
# beyond these, dynamic evaluation only makes weights that float32 cannot hold
LARGEST, SMALLEST_EPSILON = 1e3, 1e-12


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn: the penalty first, then the other fields in this order; checked on creation.

    Raises:
        UserError: naming the argument, its value and what it must be.
    """

    temperature: float = 1.0  # 0: always the likeliest token
    top_k: int | None = None  # only the k likeliest tokens
    top_p: float | None = None  # only the likeliest tokens that together have at least this probability
    min_p: float | None = None  # only tokens at least this many times as likely as the likeliest
    repetition_penalty: float = 1.0  # divides the logits of tokens seen before (multiplies negative ones)

    def __post_init__(self) -> None:
        # "not" before each comparison, because none holds for NaN
        if not 0 <= self.temperature < math.inf:
            raise UserError(f"{self.temperature} is not a finite number of at least 0", argument="temperature")
        if self.top_k is not None and not self.top_k >= 1:
            raise UserError(f"{self.top_k} is below 1", argument="top_k")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise UserError(f"{self.top_p} is not in (0, 1]", argument="top_p")
        if self.min_p is not None and not 0 <= self.min_p <= 1:
            raise UserError(f"{self.min_p} is not in [0, 1]", argument="min_p")
        if not 1 / LARGEST_PENALTY <= self.repetition_penalty <= LARGEST_PENALTY:
            raise UserError(
                f"{self.repetition_penalty} is not in [{1 / LARGEST_PENALTY:g}, {LARGEST_PENALTY:,.0f}]",
                argument="repetition_penalty",
            )

    @property
    def takes_the_likeliest(self) -> bool:
        """Whether the likeliest token is always taken, so that nothing is drawn."""
        return self.temperature < COLDEST


AS_IS = Sampling()  # draws from the softmax itself


def check_beams(num_beams: int, length_penalty: float) -> None:
    """Raise ``UserError`` if an argument of a beam search is out of its range."""
    if not 1 <= num_beams <= MOST_BEAMS:
        raise UserError(f"{num_beams} is not between 1 and {MOST_BEAMS:,}", argument="beams")
    if not abs(length_penalty) <= LARGEST_LENGTH_PENALTY:
        raise UserError(
            f"{length_penalty} is not between {-LARGEST_LENGTH_PENALTY:g} and {LARGEST_LENGTH_PENALTY:g}",
            argument="length_penalty",
        )


@dataclass(frozen=True)
class CacheSettings:
    """θ, λ and the number of remembered places of a cache. Raises ``UserError`` if one is out of its range."""

    theta: float = 0.2
    weight: float = 0.1
    window: int = 500

    def __post_init__(self) -> None:
        if not 0 <= self.weight < 1:
            raise UserError(f"{self.weight} is not in [0, 1)", argument="cache_weight")
        if not 0 <= self.theta <= LARGEST_THETA:
            raise UserError(f"{self.theta} is not in [0, {LARGEST_THETA:,.0f}]", argument="cache_theta")
        if self.window < 1:
            raise UserError(f"{self.window} is below 1", argument="cache_window")


@dataclass(frozen=True)
class DynamicSettings:
    """The rule of dynamic evaluation and its settings. Raises ``UserError`` if one is out of its range."""

    rule: str = "rms"
    lr: float = 2e-3  # η
    decay: float = 0.02  # λ
    epsilon: float = 1e-3  # ε of rms; gradients of rare words are far smaller and must not be scaled up as far
    segment: int = 20  # tokens between two updates

    @classmethod
    def of(cls, rule: str, **given: float | None) -> DynamicSettings:
        """Return the settings of ``rule``: those ``given``, with the usual ones in place of None."""
        usual = {"lr": 0.1, "decay": 1e-3} if rule == "sgd" else {}
        return cls(rule, **{**usual, **{name: value for name, value in given.items() if value is not None}})  # type: ignore[arg-type]

    def __post_init__(self) -> None:
        # "not" before each comparison, because none holds for NaN
        if not 0 < self.lr <= LARGEST:
            raise UserError(f"{self.lr} is not in (0, {LARGEST:,.0f}]", argument="dynamic_lr")
        if not SMALLEST_EPSILON <= self.epsilon <= LARGEST:
            raise UserError(
                f"{self.epsilon} is not in [{SMALLEST_EPSILON:g}, {LARGEST:,.0f}]", argument="dynamic_epsilon"
            )
        if not 0 <= self.decay <= 1:
            raise UserError(f"{self.decay} is not in [0, 1]", argument="dynamic_decay")
        if self.segment < 1:
            raise UserError(f"{self.segment} is below 1", argument="dynamic_segment")


# what the table of surprisal has besides surprisal: names for ``jobs.evaluate --columns``, and those it has by default
SURPRISAL_COLUMNS = ("entropy", "rank", "lags", "length", "frequency", "word-entropy")
USUAL_COLUMNS = ("entropy", "rank", "lags", "length")

Adaptive = tuple[CacheSettings | None, DynamicSettings | None]

"""A model and held-out tokens in, honest figures out: every token but the first scored exactly once.

tokens (``held_out``) → windows with carried state → nats of every token (``scoring``) → sums, and the same by type,
position and document (``tally``) → perplexity, bits per byte, intervals and tests (``statistics``)
"""

from pipeline.evaluate.held_out import HeldOut, count_words, held_out, split_held_out, text_held_out
from pipeline.evaluate.scoring import Score, Scored, counted, evaluate, scored_windows, total
from pipeline.evaluate.statistics import Comparison, compare, perplexity_interval
from pipeline.evaluate.tally import Group, Tally, count_types

__all__ = [
    "Comparison",
    "Group",
    "HeldOut",
    "Score",
    "Scored",
    "Tally",
    "compare",
    "count_types",
    "count_words",
    "counted",
    "evaluate",
    "held_out",
    "perplexity_interval",
    "scored_windows",
    "split_held_out",
    "text_held_out",
    "total",
]

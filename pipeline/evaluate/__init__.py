"""Figures of a model on held-out text; every token but the first is scored exactly once.

tokens (``held_out``) → windows with carried state → nats of every token (``score``) → sums, in total and by type,
position and document (``breakdown``) → perplexity, bits per byte, intervals and tests (``statistics``)
"""

from pipeline.evaluate.breakdown import Breakdown, Group, count_types
from pipeline.evaluate.held_out import HeldOut, count_words, held_out, split_held_out, text_held_out
from pipeline.evaluate.score import Score, Total, counted, evaluate, total
from pipeline.evaluate.statistics import Comparison, compare, perplexity_interval
from pipeline.scoring import Scored, scored_windows

__all__ = [
    "Breakdown",
    "Comparison",
    "Group",
    "HeldOut",
    "Score",
    "Scored",
    "Total",
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

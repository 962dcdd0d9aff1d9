"""Context use is how much of the text before a token a trained model uses (Khandelwal et al. 2018).

``places`` chooses targets, and what is read before each; ``rows`` reads it, side by side; ``measure`` scores it;
``curve`` computes means, intervals and the effective context; ``figure`` draws several models.
"""

from pipeline.context_use.curve import Curve, Point, recommended_bptt
from pipeline.context_use.measure import ContextUse, measure, plan

__all__ = ["ContextUse", "Curve", "Point", "measure", "plan", "recommended_bptt"]

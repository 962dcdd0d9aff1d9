"""A head turns hidden vectors (T, B, H) into log-probabilities over the vocabulary, or the nats of given targets.

``base`` defines what every head offers; ``softmax``, ``adaptive`` and ``mixture`` are the heads; ``cross_entropy`` is
the fused loss that they share, which never keeps more than one copy of the logits of a chunk.
"""

from pipeline.model.head.adaptive import AdaptiveSoftmax
from pipeline.model.head.base import Head
from pipeline.model.head.build import build_head
from pipeline.model.head.mixture import MixtureOfSoftmaxes
from pipeline.model.head.softmax import Softmax

__all__ = ["AdaptiveSoftmax", "Head", "MixtureOfSoftmaxes", "Softmax", "build_head"]

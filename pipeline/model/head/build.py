"""The head that a configuration asks for."""

from __future__ import annotations

from torch import Tensor

from pipeline.config import ModelConfig
from pipeline.errors import UserError
from pipeline.model.head.adaptive import AdaptiveSoftmax
from pipeline.model.head.base import Head
from pipeline.model.head.mixture import MixtureOfSoftmaxes
from pipeline.model.head.softmax import Softmax

# where the tails of an adaptive softmax begin by default, as shares of the vocabulary: for WikiText-103's 267,735
# types about where they begin in Merity et al. 2018, "An Analysis of Neural Language Modeling at Multiple Scales"
TAILS_BEGIN = (1 / 100, 1 / 13, 2 / 7)


def build_head(
    config: ModelConfig, hidden_size: int, embedding_size: int, vocab_size: int, *, tied_to: Tensor | None
) -> Head:
    """Build a head for hidden vectors of ``hidden_size``, ``tied_to`` the embedding (V, E) or with its own matrices.

    Raises:
        UserError: tails that do not fit the vocabulary.
    """
    if config.head == "adaptive":
        cutoffs = cutoffs_for(config, vocab_size)
        return AdaptiveSoftmax(
            hidden_size, vocab_size, cutoffs=cutoffs, div_value=config.adaptive_div_value, tied_to=tied_to
        )
    if config.head == "mixture":
        return MixtureOfSoftmaxes(
            hidden_size, embedding_size, vocab_size, num_experts=config.num_experts, tied_to=tied_to
        )
    return Softmax(hidden_size, vocab_size, tied_to=tied_to)


def cutoffs_for(config: ModelConfig, vocab_size: int) -> list[int]:
    """Return the first id of each tail of an adaptive softmax. Raises ``UserError`` if one is not in the vocabulary."""
    cutoffs = config.adaptive_cutoffs or [round(share * vocab_size) for share in TAILS_BEGIN]
    if not 0 < cutoffs[0] <= cutoffs[-1] < vocab_size:
        raise UserError(
            f"model.adaptive_cutoffs: {cutoffs} must lie within the vocabulary, which has {vocab_size:,} types"
        )
    return cutoffs

"""Whether each split, and each text with a weight, has a token: an empty one is refused, by a dry run as well."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.config import CorpusConfig
from pipeline.data.corpus.splits import held_out_of_train
from pipeline.errors import UserError


def check_has_tokens(split: str, num_tokens: int, *, num_bytes: int, corpus: CorpusConfig) -> None:
    """Raises ``UserError`` for a split without a token, saying what to change if the training text was divided.

    Args:
        num_bytes: of the text that it was to be made of.
    """
    if num_tokens:
        return
    held_out = [name for name, fraction in held_out_of_train(corpus).items() if fraction]
    name = next((name for name in held_out if split in ("train", name)), None)
    advice = f"; change corpus.{name}_fraction or name a corpus.{name}" if name else ""
    raise UserError(f"corpus.{split}: there is no token in its {num_bytes:,} bytes of text{advice}")


def check_weighted(num_tokens: Mapping[int, int], corpus: CorpusConfig) -> None:
    """Raises ``UserError`` for a pattern of ``corpus.train`` whose weight does nothing, as nothing of it is left.

    Args:
        num_tokens: those in the training split, by the number of their pattern.
    """
    advice = " or name a corpus.valid" if any(held_out_of_train(corpus).values()) else ""
    for origin, (pattern, weight) in enumerate(zip(corpus.train, corpus.weights or (), strict=False)):
        if not num_tokens.get(origin):
            raise UserError(
                f"corpus.weights: nothing of {pattern} is in the training split, in spite of its weight of "
                f"{weight:g}; give it a larger one{advice}, or leave the pattern out"
            )

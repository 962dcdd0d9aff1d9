"""Which types continue a word, begin with white space, or are the end, and how likely a model finds these at a place.

Letters: T time, V vocabulary, G classes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipeline.data.tokenizer import Ids, Tokenizer
from pipeline.model.language_model import LanguageModel
from pipeline.scoring import Scored

# the classes of types: those that continue a word, those that begin with white space, and the end
WITHIN, BOUNDARY, END = range(3)


class Place(NamedTuple):
    """A model's figures at one place of a text, in nats."""

    nats: float  # −ln p of the token at this place
    entropy: float = math.nan  # of the distribution of that token
    within: float = math.nan  # −ln P(types that continue a word)
    boundary: float = math.nan  # −ln P(types that begin with white space)
    over: float = math.nan  # −ln P(those or the end), which end a word
    rank: int | None = None  # of the token among all types, 1 for the likeliest


def classes_of_types(tokenizer: Tokenizer) -> Ids:
    """Return (V, 3) the class of each type: ``WITHIN``, ``BOUNDARY`` or ``END``; (V, 0) if every token is a word."""
    if tokenizer.kind == "word":
        return np.zeros((tokenizer.vocab_size, 0), dtype=bool)
    classes = np.full(tokenizer.vocab_size, WITHIN)
    classes[[i for i in range(len(classes)) if tokenizer.decode_bytes(i)[:1].isspace()]] = BOUNDARY
    if tokenizer.eos_id is not None:
        classes[tokenizer.eos_id] = END
    return classes[:, None] == [WITHIN, BOUNDARY, END]


def groups_of_types(tokenizer: Tokenizer, model: LanguageModel) -> Tensor:
    """Return ``classes_of_types`` for ``Head.distribution`` of ``model``; types that only it has are ``WITHIN``."""
    classes = classes_of_types(tokenizer)
    beyond = np.zeros((model.embedding.num_embeddings - len(classes), classes.shape[1]), dtype=bool)
    beyond[:, :1] = True  # WITHIN, if there are classes
    dtype = torch.float64 if model.dtype == torch.float64 else torch.float32
    return torch.from_numpy(np.concatenate([classes, beyond])).to(model.device, dtype)


def places_of(part: Scored, column: int = 0) -> list[Place]:
    """Return the figures at each place of one stream of a window that was scored with ``groups_of_types``."""
    assert part.entropy is not None
    assert part.log_masses is not None
    found = (part.nats, part.entropy, part.log_masses)
    nats, entropies, log_masses = (values[:, column].double().cpu().numpy() for values in found)  # (T,), (T,), (T, G)
    ranks = [None] * len(nats) if part.ranks is None else part.ranks[:, column].tolist()
    if log_masses.shape[1] == 0:
        return [Place(n, e, rank=r) for n, e, r in zip(nats.tolist(), entropies.tolist(), ranks, strict=True)]
    over = -np.logaddexp(log_masses[:, BOUNDARY], log_masses[:, END])
    over[np.isinf(over)] = 0.0  # the tokenizer has no such type: nothing shows that a word is over
    columns = (nats, entropies, -log_masses[:, WITHIN], -log_masses[:, BOUNDARY], over)
    return list(map(Place, *(values.tolist() for values in columns), ranks))

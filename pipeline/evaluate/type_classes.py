"""Which types go on with a word, begin with white space, or are the end, and what a model says of these at a place.

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

# the classes of types: what goes on with a word, what begins with white space, and the end
WITHIN, BOUNDARY, END = range(3)


class Place(NamedTuple):
    """What a model says at one place of a text, in nats."""

    nats: float  # −ln p of the token that stands there
    entropy: float = math.nan  # of the distribution of that token
    within: float = math.nan  # −ln P(types that go on with a word)
    boundary: float = math.nan  # −ln P(types that begin with white space)
    over: float = math.nan  # −ln P(those and the end), with which a word is over
    rank: int | None = None  # of the token among all types, 1 for the likeliest


def classes_of_types(tokenizer: Tokenizer) -> Ids:
    """(V, 3) in which class each type is: ``WITHIN``, ``BOUNDARY`` or ``END``; (V, 0) where every token is a word."""
    if tokenizer.kind == "word":
        return np.zeros((tokenizer.vocab_size, 0), dtype=bool)
    classes = np.full(tokenizer.vocab_size, WITHIN)
    classes[[i for i in range(len(classes)) if tokenizer.decode_bytes(i)[:1].isspace()]] = BOUNDARY
    if tokenizer.eos_id is not None:
        classes[tokenizer.eos_id] = END
    return classes[:, None] == [WITHIN, BOUNDARY, END]


def groups_of_types(tokenizer: Tokenizer, model: LanguageModel) -> Tensor:
    """``classes_of_types`` as ``Head.distribution`` of ``model`` takes them; types that only it has are no boundary."""
    classes = classes_of_types(tokenizer)
    beyond = np.zeros((model.embedding.num_embeddings - len(classes), classes.shape[1]), dtype=bool)
    beyond[:, :1] = True  # WITHIN, where there are classes
    dtype = torch.float64 if model.dtype == torch.float64 else torch.float32
    return torch.from_numpy(np.concatenate([classes, beyond])).to(model.device, dtype)


def places_of(part: Scored, column: int = 0) -> list[Place]:
    """What the model says at each place of a stream of a window that was scored with ``groups_of_types``."""
    assert part.entropy is not None
    assert part.log_masses is not None
    found = (part.nats, part.entropy, part.log_masses)
    nats, entropies, log_masses = (values[:, column].double().cpu().numpy() for values in found)  # (T,), (T,), (T, G)
    ranks = [None] * len(nats) if part.ranks is None else part.ranks[:, column].tolist()
    if log_masses.shape[1] == 0:
        return [Place(n, e, rank=r) for n, e, r in zip(nats.tolist(), entropies.tolist(), ranks, strict=True)]
    over = -np.logaddexp(log_masses[:, BOUNDARY], log_masses[:, END])
    over[np.isinf(over)] = 0.0  # the tokenizer has no such type: a word is never seen to be over
    columns = (nats, entropies, -log_masses[:, WITHIN], -log_masses[:, BOUNDARY], over)
    return list(map(Place, *(values.tolist() for values in columns), ranks))
